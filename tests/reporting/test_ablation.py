"""Conditions of a study side by side."""

import dataclasses
import json
import math
import pathlib
import sys

import pytest

from asi_evolve_jax.reporting import ablation
from asi_evolve_jax.settings import (
  RungSettings,
  RunSettings,
  SamplerSettings,
  SettingsError,
)
from asi_evolve_jax.tracks.base import MAXIMIZE, Metric

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "roles"))

from loop_kit import Loop  # noqa: E402

METRIC = Metric("total", MAXIMIZE)


def _run(condition, seed, curve, **changes):
  settings = RunSettings(
    name=f"study-{condition}",
    track="sum",
    seed=seed,
    rounds=10,
    ladder=(RungSettings(name="only"),),
  )
  return ablation.Run(
    condition=settings.name,
    seed=seed,
    settings=dataclasses.replace(settings, **changes),
    curve=curve,
    seconds=36.0,
    finished=True,
  )


def _curve(*points):
  return [(rounds, float(rounds), best) for rounds, best in points]


GREEDY = SamplerSettings(name="greedy")
RUNS = [
  _run("greedy", 0, _curve((0, 1.0), (8, 3.0)), sampler=GREEDY),
  _run("greedy", 1, _curve((0, 1.0), (10, 1.0)), sampler=GREEDY),
  _run("greedy", 2, _curve((0, 1.0), (4, 7.0)), sampler=GREEDY),
  _run("full", 0, _curve((0, 1.0), (2, 2.0), (6, 5.0), (10, 5.0))),
  _run("full", 1, _curve((1, 3.0), (10, 3.0))),
  _run("full", 2, _curve((0, 2.0), (3, 7.0))),
]


def test_best_scores_and_goals_of_a_run():
  run = RUNS[3]
  assert run.best == 5.0
  assert [run.best_after(n) for n in (0, 2, 5, 6, 10)] == [1, 2, 2, 5, 5]
  assert math.isnan(RUNS[4].best_after(0))
  assert run.rounds_to(2.0, METRIC) == 2
  assert run.rounds_to(4.5, METRIC) == 6
  assert run.rounds_to(5.5, METRIC) is None
  down = Metric("total", "minimize")
  assert run.rounds_to(1.0, down) == 0


def test_gains_are_paired_and_missed_goals_are_said(tmp_path):
  found = ablation.study(RUNS, METRIC)
  text = ablation.write(found, [3.0], tmp_path)
  assert (tmp_path / "ablation.md").read_text() == text
  assert (tmp_path / "ablation.png").stat().st_size > 1000
  assert "6 runs of up to 10 rounds, 0.06 core-hours" in text
  # Gains -2, -2, 0: mean -4/3, half width t(2) * sd / sqrt 3 = 4.303 * 2/3.
  assert (
    "| greedy | 3 | 3 [1, 7] | -1.33 [-4.2, +1.54] | 0.5 | 0 / 1 / 2 |" in text
  )
  assert "| full | 3 | 5 [3, 7] |  |  |  | 36 |" in text
  # 6, 1 and 3 rounds; 8, 10 (not reached) and 4.
  assert "| full | 3.33 [1, 6]; 3 of 3 runs |" in text
  assert "| greedy | at least 7.33 [4, 10]; 2 of 3 runs |" in text
  # 2, 9 and 1 more: mean 4, half width 4.303 * 4.359 / sqrt 3; of 8 patterns
  # of signs two are as far from 0.
  assert "| greedy | +4 [-6.83, +14.8]; p 0.25 |" in text
  saved = json.loads((tmp_path / "ablation.json").read_text())
  assert saved["full"]["2"]["rounds_seconds_best"] == [[0, 0, 2], [3, 3, 7]]
  assert "- greedy: config.sampler.name: 'ucb1' -> 'greedy'" in text


def test_a_band_begins_where_all_have_a_score():
  found = ablation.study(RUNS, METRIC)
  band = ablation.band(found, "study-full")
  assert list(band.x) == list(range(1, 11))
  assert band.mean[0] == pytest.approx((1 + 3 + 2) / 3)
  assert band.mean[-1] == pytest.approx(5.0)
  for low, mean, high in zip(band.low, band.mean, band.high, strict=True):
    assert low <= mean <= high


def test_what_is_not_comparable_is_refused_and_unfinished_left_out():
  going_on = dataclasses.replace(RUNS[1], finished=False)
  found = ablation.study([RUNS[0], going_on, *RUNS[2:]], METRIC)
  assert found.left_out == ("study-greedy, seed 1",)
  assert list(found.runs["study-greedy"]) == [0, 2]
  with pytest.raises(SettingsError, match=r"config\.rounds"):
    ablation.study([*RUNS, _run("greedy", 9, RUNS[0].curve, rounds=11)], METRIC)
  with pytest.raises(SettingsError, match="there twice"):
    ablation.study([*RUNS, RUNS[0]], METRIC)
  with pytest.raises(SettingsError, match=r"no finished run of .*full"):
    ablation.study(RUNS[:3], METRIC)
  named = ablation.study(RUNS, METRIC, "study-greedy")
  assert next(iter(named.runs)) == "study-greedy"


def test_reads_runs_from_their_records(tmp_path):
  loop = Loop(tmp_path)
  loop.steps(6)
  run = ablation.read(loop.view, loop.settings, loop.track.metric)
  assert not run.finished
  assert run.best == loop.view.score(loop.view.best("explore"), "explore")


def test_an_earlier_report_adds_seeds(tmp_path):
  later = [RUNS[0], RUNS[1], RUNS[3], RUNS[4]]
  first = [RUNS[2], RUNS[5]]
  ablation.write(ablation.study(first, METRIC), [], tmp_path)
  kept = tmp_path / "ablation.json"
  both = ablation.with_earlier(ablation.study(later, METRIC), kept)
  whole = ablation.study(RUNS, METRIC)
  text = ablation.write(both, [3.0], tmp_path)
  assert ablation.write(whole, [3.0], tmp_path) == text
  # The same seed again is no other pair.
  with pytest.raises(SettingsError, match="seed 0 of full too"):
    ablation.with_earlier(whole, kept)
  short = ablation.study([_run("full", 7, _curve((0, 1.0)), rounds=4)], METRIC)
  with pytest.raises(SettingsError, match="runs of 10 rounds, these had 4"):
    ablation.with_earlier(short, kept)
  kept.write_text("[]")
  with pytest.raises(SettingsError, match="is no ablation"):
    ablation.with_earlier(whole, kept)
