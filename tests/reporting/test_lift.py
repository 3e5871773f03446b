"""The lift of an item: who used it, and what they gained over their parent."""

import pytest

from asi_evolve_jax.evaluation.statistics import mean_difference
from asi_evolve_jax.records import View, schema
from asi_evolve_jax.reporting.lift import lifts
from asi_evolve_jax.tracks.base import MINIMIZE, Metric

METRIC = Metric("loss", MINIMIZE)


def run(scores, proposals):
  """Returns the View of a run.

  Args:
    scores: rung to Program to its loss; None is a failure.
    proposals: (Program, its parent or "", knowledge).
  """
  view = View(METRIC.name, METRIC.direction)
  for number, (program, parent, knowledge) in enumerate(proposals):
    view.update(
      [
        schema.Proposal(
          program=program,
          track="toy",
          name=program,
          author="symbolic",
          round=number,
          operator="mutate" if parent else "baseline",
          motivation="try it",
          parents=(parent,) if parent else (),
          knowledge=knowledge,
        )
      ]
    )
  for rung, by_program in scores.items():
    for program, score in by_program.items():
      task = schema.Task(program=program, rung=rung, seeds=(0,))
      failed = score is None
      result = schema.Result(
        task=task.id,
        program=program,
        rung=rung,
        seeds=(0,),
        purpose=schema.SEARCH,
        status=schema.FAILED if failed else schema.OK,
        metrics=() if failed else ({METRIC.name: score},),
      )
      view.update([task, result])
  return view


PROPOSALS = [
  ("base", "", ()),
  ("a", "base", ("gate", "conv-4.1")),
  ("b", "base", ("gate", "conv-4.2")),
  ("c", "a", ()),
  ("d", "a", ("other",)),
  ("broken", "a", ("gate",)),
  ("waiting", "a", ("gate",)),
]
SCORES = {
  "quick": {
    "base": 3.0,
    "a": 2.8,
    "b": 2.6,
    "c": 2.9,
    "d": 2.9,
    "broken": None,
  },
  "explore": {"base": 2.0, "a": 1.0},
}


def test_lift_is_the_difference_of_gains_at_the_lowest_common_rung():
  found = lifts(run(SCORES, PROPOSALS), METRIC, ("quick", "explore"))
  by_item = {lift.item: lift for lift in found}
  assert list(by_item) == ["conv-4", "gate", "other"]
  gate = by_item["gate"]
  assert (gate.used, gate.others, gate.failed) == (2, 2, 1)
  assert gate.gain == pytest.approx(0.3 + 0.1)
  expected = mean_difference([0.2, 0.4], [-0.1, -0.1])
  assert (gate.low, gate.high) == pytest.approx(expected[1:])
  # Both versions of an Insight count as one; one use says nothing.
  assert by_item["conv-4"].used == 2
  assert by_item["other"].gain is None


def test_welch_interval_against_values_worked_by_hand():
  interval = mean_difference([1.0, 3.0], [0.0, 0.0, 0.0])
  # Variance 2 over 2 values: standard error 1 at 1 degree of freedom.
  assert interval.mean == 2.0
  assert interval.high - 2.0 == pytest.approx(12.7062, abs=1e-4)
  assert mean_difference([1.0], [0.0, 1.0]).high == float("inf")
  assert mean_difference([1.0, 1.0], [0.0, 0.0]).low == 1.0
