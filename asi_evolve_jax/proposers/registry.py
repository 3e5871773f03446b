"""Proposers by name."""

from __future__ import annotations

from collections.abc import Callable

from asi_evolve_jax.proposers.base import Proposer
from asi_evolve_jax.proposers.symbolic import Symbolic
from asi_evolve_jax.proposers.uniform import Uniform
from asi_evolve_jax.settings import SettingsError

_PROPOSERS: dict[str, Callable[[], Proposer]] = {
  "symbolic": Symbolic,
  "random": Uniform,
}


def make_proposer(name: str) -> Proposer:
  """Returns the proposer `name`.

  Raises:
    SettingsError: if there is none.
  """
  if name not in _PROPOSERS:
    raise SettingsError(
      f"config.researcher.proposer is {name!r}; proposers here: "
      f"{', '.join(sorted(_PROPOSERS))}."
    )
  return _PROPOSERS[name]()
