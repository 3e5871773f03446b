"""Budgets: what a run may cost, what it has cost and what it is about to.

Everything is derived from the records, so it holds over all sessions and any
number of machines. A Task begins, and a round is proposed, only if what it is
expected to cost fits beside what is open already and verify's share; expected
is the mean that its rung has measured so far, and for a rung that has measured
nothing, that of the rung below times how much more work the track says that
this one is (`task_cost`). Before anything was measured nothing can be foretold:
the first Tasks of a run begin in any case. Verify runs whole, on the share that
the search left it: it gets fewer finalists where that share is too small, and
once it is asked for nothing ends it, as part of a comparison would be worth
nothing.

Tokens and money end no search: they bound what is asked of models, call by call
(llm/client.py), and who needs no model stands in for whoever may not ask.
"""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Mapping

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import UNSEEN, Task
from asi_evolve_jax.records.spending import TASK_COSTS
from asi_evolve_jax.settings import BudgetSettings, RungSettings, RunSettings

NAMES = tuple(field.name for field in dataclasses.fields(BudgetSettings))
ROUNDS = "rounds"  # not a cost, but steered as one
CALLS = ("tokens", "money")  # what Calls take
UNITS = {"wall_s": "s", "device_s": "s", "flops": "", "tokens": "", "money": ""}

# Work of rungs of which nobody says that they differ.
EQUAL: Mapping[str, float] = types.MappingProxyType({})
# What the search leaves verify, in its expected costs: Tasks that cost a little
# more than was expected must not cost it a finalist.
_RESERVE = 1.1

Costs = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Line:
  """One budget, in its own unit.

  Attributes:
    name: of the budget.
    limit: what may be spent; 0: no limit.
    spent: so far.
    open: expected of the Tasks that are asked for.
    round: expected of one more round.
    verify: reserved for the last phase.
  """

  name: str
  limit: float
  spent: float
  open: float
  round: float
  verify: float

  @property
  def forecast(self) -> float:
    """What will have been spent if nothing more is proposed."""
    return self.spent + self.open + self.verify

  def text(self) -> str:
    """Returns e.g. "device_s 312 of 1000 s (forecast 450, verify 90)"."""
    unit = UNITS[self.name]
    of = f" of {self.limit:.4g}" if self.limit else ""
    return (
      f"{self.name} {self.spent:.4g}{of} {unit}".rstrip()
      + f" (forecast {self.forecast:.4g}, verify {self.verify:.4g})"
    )


def rounds(view: View, settings: RunSettings) -> int:
  """Returns how many rounds the search has, a person's word included."""
  return int(view.steering.budget.get(ROUNDS, settings.rounds))


def limits(view: View, settings: RunSettings) -> Costs:
  """Returns the limits in force, by name."""
  found = {
    name: view.steering.budget.get(name, getattr(settings.budget, name))
    for name in NAMES
  }
  return {name: value for name, value in found.items() if value}


class Budget:
  """The budgets of a run as its records stand.

  Args:
    view: of the run.
    settings: of the run.
    now: unix time, for the wall clock; None: the time of the last record.
    work: rung -> work of one seed, in any unit (tracks.base.rung_work).
  """

  def __init__(
    self,
    view: View,
    settings: RunSettings,
    now: float | None = None,
    work: Mapping[str, float] = EQUAL,
  ):
    self._view = view
    self._settings = settings
    self._now = now
    self._work = work
    self._workers = settings.workers.count or os.cpu_count() or 1
    self._limits = limits(view, settings)
    self._ending = [name for name in self._limits if name not in CALLS]
    rungs = [*settings.ladder, settings.verify.rung]
    self._rungs = [rung for rung in rungs if rung is not None]

  def task_cost(self, rung: str, seeds: int) -> Costs:
    """Returns what a Task is expected to cost: device_s, flops, wall_s."""
    names = [r.name for r in self._rungs]
    place = names.index(rung) if rung in names else -1
    for down, below in enumerate(reversed(names[: place + 1])):
      known = self._view.spending.seed_cost(below)
      if known is not None:
        times = self._work.get(rung, 1.0) / self._work.get(below, 1.0)
        # Two rungs down most of the time may be tracing and compiling: to
        # multiply that would end the search before it had begun. Baselines go
        # first, so the rung directly below has soon measured something.
        times = seeds * (times if down < 2 else 1.0)
        return {name: value * times for name, value in known.items()}
    return dict.fromkeys(TASK_COSTS, 0.0)

  def lines(self) -> list[Line]:
    """Returns the budgets that have a limit, or something spent."""
    spent, verify, rnd = self._spent(), self._verify(), self._round()
    over = "search-ended" in self._view.milestones
    waiting = self._sum(
      [t for t in self._view.pending() if not over or t.purpose in UNSEEN]
    )
    return [
      Line(
        name=name,
        limit=self._limits.get(name, 0.0),
        spent=spent[name],
        open=self._as_wall(waiting)[name],
        round=self._as_wall(rnd)[name],
        verify=verify[name],
      )
      for name in NAMES
      if name in self._limits or spent[name]
    ]

  def affordable(self) -> set[str] | None:
    """Returns ids of the pending Tasks that may begin; None: all may.

    In the order of the queue, each beside those before it, begun or not: so
    any number of Engineers come to the same answer.
    """
    if not self._ending:
      return None
    room = self._room()
    taken = self._sum(())
    found = set()
    for task in self._view.pending():
      if task.purpose in UNSEEN:
        found.add(task.id)
        continue
      cost = self.task_cost(task.rung, len(task.seeds))
      after = {name: taken[name] + cost[name] for name in taken}
      # Those before it share the workers; its own time is its own.
      wall = taken["wall_s"] / self._workers + cost["wall_s"]
      if self._fits({**after, "wall_s": wall}, room):
        taken = after
        found.add(task.id)
    return found

  def rounds_left(self, wanted: int) -> int:
    """Returns how many of `wanted` more rounds may be proposed, by whomever."""
    if not self._ending:
      return wanted
    room = self._room()
    taken, one = self._sum(self._view.pending()), self._round()
    for count in range(wanted):
      taken = {name: taken.get(name, 0.0) + one[name] for name in one}
      if not self._fits(self._as_wall(taken), room):
        return count
    return wanted

  def exhausted(self) -> str:
    """Returns why nothing more may begin, or "": something may.

    What runs already may go on; ask when nothing does.
    """
    if not self._ending or self.affordable():
      return ""
    if not self._view.pending() and self.rounds_left(1):
      return ""
    return self.spent_up()

  def finalists(self, wanted: int) -> int:
    """Returns how many of `wanted` verify can afford, baselines beside them.

    The wall clock is read at the end of the search: what a person takes to
    approve verify is not held against it.
    """
    counts = range(wanted, 0, -1)
    return next((count for count in counts if not self._short(count)), 0)

  def no_verify(self) -> str:
    """Returns why not even one finalist can be verified, in words."""
    short = ", ".join(
      f"{name} {cost:.4g} where {max(0.0, left):.4g} is left"
      for name, (cost, left) in self._short(1).items()
    )
    return (
      "no budget for verify: one finalist beside the baselines would take "
      f"{short}; launch.verify asks for it all the same"
    )

  def spent_up(self) -> str:
    """Returns the budget that has least left, in words.

    Of those that can end a search, of which there must be one.
    """
    room, verify, spent = self._room(), self._verify(), self._spent()
    name = min(self._ending, key=lambda n: room[n] / self._limits[n])
    limit = self._limits[name]
    return (
      f"budget: {name} {spent[name]:.4g} of {limit:.4g} spent, "
      f"{verify[name]:.4g} kept for verify, "
      f"{max(room[name], 0.0):.4g} left is less than what would come next"
    )

  def left(self, *names: str) -> Costs:
    """Returns what may still be spent of those budgets that have a limit."""
    room = self._room()
    return {name: room[name] for name in names if name in room}

  def out_of_time(self) -> bool:
    """Whether the search must stop at once, for verify to have its time."""
    return self._room().get("wall_s", 1.0) <= 0

  def _spent(self) -> Costs:
    total = self._view.spending.total
    wall_s = self._view.elapsed(self._now, until="finished")
    return {**total, "wall_s": wall_s}

  def _room(self) -> Costs:
    spent, verify = self._spent(), self._verify()
    return {
      name: limit - spent[name] - _RESERVE * verify[name]
      for name, limit in self._limits.items()
    }

  def _short(self, finalists: int) -> dict[str, tuple[float, float]]:
    """Returns (cost, left) of the budgets that verify would overrun."""
    spent = {**self._spent(), "wall_s": self._view.elapsed(self._now)}
    costs = self._verify(finalists)
    # What verify adds nothing to does not stop it.
    return {
      name: (costs[name], limit - spent[name])
      for name, limit in self._limits.items()
      if costs[name] and spent[name] + costs[name] > limit
    }

  def _fits(self, cost: Costs, room: Costs) -> bool:
    return all(cost.get(name, 0.0) <= room[name] for name in self._ending)

  def _sum(self, tasks: list[Task] | tuple[()]) -> Costs:
    total = dict.fromkeys(TASK_COSTS, 0.0)
    for task in tasks:
      cost = self.task_cost(task.rung, len(task.seeds))
      for name in total:
        total[name] += cost[name]
    return total

  def _as_wall(self, cost: Costs) -> Costs:
    """Returns `cost` with wall_s as it passes while all workers work."""
    filled = dict.fromkeys(NAMES, 0.0) | cost
    return {**filled, "wall_s": filled["wall_s"] / self._workers}

  def _round(self) -> Costs:
    """One more round: its Tasks up the ladder, and the calls of its roles."""
    total = dict.fromkeys(NAMES, 0.0)
    share = 1.0
    for rung in self._settings.ladder:
      for name, value in self._whole(rung).items():
        total[name] += share * value
      share *= rung.promote
    proposed = max(1, self._view.proposed())
    for name in CALLS:
      total[name] = self._view.spending.total[name] / proposed
    return total

  def _verify(self, finalists: int | None = None) -> Costs:
    """What the last phase is to cost; nothing once its Tasks are asked for."""
    verify = self._settings.verify
    total = dict.fromkeys(NAMES, 0.0)
    if verify.rung is None or not verify.finalists:
      return total
    if "verify-asked" in self._view.milestones:
      return total
    if finalists is None:
      finalists = verify.finalists
    baselines = len(verify.references)
    if verify.baselines == "all":
      baselines = max(baselines, len(self._view.baselines))
    tasks = finalists + baselines
    one = self._whole(verify.rung)
    for name, value in one.items():
      total[name] = value * tasks
    # Whole Tasks share the workers: the last ones do not fill them.
    total["wall_s"] = one["wall_s"] * -(-tasks // self._workers)
    return total

  def _whole(self, rung: RungSettings) -> Costs:
    return self.task_cost(rung.name, len(rung.seeds))
