"""Engineers and workers that die, hang or are told to stop."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest
from engineer_kit import EngineerRun

from asi_evolve_jax.records.schema import Milestone

HERE = str(pathlib.Path(__file__).parent)


@pytest.fixture
def run(tmp_path):
  with EngineerRun(tmp_path) as run:
    yield run


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


def _wait_for(engineer, path):
  until = time.monotonic() + 15
  while not (path.exists() and path.read_text()):
    if engineer is not None:
      engineer.step()
    assert time.monotonic() < until
    time.sleep(0.02)
  return int(path.read_text())


def _wait_until(condition, seconds=15.0):
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.02)


def _gone(pid):
  try:
    with open(f"/proc/{pid}/stat") as f:
      return f.read().rpartition(")")[2].split()[0] == "Z"
  except OSError:
    return True


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
