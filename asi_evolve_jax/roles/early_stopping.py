"""Where a Task's training may stop early: the reference's own curve."""

from __future__ import annotations

from typing import Any

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, SEARCH, Task
from asi_evolve_jax.settings import RungSettings


def options(
  view: View, records: Records, rung: RungSettings, task: Task
) -> dict[str, Any]:
  """Returns {"stop": ...} for the stages of `task`, or {}.

  Nothing stops a baseline, nor a Task that is not of the search: those are
  what others are compared with. Before the reference's Result there is no
  curve, and nobody stops.

  Args:
    view: of the run.
    records: for the curve "dev" [seeds, points, 2] of (steps done, score).
    rung: of the Task; its `stop`.
    task: whose stages are to run.
  """
  stop = rung.stop
  if not stop.reference or task.purpose != SEARCH:
    return {}
  if task.program in view.baselines or task.program not in view.proposal_of:
    return {}
  reference = view.baseline(stop.reference)
  for result in view.results_of.get(reference or "", ()):
    measured = (result.rung, result.purpose, result.status)
    if measured != (rung.name, SEARCH, OK):
      continue
    if "dev" not in result.report.get("curves", ()):
      continue
    curve = records.get_array(f"{result.curves}/dev")
    if curve is None or curve.ndim != 3:
      continue
    steps = [int(s) for s in curve[0, :, 0]]
    return {
      "stop": {
        "reference": stop.reference,
        "steps": steps,
        "scores": [float(s) for s in curve[:, :, 1].mean(axis=0)],
        "margin": stop.margin,
        "after": int(stop.after * steps[-1]),
      }
    }
  return {}
