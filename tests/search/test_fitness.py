"""A judge's marks in what samplers see, and nowhere else."""

import dataclasses
import random

import pytest

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Analysis, Proposal, Result
from asi_evolve_jax.search.fitness import sampled
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.settings import (
  JudgeSettings,
  RunSettings,
  SamplerSettings,
  SettingsError,
)


def _settings(ratio, sampler="greedy"):
  return RunSettings(
    name="test",
    track="toy",
    judge=JudgeSettings(ratio=ratio),
    sampler=SamplerSettings(name=sampler),
  )


def _view(direction, scores, marks):
  view = View("loss", direction, ("quick",))
  for number, (program, score) in enumerate(scores.items()):
    view.update(
      [
        Proposal(
          program=program,
          track="toy",
          name=program,
          author="symbolic",
          round=number + 1,
          operator="mutate",
          motivation="",
        ),
        Result(
          task=f"t-{program}",
          program=program,
          rung="quick",
          seeds=(0,),
          purpose="search",
          status="ok",
          metrics=({"loss": score},),
        ),
      ]
    )
  for program, mark in marks.items():
    judged = {"status": "blocked"} if mark is None else {"score": mark}
    view.update(
      [
        Analysis(
          program=program,
          results=(f"t-{program}",),
          text="",
          judged=judged,
        )
      ]
    )
  return view


@pytest.mark.parametrize(
  ("direction", "scores"),
  [
    ("minimize", {"a": 1.0, "b": 1.2, "c": 3.0, "d": 5.0}),
    ("maximize", {"a": 5.0, "b": 4.8, "c": 3.0, "d": 1.0}),
  ],
)
def test_marks_are_rescaled_and_mixed_in_the_metrics_own_unit(
  direction, scores
):
  view = _view(direction, scores, {"a": 0.1, "b": 0.9, "d": None})
  mixed = sampled(view, _settings(0.5))
  # On [0, 1] the scores are 1, 0.95, 0.5 and 0; the median mark is 0.5.
  assert mixed.ranked("quick") == ["b", "a", "c", "d"]
  assert mixed.ranked("quick", 2) == ["b", "a"]
  shares = {"a": 0.55, "b": 0.925, "c": 0.5, "d": 0.25}
  for program, share in shares.items():
    wanted = scores["d"] + share * (scores["a"] - scores["d"])
    assert mixed.score(program, "quick") == pytest.approx(wanted)
  greedy = make_sampler(_settings(0.5).sampler, random.Random(0))
  assert greedy.sample(mixed, "quick").parent == "b"
  # What was measured is as it was, for everybody else.
  assert view.ranked("quick") == ["a", "b", "c", "d"]
  assert mixed.score("b") == view.score("b") == scores["b"]
  assert mixed.measurements("b", "quick") == {0: scores["b"]}


def test_a_small_share_moves_little_and_none_moves_nothing():
  view = _view("minimize", {"a": 1.0, "b": 1.2, "d": 5.0}, {"b": 1.0, "a": 0.0})
  assert sampled(view, _settings(0.04)).ranked("quick") == ["a", "b", "d"]
  assert sampled(view, _settings(0.06)).ranked("quick") == ["b", "a", "d"]
  assert sampled(view, _settings(0.0)) is view


@pytest.mark.parametrize(
  ("scores", "marks"),
  [
    ({}, {}),
    ({"a": 1.0, "b": 2.0}, {}),  # the judge has failed so far
    ({"a": 1.0, "b": 2.0}, {"a": None}),
    ({"a": 1.0, "b": 1.0}, {"b": 1.0}),  # there is no scale
  ],
)
def test_where_there_is_nothing_to_mix_the_metric_decides(scores, marks):
  view = _view("minimize", scores, marks)
  mixed = sampled(view, _settings(0.5))
  assert mixed.ranked("quick") == view.ranked("quick")
  for program, score in scores.items():
    assert mixed.score(program, "quick") == score


def test_the_worst_outlier_does_not_flatten_the_scale():
  scores = {f"p{n}": 1.0 + 0.1 * n for n in range(4)} | {"wreck": 1e9}
  view = _view("minimize", scores, {"p0": 0.0, "p3": 1.0})
  settings = _settings(0.3)
  settings = dataclasses.replace(
    settings, sampler=SamplerSettings(name="greedy", pool=4)
  )
  mixed = sampled(view, settings)
  assert mixed.ranked("quick")[0] == "p0"
  assert mixed.ranked("quick")[-1] == "wreck"


def test_a_ratio_is_a_share():
  for wrong in (-0.1, 1.0):
    with pytest.raises(SettingsError, match=r"share in \[0, 1\)"):
      JudgeSettings(ratio=wrong)
