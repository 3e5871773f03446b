"""Rank correlations of rungs: between seeds, against the retest ceiling."""

import dataclasses
import math

import numpy as np
import pytest

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import SEARCH, VERIFY, Result, Task, digest
from asi_evolve_jax.reporting.ladder import Proxy, markdown, read, study
from asi_evolve_jax.settings import RungSettings, RunSettings, VerifySettings
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
  assert found.ceiling.correlation.mean > 0.95
  assert rows["good"].share > 0.95
  assert rows["good"].saved == pytest.approx(10)
  low, high = rows["useless"].agreement.correlation[1:]
  assert low < 0 < high
  assert rows["useless"].agreement.regret > rows["good"].agreement.regret
  assert found.cheapest == rows["good"]
  assert "10.0 times cheaper" in markdown(found, METRIC)


def test_luck_that_a_seed_gives_both_does_not_count():
  """Pure noise, but the proxy is the target's own run."""
  rng = np.random.default_rng(1)
  values = _values(np.zeros(60), 1.0, (2, 3), rng)
  found = study([Proxy("same run", values, 1.0)], Proxy("high", values, 2.0))
  assert abs(found.rows[0].agreement.correlation.mean) < 0.3
  assert abs(found.ceiling.correlation.mean) < 0.3


def test_the_ceiling_of_a_noisy_target_is_its_reliability():
  """Equal variances of Programs and seeds: Pearson 1/2, Spearman 0.48."""
  rng = np.random.default_rng(2)
  values = _values(rng.standard_normal(4000), 1.0, (2, 3), rng)
  some = {p: values[p] for p in list(values)[:400]}
  found = study([], Proxy("high", some, 1.0))
  expected = 6 / math.pi * math.asin(0.5 / 2)
  assert (
    found.ceiling.correlation.low < expected < found.ceiling.correlation.high
  )


def test_too_few_programs_say_nothing():
  values = {f"p{i}": {0: float(i), 1: float(i)} for i in range(3)}
  found = study([Proxy("low", values, 1.0)], Proxy("high", values, 2.0))
  assert found.rows == ()
  assert found.cheapest is None
  text = markdown(found, METRIC)
  assert "no test-retest ceiling (too few Programs)" in text
  assert "No proxy" in text


def test_one_seed_alone_says_what_it_can_and_no_more():
  rng = np.random.default_rng(3)
  truth = rng.standard_normal(30)
  quick, explore = (
    Proxy(name, _values(truth, 0.1, (0,), rng), 1.0)
    for name in ("quick", "explore")
  )
  few = _values(truth[:3], 0.1, (101, 102), rng)
  rungs = [quick, explore, Proxy("verify", few, 9.0)]
  text = markdown(study([quick], explore, rungs), METRIC)
  assert "nan" not in text
  rows = [line.split(" | ") for line in text.splitlines() if "| 30 |" in line]
  assert rows[0][:2] == ["| quick", "explore"]
  assert all("(same seed, optimistic)" in " ".join(row) for row in rows)
  assert "| explore | verify | 3 | too few Programs |" in text
  assert "no test-retest ceiling (needs a second seed)" in text


def _measured(task, metrics, **more):
  """Returns the Result of a Task, the same at both of its seeds."""
  return Result(
    task=task.id,
    program=task.program,
    rung=task.rung,
    seeds=task.seeds,
    purpose=task.purpose,
    status="ok",
    metrics=(metrics, metrics),
    **more,
  )


def test_each_rung_stands_beside_the_next_verify_included():
  verify = RungSettings(name="verify", seeds=(7, 8))
  settings = dataclasses.replace(SETTINGS, verify=VerifySettings(rung=verify))
  view = View(METRIC.name, METRIC.direction, rungs=["low", "high"])
  held_out = Metric("held_out", MINIMIZE)
  for i in range(6):
    for rung, purpose in (
      *((r, SEARCH) for r in settings.ladder),
      (verify, VERIFY),
    ):
      # The best of the search are the worst of verify.
      metrics = {"loss": float(i), "held_out": float(-i)}
      task = Task(
        program=digest(i), rung=rung.name, seeds=rung.seeds, purpose=purpose
      )
      view.update([_measured(task, metrics)])
  records = Records.open("memory://")
  found = study(*read(view, records, settings, METRIC, held_out))
  said = [(a, b, agreement.correlation.mean) for a, b, agreement in found.steps]
  assert said == [
    ("low", "high", pytest.approx(1)),
    ("high", "verify", pytest.approx(-1)),
  ]


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
      result = _measured(
        task,
        {"loss": loss, "recall": -float(i)},
        curves=task.id,
        report={"curves": ["dev"]} if rung.name == "high" else {},
        cost={"cpu_seconds": 20.0 if rung.name == "low" else 100.0},
      )
      view.update([result])
  proxies, target, rungs = read(view, records, SETTINGS, METRIC, METRIC)
  assert [p.name for p in rungs] == ["low", "high"]
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
  assert all(
    r.agreement.correlation.mean == pytest.approx(1) for r in found.rows
  )
  # Less loss is better, more recall is better.
  assert (
    by_name["low"].values[digest(0)][0] > by_name["low"].values[digest(4)][0]
  )
