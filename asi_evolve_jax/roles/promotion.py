"""Which Tasks follow from a Result: the ladder, applied to the records."""

from __future__ import annotations

import math

from asi_evolve_jax.evaluation.ladder import Standing
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, SEARCH, Result, Task
from asi_evolve_jax.records.views import BASELINE
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import MINIMIZE, Track

# A promoted Program goes ahead of new ones: what it has cost already is spent.
PROMOTED_PRIORITY = 10


class Promotions:
  """Asks for the next rung as Results come in, whoever measured them.

  Built anew from the same Results in the same order, it comes to the same
  Tasks; those that the View has are not asked for again.
  """

  def __init__(self, settings: RunSettings, track: Track, view: View):
    self._metric = track.metric
    self._view = view
    minimize = track.metric.direction == MINIMIZE
    self._rungs = {
      lower.name: (place, upper, Standing(lower.promote, minimize))
      for place, (lower, upper) in enumerate(
        zip(settings.ladder, settings.ladder[1:], strict=False), start=1
      )
    }

  def after(self, result: Result) -> list[Task]:
    """Returns the Tasks that `result` gives rise to; it may be in the View.

    Its own Program, or one that the larger number of places lets in. None
    once the search has ended, and none from failures.
    """
    entry = self._rungs.get(result.rung)
    if entry is None or result.status != OK or result.purpose != SEARCH:
      return []
    place, rung, standing = entry
    name = self._metric.name
    values = [m[name] for m in result.metrics if name in m]
    if not values:
      return []
    promoted = standing.add(
      result.program,
      math.fsum(values) / len(values),
      always=self._is_baseline(result.program),
    )
    if "search-ended" in self._view.milestones:
      return []
    tasks = []
    for program in promoted:
      priority = PROMOTED_PRIORITY * place
      before = self._view.tasks.get(result.task)
      if self._is_baseline(program) and before is not None:
        # Baselines stay ahead of all candidates.
        priority = max(priority, before.priority)
      task = Task(
        program=program,
        rung=rung.name,
        seeds=rung.seeds,
        priority=priority,
        requested_by="ladder",
      )
      if task.id not in self._view.tasks:
        tasks.append(task)
    return tasks

  def _is_baseline(self, program: str) -> bool:
    proposal = self._view.proposal_of.get(program)
    return proposal is not None and proposal.author == BASELINE
