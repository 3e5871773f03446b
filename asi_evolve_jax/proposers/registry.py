"""Proposers by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from asi_evolve_jax.llm import connect
from asi_evolve_jax.llm.port import Model
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.proposers.base import Proposer
from asi_evolve_jax.proposers.llm import LanguageModel
from asi_evolve_jax.proposers.replay import Replay
from asi_evolve_jax.proposers.symbolic import Symbolic
from asi_evolve_jax.proposers.team import LLM, Team
from asi_evolve_jax.proposers.uniform import Uniform
from asi_evolve_jax.settings import RunSettings, SettingsError

_PROPOSERS: dict[str, Callable[[], Proposer]] = {
  "symbolic": Symbolic,
  "random": Uniform,
}
_STAND_IN = "symbolic"


def make_proposer(name: str) -> Proposer:
  """Returns the proposer `name`, one that needs no model.

  Raises:
    SettingsError: if there is none.
  """
  if name not in _PROPOSERS:
    raise SettingsError(
      f"config.researcher.proposer is {name!r}; proposers here: "
      f"{', '.join(sorted([*_PROPOSERS, *connect.WITH_MODEL]))}."
    )
  return _PROPOSERS[name]()


def check(settings: RunSettings) -> None:
  """Checks config.researcher.proposer, config.llm and config.models.

  Raises:
    SettingsError: naming key and remedy.
  """
  if settings.researcher.proposer not in connect.WITH_MODEL:
    make_proposer(settings.researcher.proposer)
  connect.check(settings)
  prompting.check(settings.models.prompts)


def make_team(settings: RunSettings, model: Model | None) -> Team:
  """Returns who proposes in a run.

  Args:
    settings: of the run.
    model: None: there is none, and the symbolic proposer works alone.
  """
  if settings.llm.startswith(connect.REPLAY):
    return Team({"replay": Replay(settings.llm.removeprefix(connect.REPLAY))})
  name = settings.researcher.proposer
  if name not in connect.WITH_MODEL:
    return Team({name: make_proposer(name)})
  symbolic = make_proposer(_STAND_IN)
  if model is None:
    return Team({_STAND_IN: symbolic})
  writer = LanguageModel(model, settings.models)
  return Team(
    {LLM: writer} if name == LLM else {LLM: writer, _STAND_IN: symbolic},
    stand_in=_STAND_IN,
    stands=symbolic,
    exploration=settings.researcher.exploration,
  )


def announce(
  settings: RunSettings, environ: Mapping[str, str] = os.environ
) -> str:
  """Returns one line on what hangs on a model, or "": nothing does."""
  if settings.llm.startswith(connect.REPLAY):
    return f"proposals come from {settings.llm.removeprefix(connect.REPLAY)}"
  proposes = settings.researcher.proposer in connect.WITH_MODEL
  analyses = settings.analyzer.kind == connect.LLM or settings.judge.ratio > 0
  if not (proposes or analyses):
    return ""
  why = connect.unusable(settings, environ)
  if why:
    alone = ["proposer"] * proposes + ["Analyzer"] * analyses
    works = "work" if len(alone) > 1 else "works"
    return (
      f"no language model ({why}): the symbolic {' and '.join(alone)} "
      f"{works} alone"
    )
  names = ", ".join(settings.models.names)
  return f"language model: {names} through {settings.llm}"
