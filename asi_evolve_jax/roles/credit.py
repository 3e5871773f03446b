"""What each author's Proposals have brought: what bandits choose by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from asi_evolve_jax.llm.port import Credit
from asi_evolve_jax.proposers.llm import author_of
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Proposal
from asi_evolve_jax.records.views import is_round
from asi_evolve_jax.settings import RungSettings
from asi_evolve_jax.tracks.base import Metric


def credits(
  view: View, ladder: Sequence[RungSettings], metric: Metric
) -> dict[str, Credit]:
  """Returns author -> credit, over all rounds so far.

  The improvement of a Proposal is how much its Program is better than its
  first parent at the highest rung that has measured both, 0 if it is not;
  without a parent, than the best baseline. What failed, was rejected or is
  still being measured has improved nothing, and counts as a Proposal. So does
  a turn of a model that gave nothing, whose Proposal another one wrote: what
  asking has cost is the model's.
  """
  rungs = [rung.name for rung in reversed(ladder)]
  found: dict[str, Credit] = {}
  for proposal in view.proposals.values():
    if not is_round(proposal):
      continue
    money = proposal.cost.get("money", 0.0)
    missed = proposal.choice.get("instead_of")
    if missed:  # it was asked first, and had nothing to propose
      missed = author_of(proposal.choice) or missed
      asked = found.get(missed, Credit())
      found[missed] = dataclasses.replace(
        asked, proposals=asked.proposals + 1, money=asked.money + money
      )
      money = 0.0  # who stands in costs nothing
    before = found.get(proposal.author, Credit())
    found[proposal.author] = Credit(
      proposals=before.proposals + 1,
      improvement=before.improvement
      + _improvement(view, rungs, metric, proposal),
      money=before.money + money,
    )
  return found


def _improvement(
  view: View, rungs: Sequence[str], metric: Metric, proposal: Proposal
) -> float:
  for rung in rungs:
    mine = view.score(proposal.program, rung)
    if mine is None:
      continue
    others = proposal.parents[:1] or tuple(view.baselines)
    scores = [view.score(program, rung) for program in others]
    gains = [metric.gain(mine, score) for score in scores if score is not None]
    if gains:
      return max(0.0, min(gains))
  return 0.0
