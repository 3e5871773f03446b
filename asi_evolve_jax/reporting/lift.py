"""What each cognition item was worth: its measured lift in one run."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from asi_evolve_jax.evaluation.statistics import mean_difference
from asi_evolve_jax.records import View
from asi_evolve_jax.tracks.base import Metric


@dataclasses.dataclass(frozen=True)
class Lift:
  """Whether Proposals that used an item did better than the others.

  The gain of a Proposal is its score less that of the parent it edits, in the
  direction of the metric, at the lowest rung where both have one. Items are
  not drawn at random: the lift says what went together, not what caused it.

  Attributes:
    item: id of the item, or slug of the Insight (all its versions).
    used, others: Proposals with a gain that used it, and that did not.
    failed: Proposals that used it and have no score although they ended.
    gain, low, high: mean gain of those that used it less that of the others,
      with its 95 % Welch interval; None with fewer than two on either side.
  """

  item: str
  used: int
  others: int
  failed: int
  gain: float | None
  low: float | None
  high: float | None


def lifts(view: View, metric: Metric, rungs: Sequence[str]) -> list[Lift]:
  """Returns a Lift for every item that a Proposal of the run used.

  Args:
    view: of the run's records.
    metric: the score of the search.
    rungs: names, lowest first.
  """
  gains: dict[str, float] = {}
  failed: set[str] = set()
  users: dict[str, set[str]] = collections.defaultdict(set)
  for program, proposal in view.proposal_of.items():
    if not proposal.parents:
      continue
    for item in proposal.knowledge:
      users[_name(item)].add(program)
    gain = _gain(view, metric, rungs, program, proposal.parents[0])
    if gain is not None:
      gains[program] = gain
    elif view.results_of.get(program):
      failed.add(program)
  return [
    _lift(item, programs, gains, failed)
    for item, programs in sorted(users.items())
  ]


def _lift(
  item: str, programs: set[str], gains: dict[str, float], failed: set[str]
) -> Lift:
  used = [gain for program, gain in gains.items() if program in programs]
  others = [gain for program, gain in gains.items() if program not in programs]
  known = min(len(used), len(others)) > 1
  interval = mean_difference(used, others) if known else (None, None, None)
  gain, low, high = interval
  return Lift(
    item=item,
    used=len(used),
    others=len(others),
    failed=len(programs & failed),
    gain=gain,
    low=low,
    high=high,
  )


def _gain(
  view: View, metric: Metric, rungs: Sequence[str], program: str, parent: str
) -> float | None:
  for rung in rungs:
    own, before = view.score(program, rung), view.score(parent, rung)
    if own is not None and before is not None:
      return metric.gain(own, before)
  return None


def _name(knowledge: str) -> str:
  """Returns the item's id; the versions of an Insight are one."""
  slug, dot, version = knowledge.rpartition(".")
  return slug if dot and version.isdigit() else knowledge
