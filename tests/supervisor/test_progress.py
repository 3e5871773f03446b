"""When a search ends: each reason, and none too early."""

import dataclasses

import pytest

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  STATUSES,
  Milestone,
  Proposal,
  Result,
  Steer,
  Task,
  digest,
)
from asi_evolve_jax.settings import (
  BudgetSettings,
  RungSettings,
  RunSettings,
  VerifySettings,
  WorkerSettings,
)
from asi_evolve_jax.supervisor.progress import counts, end_reason
from asi_evolve_jax.tracks.base import MAXIMIZE, Metric

METRIC = Metric("score", MAXIMIZE)
NOW = 1000.0


def _settings(**changes):
  return RunSettings(
    name="t",
    track="t",
    ladder=(RungSettings(name="only"),),
    workers=WorkerSettings(count=1),
    **changes,
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
  assert end_reason(view, _settings(rounds=3), METRIC, NOW) is None
  assert "rounds" in end_reason(view, _settings(rounds=2), METRIC, NOW)
  view.update([Task(program="0" * 32, rung="only", seeds=(7,))])
  assert end_reason(view, _settings(rounds=2), METRIC, NOW) is None


def _said(number, verb, **arguments):
  return Steer(number=number, verb=verb, by="ann", arguments=arguments)


def test_the_wall_clock_ends_the_search_in_time_for_verify():
  view = _view(1.0)
  start = Milestone(name="session/a", by="t", created_at=NOW)
  view.update([start])
  settings = _settings(rounds=9, budget=BudgetSettings(wall_s=10.0))
  assert end_reason(view, settings, METRIC, NOW + 9.0) is None
  reason = end_reason(view, settings, METRIC, NOW + 10.5)
  assert "budget: wall_s" in reason
  rung = RungSettings(name="verify", seeds=(7, 8, 9))
  verify = VerifySettings(finalists=2, rung=rung, baselines="references")
  settings = dataclasses.replace(settings, verify=verify)
  assert end_reason(view, settings, METRIC, NOW + 9.0) is None
  cost = {"wall_seconds": 0.5, "cpu_seconds": 0.5}
  view.update(_measured("only", cost))
  # 3 Tasks of 3 seeds, half a second each, on one worker.
  reason = end_reason(view, settings, METRIC, NOW + 6.0)
  assert "4.5 kept for verify" in reason
  # A verify rung of four times the work has all of it kept back.
  work = {"only": 1.0, "verify": 4.0}
  early = NOW + 1.0
  assert end_reason(view, settings, METRIC, early) is None
  reason = end_reason(view, settings, METRIC, early, work=work)
  assert "18 kept for verify" in reason


def _measured(rung, cost):
  task = Task(program=digest("measured"), rung=rung, seeds=(0,))
  result = Result(
    task=task.id,
    program=task.program,
    rung=rung,
    seeds=(0,),
    purpose="search",
    status="ok",
    metrics=({"score": 0.0},),
    cost=cost,
  )
  return [task, result]


def test_a_person_s_stop_ends_the_search_and_more_rounds_go_on():
  view = _view(1.0, 2.0)
  settings = _settings(rounds=2)
  view.update([_said(1, "budget", name="rounds", value=5.0)])
  assert end_reason(view, settings, METRIC, NOW) is None
  view.update([_said(2, "stop", reason="enough")])
  assert end_reason(view, settings, METRIC, NOW) == "stopped by ann: enough"


def test_a_spent_budget_ends_the_search_once_nothing_runs():
  view = _view(1.0)
  view.update(_measured("only", {"wall_seconds": 4.0, "cpu_seconds": 4.0}))
  settings = _settings(rounds=9, budget=BudgetSettings(device_s=9.0))
  assert end_reason(view, settings, METRIC, NOW) is None
  settings = _settings(rounds=9, budget=BudgetSettings(device_s=5.0))
  assert end_reason(view, settings, METRIC, NOW, running=True) is None
  assert "device_s 4 of 5" in end_reason(view, settings, METRIC, NOW)


def test_a_repair_that_nothing_is_left_for_does_not_hold_up_the_end():
  view = _view(1.0, status="rejected")
  view.update(_measured("only", {"wall_seconds": 4.0, "cpu_seconds": 4.0}))
  rich = _settings(rounds=1, budget=BudgetSettings(device_s=90.0))
  assert end_reason(view, rich, METRIC, NOW) is None
  poor = _settings(rounds=1, budget=BudgetSettings(device_s=5.0))
  assert end_reason(view, poor, METRIC, NOW, running=True) is None
  assert "device_s 4 of 5" in end_reason(view, poor, METRIC, NOW)


def test_rounds_do_not_end_a_search_that_waits_for_a_person():
  view = _view(1.0, 2.0)
  settings = _settings(rounds=2)
  assert end_reason(view, settings, METRIC, NOW, waiting=True) is None


def test_target_is_reached_in_the_metric_s_direction():
  settings = _settings(rounds=9, target_score=2.0)
  assert end_reason(_view(1.9), settings, METRIC, NOW) is None
  assert "target" in end_reason(_view(2.0), settings, METRIC, NOW)


def test_patience_counts_rounds_since_the_best():
  settings = _settings(rounds=99, patience=2)
  assert end_reason(_view(1.0, 2.0, 0.5), settings, METRIC, NOW) is None
  reason = end_reason(_view(1.0, 2.0, 0.5, 0.6), settings, METRIC, NOW)
  assert "patience" in reason


def test_failed_rounds_count_as_rounds_and_are_tallied():
  view = _view(1.0, 1.0, status="failed")
  assert "rounds" in end_reason(view, _settings(rounds=2), METRIC, NOW)
  tally = counts(view, "only")
  assert (tally.ok, tally.failed) == (0, 2)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_every_status_has_its_place_in_the_tally(status):
  tally = counts(_view(1.0, 1.0, status=status), "only")
  assert getattr(tally, status) == 2
  assert sum(dataclasses.astuple(tally)) == 2


def test_an_empty_run_has_not_ended():
  view = View("score", MAXIMIZE, rungs=["only"])
  assert end_reason(view, _settings(rounds=0), METRIC, NOW) is None


def test_a_search_whose_baselines_all_failed_says_so():
  view = View("score", MAXIMIZE, rungs=["only"])
  task = Task(program=digest(0), rung="only", seeds=(0,))
  view.update([task])
  assert end_reason(view, _settings(rounds=5), METRIC, NOW) is None
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
  reason = end_reason(view, _settings(rounds=5), METRIC, NOW)
  assert "no baseline has a score" in reason


def test_a_rejected_program_is_mended_before_the_rounds_are_over():
  view = _view(1.0, 1.0, status="rejected")
  settings = _settings(rounds=2)
  assert end_reason(view, settings, METRIC, NOW) is None
  for number in (1, 2):
    name = f"no-repair/{digest(number)}"
    view.update([Milestone(name=name, by="researcher")])
  assert "rounds" in end_reason(view, settings, METRIC, NOW)
