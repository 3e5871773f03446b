"""The Engineer on a toy track: real records, real worker processes."""

import json
import time

import numpy as np
import pytest
import toy_track
from engineer_kit import EngineerRun

from asi_evolve_jax.evaluation import jail
from asi_evolve_jax.evaluation.jail import Sandbox
from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.evaluation.workers import WorkerPool
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import REPEAT, VERIFY, Milestone, Task


@pytest.fixture
def run(tmp_path):
  with EngineerRun(tmp_path) as run:
    yield run


def test_measures_a_program_in_worker_processes(run):
  task = run.propose(score=1.5, notes=str(run.folder / "notes"))
  run.settle(run.engineer(promote=0.1))
  result = run.result(task)
  assert result.status == "ok"
  assert result.metrics == ({"loss": 1.5, "held_out": 2.5},)
  assert (result.program, result.rung, result.seeds) == (
    task.program,
    "quick",
    (0,),
  )
  # What the untrusted stage said of itself stands under its name alone.
  assert result.report["parameters"] == 7
  assert result.report["trace"]["parameters"] == 8
  assert result.report["purpose"] == "search"
  assert result.report["ratio"] == "inf"  # kept, in a form a record can hold
  assert result.report["jax"] is False
  assert result.cost["flops"] == 100.0
  assert result.cost["wall_seconds"] > 0
  # Nor is what it says that budgets count.
  assert result.cost["cpu_seconds"] > result.report["traced_s"] > 0
  assert result.cost["trace_s"] == 1.0
  assert result.cost["peak_memory_bytes"] > 1 << 20
  assert result.worker.endswith("/0")
  curve = run.records.get_array(f"{result.curves}/loss")
  np.testing.assert_array_equal(curve, np.linspace(2, 1.5, 5, dtype="f4"))
  artifact = run.view.artifacts[task.program, "small"]
  assert artifact.hash == result.artifact
  assert json.loads(run.records.get_bytes(artifact.blob))["score"] == 1.5
  assert not (run.folder / "scratch" / task.id).exists()
  assert (run.folder / "notes").read_text() == "trace\ncheck\ntrain\n"
  assert result.printed == {}


def test_what_a_stage_prints_is_in_the_result_as_its_last_lines(run):
  said = "\n".join(f"line {i} of 40" for i in range(40))
  task = run.propose(says=said)
  run.settle(run.engineer(promote=0.1))
  (stage,) = run.result(task).printed.items()
  assert stage == ("trace", said[said.index("line 28") :])


@pytest.mark.parametrize(
  ("what", "status", "text"),
  [
    ({"nan": "loss"}, "failed", "metric loss of seed 0 is nan"),
    ({"nan": "held_out"}, "failed", "metric held_out of seed 0 is nan"),
    ({"lacks": "loss"}, "failed", "metric loss of seed 0 is missing"),
    ({"seeds": 0}, "failed", "measured 0 of 1 seeds"),
    ({"error": "width 3 is odd"}, "failed", "ValueError: width 3 is odd"),
    ({"reject": True}, "rejected", "It reads the future."),
    ({"sleeps": 100}, "timeout", "killed after its 0.5 s"),
  ],
)
def test_failures_are_recorded_and_never_best(run, what, status, text):
  bad = run.propose(1, score=-100.0, **what)
  good = run.propose(2, score=5.0)
  engineer = run.engineer(deadline=0.5, promote=0.1)
  view = run.settle(engineer)
  result = run.result(bad)
  assert result.status == status
  assert text in result.error
  assert result.metrics == ()
  assert result.gate == ("causality" if status == "rejected" else "")
  assert view.score(bad.program) is None
  assert view.best("quick") == good.program
  assert view.ranked("quick") == [good.program]
  assert [t for t in view.tasks.values() if t.rung == "explore"] == []
  folder = run.folder / "scratch" / bad.id
  assert {p.suffix for p in folder.iterdir()} == {".log"}


def test_program_that_cannot_be_read_is_a_failure(run):
  _, proposal, task = toy_track.propose(1, score=1.0)
  run.records.put(proposal, task)
  run.settle(run.engineer(inline=1))
  assert run.result(task).status == "failed"
  assert "missing or set aside" in run.result(task).error


def test_promotes_the_best_share_and_all_baselines(run):
  scores = {1: 5.0, 2: 4.0, 3: 3.0, 4: 2.0}
  base = run.propose(0, author="baseline", score=9.0)
  engineer = run.engineer(inline=1)
  run.settle(engineer)
  # In the same commit: whoever sees the Result sees what follows from it.
  assert len(run.view.tasks) == 2
  tasks = {}
  for i, score in scores.items():
    tasks[i] = run.propose(i, score=score)
    run.settle(engineer)
  view = run.view
  explored = {t.program for t in view.tasks.values() if t.rung == "explore"}
  # In the order of arrival: 2 measured, 1 place: 5.0; 3 measured: 4.0; 4
  # measured, 2 places: 3.0 (and 4.0 is in); 5 measured: 2.0.
  assert explored == {base.program} | {t.program for t in tasks.values()}
  after = run.propose(6, score=8.0)
  run.settle(engineer)
  assert run.result(after).status == "ok"
  explored = {t.program for t in view.tasks.values() if t.rung == "explore"}
  assert after.program not in explored
  explore = [r for r in view.results.values() if r.rung == "explore"]
  assert all(r.status == "ok" and len(r.metrics) == 2 for r in explore)
  by_program = {
    t.program: t for t in view.tasks.values() if t.rung == "explore"
  }
  assert by_program[base.program].priority == 100
  assert by_program[tasks[4].program].priority == 10


def test_promotion_survives_a_restart_and_asks_nothing_twice(run):
  for i in range(6):
    run.propose(i, score=float(i))
  run.settle(run.engineer(inline=2))
  before = set(run.view.tasks)
  assert any(t.rung == "explore" for t in run.view.tasks.values())
  again = run.engineer(inline=2)
  run.settle(again)
  assert set(run.view.tasks) == before
  assert again._records.operations["create"] == 0


def test_several_results_are_one_commit(run):
  for i in range(8):
    run.propose(i, reject=True, number=i)
  records = Records.open(str(run.folder / "records"))
  engineer = run.engineer(inline=8, records=records)
  engineer.step()
  view = run.follow()
  assert len(view.results) == 8
  # 8 leases, 8 Results, 1 log entry.
  assert records.operations["create"] == 17
  assert not engineer.step()


def test_verify_is_judged_by_the_final_metric(run):
  task = run.propose(score=1.0)
  engineer = run.engineer(inline=1, promote=0.1)
  run.settle(engineer)
  run.records.put(
    Milestone(name="search-ended", by="test"),
    Task(program=task.program, rung="verify", seeds=(7, 8, 9), purpose=VERIFY),
  )
  late = run.propose(2, score=0.5)
  until = time.monotonic() + 10
  while not any(r.rung == "verify" for r in run.follow().results.values()):
    engineer.step()
    assert time.monotonic() < until
  (result,) = [r for r in run.view.results.values() if r.rung == "verify"]
  assert result.status == "ok"
  assert [m["held_out"] for m in result.metrics] == [2.0] * 3
  # The search is over: what it left is not measured any more.
  assert not engineer.step()
  assert late.id not in run.follow().results
  assert not engineer.finished
  run.records.put(Milestone(name="finished", by="test"))
  engineer.step()
  assert engineer.finished


def test_a_repeat_of_verify_is_measured_as_verify_was(run):
  task = run.propose(1, score=2.0)
  engineer = run.engineer(inline=1)
  run.settle(engineer)
  run.records.put(Milestone(name="search-ended", by="test"))
  run.records.put(Milestone(name="finished", by="test"))
  run.settle(engineer)
  assert engineer.finished
  # A person asks on: the end of the search does not keep them out.
  first, again = (
    Task(program=task.program, rung="verify", seeds=(7, 8), purpose=purpose)
    for purpose in (VERIFY, REPEAT)
  )
  run.records.put(first, again)
  run.settle(engineer)
  assert engineer.finished
  one, two = run.result(first), run.result(again)
  assert two.report["purpose"] == VERIFY
  assert two.metrics == one.metrics
  assert two.machine == one.machine != ""
  assert two.copied_from == ""
  assert run.view.score(task.program, "verify") is None


class VerifiedTrack(toy_track.ToyTrack):
  stages = (
    *toy_track.ToyTrack.stages,
    Stage("look", "toy_track:look", trusted=True, purposes=(VERIFY,)),
  )


def test_a_stage_runs_for_the_purposes_that_it_declares(run):
  engineer = run.engineer(inline=1, track=VerifiedTrack())
  task = run.propose(score=1.0)
  run.settle(engineer)
  assert "looked" not in run.result(task).report
  again = Task(
    program=task.program, rung="verify", seeds=(7, 8), purpose=VERIFY
  )
  run.records.put(again)
  run.settle(engineer)
  result = run.result(again)
  assert result.report["looked"]
  # The metrics are those of the last stage that ran.
  assert [m["held_out"] for m in result.metrics] == [0.5, 0.5]


@pytest.mark.parametrize(
  ("sandbox", "author", "status"),
  [
    (Sandbox("auto", layers=()), "llm:some-model", "failed"),
    (Sandbox("auto", layers=()), "symbolic", "ok"),
    (Sandbox("none"), "llm:some-model", "ok"),
  ],
)
def test_code_of_a_model_needs_a_jail_or_a_persons_word(
  run, sandbox, author, status
):
  pool = WorkerPool(["toy_track"], sandbox=sandbox)
  task = run.propose(author=author)
  engineer = run.engineer(pool=pool)
  run.settle(engineer)
  result = run.result(task)
  assert result.status == status
  if status == "failed":
    assert "llm:some-model was not run: no jail" in result.error
    assert set(result.report["confined_by"]) == {"trace"}
  else:
    assert result.report["confined_by"] == {
      "trace": [],
      "check": [],
      "train": [],
    }


def test_what_held_each_stage_is_in_the_result(run):
  here = jail.available()
  if not here.holds:
    pytest.skip(f"no jail here: {here.reason}")
  trusted = ["landlock"] if "landlock" in here.layers else []
  task = run.propose(author="llm:some-model")
  run.settle(run.engineer(pool=WorkerPool(["toy_track"])))
  assert run.result(task).report["confined_by"] == {
    "trace": list(here.layers),
    "check": trusted,
    "train": trusted,
  }
