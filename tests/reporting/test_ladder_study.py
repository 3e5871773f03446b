"""Rank correlations of rungs: between seeds, against the retest ceiling."""

import math

import numpy as np
import pytest

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import Result, Task, digest
from asi_evolve_jax.reporting.ladder import Proxy, markdown, read, study
from asi_evolve_jax.settings import RungSettings, RunSettings
from asi_evolve_jax.tracks.base import MINIMIZE, Metric

METRIC = Metric("loss", MINIMIZE, "bits a byte")
SETTINGS = RunSettings(
  name="t",
  track="t",
  ladder=(
    RungSettings(name="low", seeds=(0, 1)),
    RungSettings(name="high", seeds=(2, 3)),
  ),
)


def _values(truth, noise, seeds, rng):
  return {
    f"p{i}": {s: q + noise * rng.standard_normal() for s in seeds}
    for i, q in enumerate(truth)
  }


def test_a_good_proxy_is_told_from_a_useless_one():
  rng = np.random.default_rng(0)
  truth = rng.standard_normal(40)
  target = Proxy("high", _values(truth, 0.1, (2, 3), rng), 100.0)
  good = Proxy("good", _values(truth, 0.1, (0, 1), rng), 10.0)
  useless = Proxy("useless", _values(0 * truth, 1.0, (0, 1), rng), 1.0)
  found = study([useless, good], target)
  rows = {row.name: row for row in found.rows}
  assert found.ceiling.mean > 0.95
  assert rows["good"].share > 0.95
  assert rows["good"].saved == pytest.approx(10)
  low, high = rows["useless"].correlation[1:]
  assert low < 0 < high
  assert rows["useless"].regret > rows["good"].regret
  assert found.cheapest == rows["good"]
  assert "10.0 times cheaper" in markdown(found, METRIC)


def test_luck_that_a_seed_gives_both_does_not_count():
  """Pure noise, but the proxy is the target's own run."""
  rng = np.random.default_rng(1)
  values = _values(np.zeros(60), 1.0, (2, 3), rng)
  found = study([Proxy("same run", values, 1.0)], Proxy("high", values, 2.0))
  assert abs(found.rows[0].correlation.mean) < 0.3
  assert abs(found.ceiling.mean) < 0.3


def test_the_ceiling_of_a_noisy_target_is_its_reliability():
  """Equal variances of Programs and seeds: Pearson 1/2, Spearman 0.48."""
  rng = np.random.default_rng(2)
  values = _values(rng.standard_normal(4000), 1.0, (2, 3), rng)
  some = {p: values[p] for p in list(values)[:400]}
  found = study([], Proxy("high", some, 1.0))
  expected = 6 / math.pi * math.asin(0.5 / 2)
  assert found.ceiling.low < expected < found.ceiling.high


def test_too_few_programs_say_nothing():
  values = {f"p{i}": {0: float(i), 1: float(i)} for i in range(3)}
  found = study([Proxy("low", values, 1.0)], Proxy("high", values, 2.0))
  assert found.rows == ()
  assert found.cheapest is None
  assert "No proxy" in markdown(found, METRIC)


def test_reads_rungs_metrics_and_curves_from_records():
  records = Records.open("memory://")
  view = View(METRIC.name, METRIC.direction, rungs=["low", "high"])
  for i in range(5):
    for rung in SETTINGS.ladder:
      task = Task(program=digest(i), rung=rung.name, seeds=rung.seeds)
      loss = 3.0 + 0.1 * i
      if rung.name == "high":
        curve = [[[50, loss + 1], [100, loss]] for _ in rung.seeds]
        records.put_array(f"{task.id}/dev", np.array(curve, np.float32))
      view.update(
        [
          Result(
            task=task.id,
            program=task.program,
            rung=rung.name,
            seeds=rung.seeds,
            purpose="search",
            status="ok",
            metrics=({"loss": loss, "recall": -float(i)},) * 2,
            curves=task.id,
            report={"curves": ["dev"]} if rung.name == "high" else {},
            cost={"cpu_seconds": 20.0 if rung.name == "low" else 100.0},
          )
        ]
      )
  proxies, target = read(view, records, SETTINGS, METRIC)
  by_name = {p.name: p for p in proxies}
  assert set(by_name) == {
    "low",
    "low: recall",
    "low: recall and score",
    "high: recall",
    "high: recall and score",
    "high, 50 steps",
  }
  assert target.seconds == 50.0
  assert by_name["high, 50 steps"].seconds == 25.0
  found = study(proxies, target)
  assert all(r.correlation.mean == pytest.approx(1) for r in found.rows)
  # Less loss is better, more recall is better.
  assert (
    by_name["low"].values[digest(0)][0] > by_name["low"].values[digest(4)][0]
  )
