"""Expectations held against measurements: what holds, what does not."""

import json

import numpy as np
import pytest

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Proposal, Result, Task
from asi_evolve_jax.reporting.calibration import (
  HOLDS,
  OPEN,
  REVERSED,
  as_json,
  calibrate,
  headline,
  markdown,
)
from asi_evolve_jax.settings import RungSettings, RunSettings
from asi_evolve_jax.tracks import registry
from asi_evolve_jax.tracks.base import (
  MAXIMIZE,
  MINIMIZE,
  Expectation,
  Metric,
)


class _Track:
  metric = Metric("loss", MINIMIZE, "bits")
  rows = (
    Expectation("a", "b", "loss", "paper"),
    Expectation("b", "c", "loss", "paper"),
    Expectation("c", "a", "loss", "paper", level=True),
    Expectation("a", "b", "dev/task", "another"),
    Expectation("a", "missing", "loss", "nobody measured it"),
  )

  def metrics(self):
    return (self.metric, Metric("dev/task", MAXIMIZE))

  def expectations(self):
    return self.rows


def _view(values, reports=None):
  """values: baseline -> list of metrics a seed."""
  view = View("loss", MINIMIZE, rungs=["low"])
  for name, metrics in values.items():
    task = Task(program=name, rung="low", seeds=tuple(range(len(metrics))))
    view.update(
      [
        Proposal(
          program=name,
          track="t",
          name=name,
          author="baseline",
          round=0,
          operator="baseline",
          motivation="",
        ),
        Result(
          task=task.id,
          program=name,
          rung="low",
          seeds=task.seeds,
          purpose="search",
          status="ok",
          metrics=tuple(metrics),
          report=(reports or {}).get(name, {}),
        ),
      ]
    )
  return view


SETTINGS = RunSettings(
  name="t",
  track="t",
  ladder=(RungSettings(name="low", seeds=(0, 1, 2, 3)),),
)


def _losses(mean, noise, seed):
  rng = np.random.default_rng(seed)
  return [{"loss": mean + noise * rng.standard_normal()} for _ in range(4)]


def test_gains_are_paired_by_seed_and_signed_by_direction():
  luck = np.array([0.3, -0.2, 0.1, -0.2])
  a = [{"loss": 1.0 + x, "dev/task": 0.9 - x} for x in luck]
  b = [{"loss": 1.1 + x, "dev/task": 0.5 - x} for x in luck]
  found = calibrate(_view({"b": b, "a": a}), SETTINGS, _Track())
  loss, task = found
  (row,) = loss.rows  # nobody measured the others
  assert row.outcome == HOLDS
  assert row.gain == pytest.approx(0.1)
  assert row.low == pytest.approx(0.1)  # the seeds' luck cancels
  assert list(loss.values) == ["a", "b"]  # least loss first
  assert task.rows[0].gain == pytest.approx(0.4)
  assert list(task.values) == ["a", "b"]  # most accuracy first
  assert loss.noise == pytest.approx(np.std(luck, ddof=1))
  # t(0.975, 3) = 3.182, of the difference of two, over the root of 4.
  assert loss.visible == pytest.approx(
    3.182 * loss.noise * 2**0.5 / 2, rel=1e-3
  )
  assert loss.verdict == "orders the baselines as published"


def test_a_scale_that_reverses_is_no_ranking():
  view = _view(
    {
      "a": _losses(1.5, 0.01, 0),
      "b": _losses(1.0, 0.01, 1),
      "c": _losses(1.5, 0.01, 2),
    }
  )
  (loss,) = calibrate(view, SETTINGS, _Track())
  outcomes = [row.outcome for row in loss.rows]
  assert outcomes[:2] == [REVERSED, HOLDS]
  assert loss.verdict.startswith("a pass/fail gate, never a ranking")
  text = markdown([loss], seconds=7200.0)
  assert "A pass/fail gate, never a ranking: it reverses 1 of 3" in text
  assert "| a ahead of b | -0.5" in text
  assert "2.00 core-hours" in text


def test_noise_resolves_nothing_and_level_allows_for_it():
  rng = np.random.default_rng(3)
  luck = rng.standard_normal(4)
  near = [{"loss": 1.0 + 0.1 * x} for x in luck]
  also = [{"loss": 1.02 + 0.1 * x} for x in luck]
  far = [{"loss": 1.0 + 0.1 * x} for x in rng.standard_normal(4)]
  # c is behind a by 0.02 at every seed, within the spread of seeds: level.
  view = _view({"a": near, "b": far, "c": also})
  (loss,) = calibrate(view, SETTINGS, _Track())
  assert [row.outcome for row in loss.rows] == [OPEN, OPEN, HOLDS]
  assert loss.verdict.startswith("not settled: 2 of 3")


def test_one_seed_resolves_nothing():
  one = {name: [{"loss": x}] for name, x in (("a", 1.0), ("b", 2.0))}
  (loss,) = calibrate(_view(one), SETTINGS, _Track())
  assert loss.rows[0].outcome == OPEN
  assert loss.rows[0].low is None
  (value,) = as_json([loss])
  assert value["noise"] is value["visible"] is None
  json.dumps(value, allow_nan=False)
  assert "none | 1 | not resolved" in markdown([loss], 0.0)


def test_reads_chance_and_rates_at_the_end_of_the_grid():
  by_lr = [[1e-3, 0.2], [3e-3, 0.3], [1e-2, 0.4]]
  inner = [[1e-3, 0.2], [3e-3, 0.5], [1e-2, 0.4]]
  reports = {
    name: {
      "chance": {"dev/task": 0.25},
      "lr": rate,
      "by_lr": {"0.001": 1.0, "0.003": 1.1, "0.01": None},
      "suites": [{"dev/task": {"lr": tasks[1], "by_lr": tasks[0]}}],
    }
    for name, rate, tasks in (
      ("a", 3e-3, (by_lr, 1e-2)),
      ("b", 1e-3, (inner, 3e-3)),
    )
  }
  metrics = [{"loss": 1.0, "dev/task": 0.3}, {"loss": 1.1, "dev/task": 0.4}]
  view = _view({"a": metrics, "b": metrics}, reports)
  loss, task = calibrate(view, SETTINGS, _Track())
  assert (loss.edges, task.edges) == (("b",), ("a",))
  assert (loss.chance, task.chance) == (None, 0.25)
  assert "perhaps not tuned: a." in markdown([task], 0.0)


def test_expectations_name_baselines_and_metrics_that_there_are():
  track = registry.load("architecture", {})
  every = registry.load(
    "architecture", {"baselines": _named(track.expectations())}
  )
  names = {b.name for b in every.baselines()}
  metrics = {m.name for m in track.metrics()}
  for row in track.expectations():
    assert {row.better, row.worse} <= names
    assert row.metric in metrics
    assert "arXiv:" in row.source


def _named(rows):
  return tuple({name for row in rows for name in (row.better, row.worse)})


@pytest.mark.parametrize(
  ("seeds", "said"),
  [
    (1, "Not calibrated: no rung of the search has two baselines"),
    (4, "Calibration of loss: low orders the baselines as published."),
  ],
)
def test_the_headline_of_a_run_says_whether_its_rungs_are_calibrated(
  seeds, said
):
  losses = {"a": 1.0, "b": 2.0}
  view = _view(
    {
      name: [{"loss": loss + 0.01 * seed**2 * loss} for seed in range(seeds)]
      for name, loss in losses.items()
    }
  )
  assert headline(view, SETTINGS, _Track()).startswith(said)


def test_a_track_of_no_known_order_has_no_headline():
  class Unknown(_Track):
    rows = ()

  assert headline(_view({}), SETTINGS, Unknown()) == ""
