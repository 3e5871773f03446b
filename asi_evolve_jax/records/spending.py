"""What a run has cost so far, tallied from Results and Calls as they come."""

from __future__ import annotations

import dataclasses

from asi_evolve_jax.records.schema import OK, Call, Result

# Costs of one Task that have a mean a rung.
TASK_COSTS = ("device_s", "flops", "wall_s")


def costs(result: Result) -> dict[str, float]:
  """Returns what a Result cost: core_s, device_s, flops, wall_s.

  core_s [core-seconds] is CPU time, which others on the machine change little:
  by it reports compare. A worker holds its device for as long as it runs, and
  more than one core where it uses more CPU time than that: device_s [core- or
  device-seconds], which budgets limit, is the larger of its wall and CPU time.
  """
  cost = result.cost
  wall, core = cost.get("wall_seconds", 0.0), cost.get("cpu_seconds", 0.0)
  return {
    "core_s": core,
    "device_s": max(wall, core),
    "flops": cost.get("flops", 0.0),
    "wall_s": wall,
  }


@dataclasses.dataclass
class _Tally:
  seeds: int = 0
  sums: dict[str, float] = dataclasses.field(default_factory=dict)

  def add(self, seeds: int, spent: dict[str, float]) -> None:
    self.seeds += seeds
    for name, value in spent.items():
      self.sums[name] = self.sums.get(name, 0.0) + value


class Spending:
  """Sums over all Results and Calls, and means a rung.

  Attributes:
    total: core_s, device_s, flops, tokens, money.
  """

  def __init__(self) -> None:
    names = ("core_s", "device_s", "flops", "tokens", "money")
    self.total: dict[str, float] = dict.fromkeys(names, 0.0)
    self._measured: dict[str, _Tally] = {}
    self._ended: dict[str, _Tally] = {}

  def add_result(self, result: Result) -> None:
    """Takes in a Result, once."""
    spent = costs(result)
    for name in ("core_s", "device_s", "flops"):
      self.total[name] += spent[name]
    if result.copied_from or not result.cost:
      return  # what a copy costs says nothing of measuring
    tallies = [self._ended]
    if result.status == OK:
      tallies.append(self._measured)
    for tally in tallies:
      entry = tally.setdefault(result.rung, _Tally())
      entry.add(len(result.seeds), spent)

  def add_call(self, call: Call) -> None:
    """Takes in a Call, once."""
    for name in ("tokens", "money"):
      self.total[name] += call.usage.get(name, 0.0)

  def seed_cost(self, rung: str) -> dict[str, float] | None:
    """Returns the mean cost of one seed at `rung`; None: nothing ended there.

    The mean over what was measured, or while nothing was, over what failed.
    """
    tally = self._measured.get(rung) or self._ended.get(rung)
    if tally is None or not tally.seeds:
      return None
    return {name: tally.sums[name] / tally.seeds for name in TASK_COSTS}
