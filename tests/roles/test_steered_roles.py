"""Roles follow a person's word within a round, also after a restart."""

import pathlib
import sys

import pytest

from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import VERIFY, Milestone
from asi_evolve_jax.reporting import leaderboard
from asi_evolve_jax.reporting.people import section
from asi_evolve_jax.reporting.report import _header as leaderboard_header
from asi_evolve_jax.roles.verifier import finalists
from asi_evolve_jax.settings import (
  ApprovalSettings,
  BudgetSettings,
  RungSettings,
  VerifySettings,
)
from asi_evolve_jax.supervisor.run import OpenRun
from asi_evolve_jax.supervisor.steering import SteerError, asks, steer

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from loop_kit import Loop


@pytest.fixture
def loop(tmp_path):
  return Loop(tmp_path)


def test_a_pause_lets_nothing_begin_and_survives_a_restart(loop):
  loop.steps(6)
  loop.say("pause")
  loop.steps(1)
  before = loop.view
  loop.restart()
  loop.steps(4)
  assert set(loop.view.tasks) == set(before.tasks)
  assert set(loop.view.results) == set(before.results)
  loop.say("resume")
  loop.steps(2)
  assert len(loop.view.results) > len(before.results)


def test_a_vetoed_program_is_left_alone(loop):
  loop.steps(8)
  last = loop.settings.ladder[-1].name
  best = next(p for p in loop.view.ranked(last) if p not in loop.view.baselines)
  loop.say("veto", best[:8])
  loop.restart()
  rounds = len(loop.candidates())
  loop.steps(8)
  view = loop.view
  new = loop.candidates()[rounds:]
  assert new
  assert all(best not in (*p.parents, *p.references) for p in new)
  assert best not in finalists(view, loop.settings, 99)
  # Its rounds are over: the search can end.
  assert view.rounds() == sum(
    p.program in view.results_of for p in loop.candidates()
  )
  loop.say("withdraw", "1")
  assert best in loop.view.ranked(last)


def test_a_veto_of_what_waits_ends_its_round(loop):
  loop.steps(6)
  loop.researcher.step()
  asked = [t.program for t in loop.view.pending()]
  waiting = next(p for p in asked if p not in loop.view.baselines)
  rounds = loop.view.rounds()
  loop.say("veto", waiting)
  assert waiting not in {t.program for t in loop.view.pending()}
  assert loop.view.rounds() == rounds + 1
  loop.engineer.step()
  assert waiting not in loop.view.results_of


def test_a_line_of_descent_is_vetoed_with_what_comes_of_it(loop):
  loop.steps(12)
  ancestor = next(
    p.program for p in loop.candidates() if loop.view.visits[p.program]
  )
  children = {p.program for p in loop.candidates() if ancestor in p.parents}
  loop.say("veto", ancestor, descendants=True)
  assert {ancestor, *children} <= loop.view.vetoed
  loop.say("withdraw", "1")
  assert not loop.view.vetoed


def test_a_pinned_parent_is_the_one_edited(loop):
  loop.steps(4)
  worst = loop.view.ranked("quick")[-1]
  loop.say("pin", worst)
  loop.restart()
  rounds = len(loop.candidates())
  loop.steps(4)
  new = loop.candidates()[rounds:]
  assert new
  assert {p.parents for p in new} == {(worst,)}
  loop.say("unpin")
  loop.steps(4)
  later = loop.candidates()[rounds + len(new) :]
  assert any(p.parents != (worst,) for p in later)


def test_guidance_is_obeyed_and_recorded(loop):
  loop.steps(2)
  loop.say("guide", "prefer width=3")
  loop.say("guide", "avoid score=8.0, leak=True")
  word = loop.say("guide", "look at long sequences")[0]
  rounds = len(loop.candidates())
  loop.restart()
  loop.steps(5)
  new = loop.candidates()[rounds:]
  assert new
  for proposal in new:
    assert proposal.genome["width"] == 3
    assert proposal.genome["score"] != 8.0
    assert not proposal.genome["leak"]
    assert word.key in proposal.knowledge
    assert "ann (steer/000003): look at long sequences" in proposal.motivation
  assert "ann prefers it (steer/000001)" in new[0].motivation
  loop.say("guide", "prefer width=1")
  loop.steps(3)
  assert loop.candidates()[-1].genome["width"] == 1


def test_dear_promotions_wait_for_approval(tmp_path):
  loop = Loop(tmp_path, approve_above=ApprovalSettings(flops=150.0))
  loop.steps(4)  # explore costs 100 FLOPs a Task here, whatever its seeds
  assert any(t.rung == "explore" for t in loop.view.tasks.values())
  assert not loop.engineer._promotions.waiting()
  loop = Loop(tmp_path / "b", approve_above=ApprovalSettings(flops=50.0))
  loop.steps(8)
  climbed = {t.program for t in loop.view.tasks.values() if t.rung == "explore"}
  assert climbed == set(loop.view.baselines)
  task, cost = loop.engineer._promotions.waiting()[0]
  assert cost["flops"] == 100.0
  loop.say("approve", task.program, "explore")
  loop.restart()
  loop.steps(2)
  assert task.id in loop.view.results


@pytest.mark.parametrize(("seconds", "wait"), [(1e-9, True), (1e9, False)])
def test_promotions_that_take_long_wait_too(tmp_path, seconds, wait):
  loop = Loop(tmp_path, approve_above=ApprovalSettings(device_s=seconds))
  loop.steps(8)
  climbed = {t.program for t in loop.view.tasks.values() if t.rung == "explore"}
  assert (climbed == set(loop.view.baselines)) == wait
  assert bool(loop.engineer._promotions.waiting()) == wait


def test_work_is_refused_before_a_budget_is_exceeded(tmp_path):
  budget = BudgetSettings(flops=1250.0)
  loop = Loop(tmp_path, budget=budget)
  loop.steps(30)
  spent = loop.view.spending.total["flops"]
  assert 1000.0 <= spent <= 1250.0
  done = len(loop.view.results)
  loop.restart()
  loop.steps(3)
  assert len(loop.view.results) == done
  loop.say("budget", "flops=1600")
  loop.steps(20)
  assert 1250.0 < loop.view.spending.total["flops"] <= 1600.0


# Two finalists and a reference; a Task costs four times one of explore.
_VERIFY = VerifySettings(
  finalists=2,
  rung=RungSettings(name="verify", seeds=(7, 8), options={"work": 4}),
  references=("score-8",),
  baselines="references",
)


def _verified(loop):
  return [r for r in loop.view.results.values() if r.purpose == VERIFY]


def test_a_dear_verify_that_nothing_has_measured_gets_its_share(tmp_path):
  budget = BudgetSettings(flops=2600.0)
  loop = Loop(tmp_path, budget=budget, verify=_VERIFY)
  loop.steps(30)
  # 3 Tasks of 400 and a tenth in reserve are kept, where explore has 100.
  assert 1000.0 < loop.view.spending.total["flops"] <= 2600.0 - 1320.0
  loop.end_search()
  loop.verify_steps(6)
  assert "finished" in loop.view.milestones
  assert len(_verified(loop)) == 3
  assert loop.view.spending.total["flops"] <= 2600.0


@pytest.mark.parametrize(
  ("left", "tasks", "said"),
  [
    (850.0, 2, "1 of 2 finalists: no budget for more"),
    (750.0, 0, "beside the baselines would take flops 800 where 750 is left"),
  ],
)
def test_verify_has_the_finalists_that_are_left_money_for(
  tmp_path, left, tasks, said
):
  loop = Loop(tmp_path, verify=_VERIFY)
  loop.steps(12)
  limit = loop.view.spending.total["flops"] + left
  loop.say("budget", f"flops={limit}")
  loop.end_search()
  loop.verify_steps(6)
  assert "finished" in loop.view.milestones
  assert len(_verified(loop)) == tasks
  assert loop.view.spending.total["flops"] <= limit
  header = leaderboard_header(
    loop.view, loop.settings, loop.track, loop.records
  )
  assert said in header


def test_a_dear_verify_waits_until_each_finalist_is_approved(tmp_path):
  cheap = ApprovalSettings(flops=200.0)
  loop = Loop(tmp_path, approve_above=cheap, verify=_VERIFY)
  loop.steps(12)
  loop.end_search()
  loop.verify_steps(2)
  assert "verify-asked" not in loop.view.milestones
  one, two = finalists(loop.view, loop.settings, 2)
  lines = asks(loop.run, loop.view, loop.engineer._promotions)
  assert [line.split()[3] for line in lines] == [one[:12], two[:12]]
  assert "to verify, expected cost" in lines[0]
  assert "400 FLOPs" in lines[0]
  loop.say("approve", one, "verify")
  loop.restart()
  loop.verify_steps(2)
  assert not _verified(loop)
  with pytest.raises(SteerError, match="search has ended"):
    loop.say("approve", one, "explore")
  loop.say("veto", two)  # the next best stands in, and waits in its turn
  third = finalists(loop.view, loop.settings, 2)[1]
  loop.verify_steps(2)
  assert "verify-asked" not in loop.view.milestones
  loop.say("approve", third, "verify")
  loop.verify_steps(6)
  assert {r.program for r in _verified(loop)} > {one, third}
  assert two not in {r.program for r in _verified(loop)}


@pytest.mark.parametrize(
  ("verb", "words", "message"),
  [
    ("halt", (), "'halt' is no verb; verbs: pause, resume"),
    ("resume", (), "not paused"),
    ("veto", (), "veto takes PROGRAM"),
    ("veto", ("abcdef0123",), "names no Program"),
    ("veto", ("score-8",), "is a baseline"),
    ("guide", ("prefer depth=3",), "'depth' is no gene; genes: score, leak"),
    ("guide", ("avoid width=9",), "no value '9'; its values: 1, 2, 3, 4"),
    ("guide", ("",), "needs a text"),
    ("budget", ("walls=3",), "names: wall_s, device_s"),
    ("budget", ("wall_s=-3",), "0 or more"),
    ("budget", ("rounds=2.5",), "whole number"),
    ("approve", ("score-8", "quick"), r"climbs to; those are \['explore'\]"),
    ("withdraw", ("7",), "no word number 7"),
  ],
)
def test_words_that_mean_nothing_are_refused(loop, verb, words, message):
  loop.researcher.step()
  with pytest.raises(SteerError, match=message):
    loop.say(verb, *words)
  assert not loop.view.steering.words


def test_two_who_speak_at_once_are_both_heard(loop):
  one, two = (
    OpenRun(loop.records, *_rest(loop)),
    OpenRun(Records.open(str(loop.folder / "records")), *_rest(loop)),
  )
  steer(one, "pause", (), "ann")
  steer(two, "stop", ("enough",), "bob")
  steering = loop.view.steering
  assert [(w.number, w.by) for w in steering.words] == [(1, "ann"), (2, "bob")]
  assert steering.paused is None, "a stop lifts a pause"
  loop.records.put(Milestone(name="finished", by="t"))
  with pytest.raises(SteerError, match="has finished"):
    steer(one, "pause", (), "ann")


def _rest(loop):
  return loop.settings, loop.track, loop.folder


def test_the_report_says_what_people_did(loop):
  loop.steps(8)
  last = loop.settings.ladder[-1].name
  best = next(p for p in loop.view.ranked(last) if p not in loop.view.baselines)
  name = loop.view.proposal_of[best].name
  loop.say("veto", best)
  loop.say("budget", "flops=5000")
  view = loop.view
  table = leaderboard.rows(view, last, loop.track.metric, ())
  assert f"{name} (vetoed)" in leaderboard.markdown(
    table, loop.track.metric, {}
  )
  text = section(view, loop.settings, loop.track)
  assert f"1. veto {name} (ann," in text
  spent = view.spending.total["flops"]
  assert f"flops {spent:.4g} of 5000" in text
