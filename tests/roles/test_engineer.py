"""The Engineer on a toy track: real records, real worker processes."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from asi_evolve_jax.evaluation import jail
from asi_evolve_jax.evaluation.jail import Sandbox
from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.evaluation.workers import InlinePool, WorkerPool
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  PAIR,
  REPEAT,
  VERIFY,
  Milestone,
  Task,
)
from asi_evolve_jax.roles.engineer import Engineer

HERE = str(pathlib.Path(__file__).parent)
sys.path.insert(0, HERE)

import toy_track  # noqa: E402


@pytest.fixture
def run(tmp_path):
  return _Run(tmp_path)


class _Run:
  def __init__(self, folder):
    self.folder = folder
    self.records = Records.open(str(folder / "records"))
    self.view = View("loss", "minimize", ("quick", "explore", "verify"))
    self.cursor = None
    self.engineers = []

  def engineer(self, inline=0, records=None, track=None, pool=None, **kwargs):
    engineer = Engineer(
      records or Records.open(str(self.folder / "records")),
      toy_track.settings(**kwargs),
      track or toy_track.ToyTrack(),
      run_dir=self.folder,
      pool=InlinePool(inline) if inline else pool,
    )
    self.engineers.append(engineer)
    return engineer

  def propose(self, round_number=1, **what):
    records = toy_track.propose(round_number, **what)
    self.records.put(*records)
    return records[2]

  def follow(self):
    news, self.cursor = self.records.follow(self.cursor)
    self.view.update(news)
    return self.view

  def settle(self, *engineers, seconds=20.0):
    """Steps until nothing is pending."""
    until = time.monotonic() + seconds
    while True:
      did = [e.step() for e in engineers]
      if not any(did) and not self.follow().pending():
        return self.view
      assert time.monotonic() < until, self.view.pending()
      if not any(did):
        engineers[0].wait(0.05)

  def result(self, task):
    return self.follow().results[task.id]


@pytest.fixture(autouse=True)
def _close(run):
  yield
  for engineer in run.engineers:
    engineer.close()


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
  assert result.cost["cpu_seconds"] > 0
  assert result.cost["peak_memory_bytes"] > 1 << 20
  assert result.worker.endswith("/0")
  curve = run.records.get_array(f"{result.curves}/loss")
  np.testing.assert_array_equal(curve, np.linspace(2, 1.5, 5, dtype="f4"))
  artifact = run.view.artifacts[task.program, "small"]
  assert artifact.hash == result.artifact
  assert json.loads(run.records.get_bytes(artifact.blob))["score"] == 1.5
  assert not (run.folder / "scratch" / task.id).exists()
  assert (run.folder / "notes").read_text() == "trace\ncheck\ntrain\n"


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


def test_equal_artifacts_are_measured_once(run):
  notes = run.folder / "notes"
  first = run.propose(1, score=2.0, notes=str(notes), comment="one")
  engineer = run.engineer(promote=0.1)
  run.settle(engineer)
  second = run.propose(2, score=2.0, notes=str(notes), comment="two")
  assert first.program != second.program
  run.settle(engineer)
  making = ["trace", "check"]
  assert notes.read_text().split() == [*making, "train", *making]
  a, b = run.result(first), run.result(second)
  assert b.status == "ok"
  assert b.copied_from == first.id
  assert (b.metrics, b.curves, b.artifact) == (a.metrics, a.curves, a.artifact)
  assert b.report["parameters"] == 7
  assert run.view.artifacts[second.program, "small"].hash == a.artifact
  # Another seed, purpose or rung is another measurement.
  pair = Task(program=second.program, rung="quick", seeds=(3,), purpose=PAIR)
  repeat = Task(
    program=second.program, rung="quick", seeds=(0,), purpose=REPEAT
  )
  run.records.put(pair, repeat)
  run.settle(engineer)
  # A repeat begins at the source: it checks the tracing too.
  after = notes.read_text().split()[5:]
  assert sorted(after) == ["check", "trace", "train", "train"]
  assert run.result(pair).metrics[0]["loss"] == pytest.approx(2.03)
  assert run.result(repeat).copied_from == ""


def test_an_artifact_is_made_once_by_all_the_stages_before_it(run):
  notes = run.folder / "notes"
  task = run.propose(0, author="baseline", score=2.0, notes=str(notes))
  run.settle(run.engineer(inline=1, track=toy_track.ToyTrack()))
  results = run.view.results_of[task.program]
  assert [r.rung for r in results] == ["quick", "explore"]
  assert len({r.artifact for r in results}) == 1
  assert notes.read_text().split() == ["trace", "check", "train", "train"]


def test_equal_artifacts_in_flight_wait_for_each_other(run):
  notes = run.folder / "notes"
  tasks = [
    run.propose(i, score=2.0, sleeps=3, notes=str(notes), comment=str(i))
    for i in range(3)
  ]
  other = run.propose(9, score=9.0)
  # Two Engineers, as on two machines.
  run.settle(run.engineer(workers=2), run.engineer(workers=2))
  events = notes.read_text().split()
  results = [run.result(t) for t in tasks]
  assert [r.status for r in results] == ["ok"] * 3
  quick = [r for r in results if not r.copied_from]
  assert len(quick) == 1
  assert events.count("trace") == 3
  # Once at the first rung; once more if it was promoted.
  promoted = [t for t in run.view.tasks.values() if t.rung == "explore"]
  copies = [
    r
    for r in run.view.results.values()
    if r.rung == "explore" and r.copied_from
  ]
  fresh = len({t.program for t in promoted} - {other.program}) - len(copies)
  assert events.count("train") == 1 + fresh
  assert fresh <= 1


def test_a_failed_equal_is_measured_again_by_its_twin(run):
  tasks = [
    run.propose(i, error="broken", comment=str(i), notes=str(run.folder / "n"))
    for i in range(2)
  ]
  run.settle(run.engineer(workers=2))
  assert [run.result(t).status for t in tasks] == ["failed", "failed"]


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


def test_lost_tasks_are_tried_again_with_their_scratch(run):
  task = run.propose(score=1.0, lost=1)
  run.settle(run.engineer(promote=0.1))
  first = run.result(task)
  assert first.status == "lost"
  assert "SIGKILL" in first.error
  (second,) = [t for t in run.view.tasks.values() if t.attempt == 1]
  result = run.result(second)
  assert result.status == "ok"
  assert result.report["tries"] == 2
  assert run.view.rounds() == 1
  assert list((run.folder / "scratch").iterdir()) == []


def test_lost_for_good_after_all_attempts(run):
  run.propose(score=1.0, lost=99)
  view = run.settle(run.engineer(attempts=3))
  assert sorted(r.attempt for r in view.results.values()) == [0, 1, 2]
  assert {r.status for r in view.results.values()} == {"lost"}
  assert view.best("quick") is None


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


def test_search_that_ends_stops_what_runs(run):
  task = run.propose(score=1.0, sleeps=300)
  engineer = run.engineer()
  pid = _wait_for(engineer, run.folder / "scratch" / task.id / "pid")
  run.records.put(Milestone(name="search-ended", by="test"))
  until = time.monotonic() + 5
  while pathlib.Path(f"/proc/{pid}").exists():
    engineer.step()
    assert time.monotonic() < until
  assert run.records.leases([task.id]) == []
  assert task.id not in run.follow().results


def _wait_for(engineer, path):
  until = time.monotonic() + 15
  while not (path.exists() and path.read_text()):
    if engineer is not None:
      engineer.step()
    assert time.monotonic() < until
    time.sleep(0.02)
  return int(path.read_text())


@pytest.fixture
def process(run):
  """Starts Engineers as processes of their own."""
  started = []

  def start(ttl):
    program = (
      f"import sys; sys.path.insert(0, {HERE!r}); "
      "import toy_track; toy_track.main()"
    )
    p = subprocess.Popen(
      [sys.executable, "-c", program, str(run.folder), str(ttl)]
    )
    started.append(p)
    return p

  yield start
  for p in started:
    p.kill()
    p.wait()


def _gone(pid):
  try:
    with open(f"/proc/{pid}/stat") as f:
      return f.read().rpartition(")")[2].split()[0] == "Z"
  except OSError:
    return True


def test_killed_engineer_loses_nothing(run, process):
  notes = run.folder / "notes"
  task = run.propose(score=1.0, sleeps=12, notes=str(notes))
  first = process(ttl=30.0)
  pid = _wait_for(None, run.folder / "scratch" / task.id / "pid")
  _wait_until(lambda: "step-3" in notes.read_text())
  first.send_signal(signal.SIGKILL)
  first.wait()
  # On the same machine it is seen to be dead at once, whatever the lease.
  run.settle(run.engineer(ttl=30.0, promote=0.1), seconds=10.0)
  assert _gone(pid)
  result = run.result(task)
  assert result.status == "ok"
  assert result.report["tries"] == 2
  # It went on from the checkpoints: no step was done twice.
  steps = [e for e in notes.read_text().split() if e.startswith("step")]
  assert sorted(set(steps)) == sorted(steps)
  assert len(steps) == 12
  assert notes.read_text().split().count("trace") == 1


def test_stopped_engineer_doubles_nothing(run, process):
  notes = run.folder / "notes"
  task = run.propose(score=1.0, sleeps=15, notes=str(notes))
  first = process(ttl=0.9)
  pid = _wait_for(None, run.folder / "scratch" / task.id / "pid")
  first.send_signal(signal.SIGSTOP)
  second = run.engineer(ttl=0.9, promote=0.1)
  result = None
  until = time.monotonic() + 20
  while result is None:
    second.step()
    second.wait(0.05)
    result = run.follow().results.get(task.id)
    assert time.monotonic() < until
  assert _gone(pid)  # killed by its fork server, before the lease was ours
  first.send_signal(signal.SIGCONT)
  time.sleep(1.0)
  run.settle(second)
  assert first.poll() is None
  assert run.result(task) == result
  assert result.status == "ok"
  assert [t.id for t in run.view.tasks.values()] == [task.id]
  assert notes.read_text().split().count("train") == 2


def test_clean_stop_hands_the_task_back(run, process):
  task = run.propose(score=1.0, sleeps=100)
  first = process(ttl=30.0)
  pid = _wait_for(None, run.folder / "scratch" / task.id / "pid")
  assert [held.task for held in run.records.leases([task.id])] == [task.id]
  first.send_signal(signal.SIGTERM)
  assert first.wait(5) == 0
  assert _gone(pid)
  assert run.records.leases([task.id]) == []
  assert (run.folder / "scratch" / task.id / "try-0").exists()


def _wait_until(condition, seconds=15.0):
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.02)


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
