"""When a search ends: each reason, and none too early."""

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Proposal, Result, Task, digest
from asi_evolve_jax.settings import RungSettings, RunSettings
from asi_evolve_jax.supervisor.progress import counts, end_reason
from asi_evolve_jax.tracks.base import MAXIMIZE, Metric

METRIC = Metric("score", MAXIMIZE)


def _settings(**changes):
  return RunSettings(
    name="t", track="t", ladder=(RungSettings(name="only"),), **changes
  )


def _view(*scores, author="symbolic", status="ok"):
  """A view of finished rounds with these scores, after one baseline."""
  view = View("score", MAXIMIZE, rungs=["only"])
  for number, score in enumerate([0.0, *scores]):
    program = digest(number)
    task = Task(program=program, rung="only", seeds=(0,))
    ok = number == 0 or status == "ok"
    view.update(
      [
        Proposal(
          program=program,
          track="t",
          name=str(number),
          author=author if number else "baseline",
          round=number,
          operator="sample",
          motivation="",
        ),
        task,
        Result(
          task=task.id,
          program=program,
          rung="only",
          seeds=(0,),
          purpose="search",
          status="ok" if ok else status,
          metrics=({"score": score},) if ok else (),
        ),
      ]
    )
  return view


def test_rounds_end_the_search_once_nothing_is_open():
  view = _view(1.0, 2.0)
  assert end_reason(view, _settings(rounds=3), METRIC, 0.0) is None
  assert "rounds" in end_reason(view, _settings(rounds=2), METRIC, 0.0)
  view.update([Task(program="0" * 32, rung="only", seeds=(7,))])
  assert end_reason(view, _settings(rounds=2), METRIC, 0.0) is None


def test_time_limit():
  view = _view(1.0)
  settings = _settings(rounds=9, time_limit=10.0)
  assert end_reason(view, settings, METRIC, 9.9) is None
  assert "time limit" in end_reason(view, settings, METRIC, 10.0)


def test_target_is_reached_in_the_metric_s_direction():
  settings = _settings(rounds=9, target_score=2.0)
  assert end_reason(_view(1.9), settings, METRIC, 0.0) is None
  assert "target" in end_reason(_view(2.0), settings, METRIC, 0.0)


def test_patience_counts_rounds_since_the_best():
  settings = _settings(rounds=99, patience=2)
  assert end_reason(_view(1.0, 2.0, 0.5), settings, METRIC, 0.0) is None
  reason = end_reason(_view(1.0, 2.0, 0.5, 0.6), settings, METRIC, 0.0)
  assert "patience" in reason


def test_failed_rounds_count_as_rounds_and_are_tallied():
  view = _view(1.0, 1.0, status="failed")
  assert "rounds" in end_reason(view, _settings(rounds=2), METRIC, 0.0)
  tally = counts(view, "only")
  assert (tally.ok, tally.failed) == (0, 2)


def test_an_empty_run_has_not_ended():
  view = View("score", MAXIMIZE, rungs=["only"])
  assert end_reason(view, _settings(rounds=0), METRIC, 0.0) is None


def test_a_search_whose_baselines_all_failed_says_so():
  view = View("score", MAXIMIZE, rungs=["only"])
  task = Task(program=digest(0), rung="only", seeds=(0,))
  view.update([task])
  assert end_reason(view, _settings(rounds=5), METRIC, 0.0) is None
  view.update(
    [
      Result(
        task=task.id,
        program=task.program,
        rung="only",
        seeds=(0,),
        purpose="search",
        status="timeout",
      )
    ]
  )
  reason = end_reason(view, _settings(rounds=5), METRIC, 0.0)
  assert "no baseline has a score" in reason
