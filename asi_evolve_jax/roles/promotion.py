"""Which Tasks follow from a Result: the ladder, applied to the records."""

from __future__ import annotations

import math

from asi_evolve_jax.evaluation.ladder import Standing
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, SEARCH, Result, Task
from asi_evolve_jax.settings import RungSettings, RunSettings, plain
from asi_evolve_jax.tracks.base import MINIMIZE, Track

# A promoted Program goes ahead of new ones: what it has cost already is spent.
PROMOTED_PRIORITY = 10


class Promotions:
  """Asks for the next rung as Results come in, whoever measured them.

  Built anew from the same Results in the same order, it comes to the same
  Tasks; those that the View has are not asked for again. A promotion to a rung
  that costs more than `approve_above` waits until a person approves it, one of
  a vetoed Program until the veto is withdrawn. Baselines need no approval.
  """

  def __init__(self, settings: RunSettings, track: Track, view: View):
    self._metric = track.metric
    self._view = view
    self._limits = {k: v for k, v in plain(settings.approve_above).items() if v}
    minimize = track.metric.direction == MINIMIZE
    self._rungs = {
      lower.name: (place, upper, Standing(lower.promote, minimize))
      for place, (lower, upper) in enumerate(
        zip(settings.ladder, settings.ladder[1:], strict=False), start=1
      )
    }
    self._due: dict[str, Task] = {}  # by Task id; not asked for yet

  def after(self, result: Result) -> list[Task]:
    """Returns the Tasks that `result` gives rise to; it may be in the View.

    Its own Program, one that the larger number of places lets in, or one that
    waited. None once the search has ended, and none from failures.
    """
    entry = self._rungs.get(result.rung)
    if entry is not None and result.status == OK and result.purpose == SEARCH:
      self._promote(result, *entry)
    return self.released()

  def released(self) -> list[Task]:
    """Returns the promotions that wait no longer, each once."""
    if "search-ended" in self._view.milestones:
      return []
    found = []
    for task in list(self._due.values()):
      if task.id in self._view.tasks:
        del self._due[task.id]
      elif self._may_climb(task):
        found.append(self._due.pop(task.id))
    return found

  def waiting(self) -> list[tuple[Task, dict[str, float] | None]]:
    """Returns what waits for approval, with the expected cost of the Task.

    The cost (device_s, flops) is None while its rung has measured nothing.
    Nothing waits once the search has ended.
    """
    if "search-ended" in self._view.milestones:
      return []
    return [
      (task, self._cost(task))
      for task in self._due.values()
      if task.program not in self._view.vetoed
      and task.id not in self._view.tasks
      and not self._may_climb(task)
    ]

  def _promote(
    self, result: Result, place: int, rung: RungSettings, standing: Standing
  ) -> None:
    name = self._metric.name
    values = [m[name] for m in result.metrics if name in m]
    if not values:
      return
    for program in standing.add(
      result.program,
      math.fsum(values) / len(values),
      always=result.program in self._view.baselines,
    ):
      priority = PROMOTED_PRIORITY * place
      before = self._view.tasks.get(result.task)
      if program in self._view.baselines and before is not None:
        # Baselines stay ahead of all candidates.
        priority = max(priority, before.priority)
      task = Task(
        program=program,
        rung=rung.name,
        seeds=rung.seeds,
        priority=priority,
        requested_by="ladder",
      )
      self._due[task.id] = task

  def _may_climb(self, task: Task) -> bool:
    if task.program in self._view.vetoed:
      return False
    if not self._limits or task.program in self._view.baselines:
      return True
    if (task.program, task.rung) in self._view.steering.approved:
      return True
    cost = self._cost(task)
    return cost is not None and all(
      cost[name] <= limit for name, limit in self._limits.items()
    )

  def _cost(self, task: Task) -> dict[str, float] | None:
    each = self._view.spending.seed_cost(task.rung)
    if each is None:
      return None
    return {name: value * len(task.seeds) for name, value in each.items()}
