"""When a search ends: pure functions of a View."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from asi_evolve_jax.evaluation.budget import EQUAL, Budget, rounds
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import UNSEEN
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Metric


def end_reason(
  view: View,
  settings: RunSettings,
  metric: Metric,
  now: float,
  *,
  work: Mapping[str, float] = EQUAL,
  running: bool = False,
  waiting: bool = False,
) -> str | None:
  """Returns why the search is over, or None.

  Args:
    view: of all records so far.
    settings: of the run.
    metric: the search's metric.
    now: unix time.
    work: of the rungs, as evaluation.budget.Budget takes it.
    running: whether somebody is at work on a Task.
    waiting: whether a promotion waits for a person's approval.
  """
  stop = view.steering.stopped
  if stop is not None:
    why = stop.arguments.get("reason")
    return f"stopped by {stop.by}" + (f": {why}" if why else "")
  last = settings.ladder[-1].name
  best = view.best(last)
  if settings.target_score is not None and best is not None:
    score = view.score(best, last)
    if score is not None and not metric.better(settings.target_score, score):
      return f"target: {score:.6g} reaches {settings.target_score:.6g}"
  if settings.patience and best is not None:
    waited = rounds_since(view, best)
    if waited >= settings.patience:
      return f"patience: no new best in {waited} rounds"
  first = settings.ladder[0].name
  if view.results and not view.pending() and not view.ranked(first, 1):
    return f"nothing to build on: no baseline has a score at {first}"
  budget = Budget(view, settings, now, work)
  if budget.out_of_time():
    return budget.spent_up()
  wanted = rounds(view, settings)
  searching = any(t.purpose not in UNSEEN for t in view.pending())
  if view.rounds() >= wanted and view.results and not searching:
    if waiting:
      return None
    # A repair to come keeps the search going, while there is a budget for it.
    if not (settings.researcher.repair and view.unrepaired()):
      return f"rounds: {view.rounds()} of {wanted}"
  if running or view.steering.paused:
    return None
  return budget.exhausted() or None


def rounds_since(view: View, program: str) -> int:
  """Returns how many later rounds have finished since `program`'s round."""
  return max(0, view.rounds() - view.proposal_of[program].round)


@dataclasses.dataclass(frozen=True)
class Counts:
  """How many first-rung Tasks ended how."""

  ok: int = 0
  rejected: int = 0
  stopped: int = 0
  failed: int = 0
  timeout: int = 0
  lost: int = 0


def counts(view: View, rung: str) -> Counts:
  """Counts the Results of candidates (no baselines) at `rung` by status."""
  tally = dict.fromkeys((f.name for f in dataclasses.fields(Counts)), 0)
  for result in view.results.values():
    known = result.program in view.proposal_of
    if result.rung == rung and known and result.program not in view.baselines:
      tally[result.status] += 1
  return Counts(**tally)
