"""Where a Task's training may stop early: the reference's own curve."""

from __future__ import annotations

from typing import Any

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, SEARCH, Task
from asi_evolve_jax.records.views import BASELINE
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
  proposal = view.proposal_of.get(task.program)
  if not stop.reference or task.purpose != SEARCH or proposal is None:
    return {}
  if proposal.author == BASELINE:
    return {}
  for program, known in view.proposal_of.items():
    if known.author != BASELINE or known.name != stop.reference:
      continue
    for result in view.results_of.get(program, ()):
      if (result.rung, result.purpose, result.status) != (
        rung.name,
        SEARCH,
        OK,
      ) or "dev" not in result.report.get("curves", ()):
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
