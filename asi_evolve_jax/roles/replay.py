"""Replaying a Claim: its measurements once more, compared bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np

from asi_evolve_jax.evaluation.judging import estimate
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, REPEAT, Claim, Result, Task
from asi_evolve_jax.tracks.base import Metric, Track

_PRIORITY = 300


@dataclasses.dataclass(frozen=True)
class Replay:
  """How the measurements of a Claim and their repeats compare.

  Attributes:
    compared: figures that were compared: metrics by seed, entries of curves.
    differences: what is not equal, one line each.
    machines: what differs between the kinds of machine; empty: nothing.
    effect: mean gain of the repeats; None where it cannot be had.
  """

  compared: int
  differences: tuple[str, ...]
  machines: tuple[str, ...]
  effect: float | None

  @property
  def identical(self) -> bool:
    """Whether every bit is the same."""
    return bool(self.compared) and not self.differences

  def lines(self) -> list[str]:
    """Returns what to tell a person."""
    if self.identical:
      said = [f"Identical bit for bit: {self.compared} figures."]
    else:
      said = [f"Not identical, of {self.compared} figures:"]
      said += [f"  {line}" for line in self.differences]
      said += [
        "The kinds of machine differ, so bits may:"
        if self.machines
        else "The kind of machine is the same: this should not be "
        "(docs/claims.md)."
      ]
    said += [f"  {line}" for line in self.machines]
    if self.effect is not None:
      said.append(f"Gain of the repeats: {self.effect:+.6g}.")
    return said


def evidence(view: View, claim: Claim) -> list[Result]:
  """Returns the ok Results that a Claim rests on, the Program's first."""
  tasks = dict.fromkeys((*claim.results, *claim.baseline_results))
  found = [view.results[task] for task in tasks if task in view.results]
  return [result for result in found if result.status == OK]


def repeats(view: View, claim: Claim) -> list[Task]:
  """Returns a Task for each Result of `evidence`, in its order.

  One that was asked for and is not measured yet is taken up again.
  """
  tasks = []
  for original in evidence(view, claim):
    attempt = 0
    while True:
      task = Task(
        program=original.program,
        rung=original.rung,
        seeds=original.seeds,
        purpose=REPEAT,
        attempt=attempt,
        priority=_PRIORITY,
        requested_by=f"replay of {claim.id}",
      )
      if task.id not in view.results:
        break
      attempt += 1
    tasks.append(task)
  return tasks


def outcome(view: View, task: Task) -> Result | None:
  """Returns the Result of a repeat, of a later attempt if one was lost."""
  return view.results.get(view.last_attempt(task).id)


def compare(
  view: View,
  records: Records,
  claim: Claim,
  tasks: list[Task],
  track: Track,
) -> Replay:
  """Compares the evidence of `claim` with its repeats.

  Args:
    view: with the Results of `tasks`.
    records: for the curves.
    claim: what is repeated.
    tasks: from `repeats`, all measured.
    track: of the run; its metrics that hang on a clock are not compared.
  """
  metric = track.final_metric
  timed = {m.name for m in track.metrics() if m.timed}
  compared = 0
  differences: list[str] = []
  machines: dict[str, None] = {}
  values: dict[str, dict[int, float]] = {}
  for original, task in zip(evidence(view, claim), tasks, strict=True):
    name = view.name_of(original.program)
    repeat = outcome(view, task)
    if repeat is None or repeat.status != OK:
      how = "missing" if repeat is None else f"{repeat.status}: {repeat.error}"
      differences.append(f"{name}: the repeat is {how}")
      continue
    if original.artifact != repeat.artifact:
      differences.append(
        f"{name}: its source traces to {repeat.artifact[:12]}, then "
        f"{original.artifact[:12]}"
      )
    machines |= dict.fromkeys(_parts(original.machine, repeat.machine))
    for seed, old, new in zip(
      original.seeds, original.metrics, repeat.metrics, strict=True
    ):
      found = _unequal(old, new, timed)
      compared += len(old.keys() - timed)
      differences += [f"{name}, seed {seed}: {line}" for line in found]
      if metric.name in new:
        values.setdefault(original.task, {})[seed] = new[metric.name]
    count, found = _curves(records, original, repeat)
    compared += count
    differences += [f"{name}: {line}" for line in found]
  return Replay(
    compared,
    tuple(differences),
    tuple(machines),
    _effect(claim, values, metric),
  )


def _unequal(
  old: dict[str, float], new: dict[str, float], timed: set[str]
) -> list[str]:
  # JSON keeps every bit of a float64.
  return [
    f"{name} {old.get(name)} then, {new.get(name)} now"
    for name in sorted((old.keys() | new.keys()) - timed)
    if old.get(name) != new.get(name)
  ]


def _curves(
  records: Records, original: Result, repeat: Result
) -> tuple[int, list[str]]:
  count, lines = 0, []
  names = original.report.get("curves", ()) if original.curves else ()
  for name in names:
    old = records.get_array(f"{original.curves}/{name}")
    new = records.get_array(f"{repeat.curves}/{name}")
    if old is None:
      continue
    count += old.size
    if new is None or old.shape != new.shape:
      lines.append(f"curve {name} has another shape")
    elif old.tobytes() != new.tobytes():
      most = float(np.max(np.abs(old.astype(float) - new.astype(float))))
      lines.append(f"curve {name} differs by up to {most:.3g}")
  return count, lines


def _parts(old: str, new: str) -> list[str]:
  if not old:
    return ["the machine of the original is not recorded"]
  before, after = old.split("; "), new.split("; ")
  gone = [part for part in before if part not in after]
  came = [part for part in after if part not in before]
  if not gone and not came:
    return []
  return [f"{', '.join(gone) or '-'} then, {', '.join(came) or '-'} now"]


def _effect(
  claim: Claim, values: dict[str, dict[int, float]], metric: Metric
) -> float | None:
  def side(tasks: tuple[str, ...]) -> dict[int, float]:
    return {s: v for task in tasks for s, v in values.get(task, {}).items()}

  mine, theirs = side(claim.results), side(claim.baseline_results)
  gains = [
    metric.gain(mine[a], theirs[b])
    for a, b in zip(claim.seeds, claim.baseline_seeds, strict=True)
    if a in mine and b in theirs
  ]
  return estimate(gains).effect
