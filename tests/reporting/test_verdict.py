"""The verdict claims what paired fresh seeds support, and nothing else."""

import random

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  VERIFY,
  Milestone,
  Proposal,
  Result,
  Task,
  digest,
)
from asi_evolve_jax.reporting.verdict import compare, sentence
from asi_evolve_jax.settings import RungSettings, RunSettings, VerifySettings
from asi_evolve_jax.tracks.base import MINIMIZE, Metric

METRIC = Metric("loss", MINIMIZE, "bits per byte")
SEEDS = (101, 102, 103)
SETTINGS = RunSettings(
  name="t",
  track="t",
  ladder=(RungSettings(name="explore"),),
  verify=VerifySettings(
    finalists=3, rung=RungSettings(name="verify", seeds=SEEDS)
  ),
)


def _view(scores):
  """scores: name -> one loss a seed; `deltanet` is the reference."""
  view = View("loss", MINIMIZE, rungs=["explore"])
  ids = {name: digest(name) for name in scores}
  for name, values in scores.items():
    task = Task(program=ids[name], rung="verify", seeds=SEEDS, purpose=VERIFY)
    view.update(
      [
        Proposal(
          program=ids[name],
          track="t",
          name=name,
          author="baseline" if name == "deltanet" else "symbolic",
          round=0 if name == "deltanet" else 1,
          operator="sample",
          motivation="",
        ),
        task,
        Result(
          task=task.id,
          program=ids[name],
          rung="verify",
          seeds=SEEDS,
          purpose=VERIFY,
          status="ok",
          metrics=tuple({"loss": v} for v in values),
        ),
      ]
    )
  detail = {
    "finalists": [i for n, i in ids.items() if n != "deltanet"],
    "baselines": [i for n, i in ids.items() if n == "deltanet"],
    "tasks": [],
  }
  view.update([Milestone(name="verify-asked", by="test", detail=detail)])
  return view


def test_a_steady_gain_is_a_win_and_noise_is_not():
  view = _view(
    {
      "deltanet": (2.30, 2.31, 2.29),
      "better": (2.20, 2.212, 2.19),
      "noisy": (2.20, 2.45, 2.22),
    }
  )
  found = {c.name: c for c in compare(view, SETTINGS, METRIC)}
  assert found["better"].better
  assert found["better"].gain > 0.09
  assert found["better"].low > 0
  assert not found["noisy"].better
  text = sentence(list(found.values()), SETTINGS, METRIC)
  assert "1 of 2 finalists beat deltanet" in text
  assert "seed spread" in text


def test_what_is_significantly_worse_did_not_win():
  view = _view({"deltanet": (2.30, 2.31, 2.29), "worse": (2.4, 2.41, 2.39)})
  (worse,) = compare(view, SETTINGS, METRIC)
  assert worse.p < 0.05
  assert not worse.better
  assert "No finalist beat" in sentence([worse], SETTINGS, METRIC)


def test_correction_makes_every_p_no_smaller():
  rng = random.Random(0)
  scores = {"deltanet": [rng.gauss(2.3, 0.01) for _ in SEEDS]}
  for i in range(3):
    scores[f"f{i}"] = [rng.gauss(2.28, 0.01) for _ in SEEDS]
  found = compare(_view(scores), SETTINGS, METRIC)
  assert len(found) == 3
  assert all(c.p_corrected >= c.p for c in found)
  assert any(c.p_corrected > c.p for c in found)


def test_equal_programs_are_rarely_called_better():
  """An A/A pair: 200 draws, at most a few false wins at level 0.05."""
  rng = random.Random(1)
  wins = 0
  for _ in range(200):
    scores = {
      name: [rng.gauss(2.3, 0.01) for _ in SEEDS] for name in ("deltanet", "a")
    }
    wins += compare(_view(scores), SETTINGS, METRIC)[0].better
  # Two-sided 0.05, one side counts: 5 expected; 14 is 4 deviations above.
  assert wins <= 14


def test_no_verdict_without_the_reference():
  view = _view({"other": (2.3, 2.31, 2.29)})
  assert compare(view, SETTINGS, METRIC) == []
