"""A study of several runs: in turn, once each, on after a failure or a stop."""

import subprocess
import sys
import threading
import time

import pytest

from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import Milestone
from asi_evolve_jax.supervisor.study import Study, trials


def _finish(trial):
  records = Records.open(str(trial.folder / "records"))
  records.put(Milestone(name="finished", by="test"))


class Runs:
  """Commands that note their start and end with a given code."""

  def __init__(self, out, codes=None, seconds=0.0):
    self.notes = out / "notes"
    self.codes = codes or {}
    self.seconds = seconds
    self.said = []

  def study(self, planned, parallel=1):
    return Study(planned, self.command, parallel=parallel, say=self.said.append)

  def command(self, trial):
    name = f"{trial.condition}{trial.seed}"
    code = self.codes.get(name, 0)
    script = (
      f"echo {name} >> {self.notes}; sleep {self.seconds};"
      f" echo end >> {self.notes}; echo last words of {name}; exit {code}"
    )
    return ["sh", "-c", script]

  def started(self):
    lines = self.notes.read_text().split() if self.notes.exists() else []
    return [line for line in lines if line != "end"]


@pytest.fixture
def planned(tmp_path):
  return trials(("a", "b"), range(2), tmp_path)


def test_seed_by_seed_and_what_is_finished_is_left_alone(tmp_path, planned):
  runs = Runs(tmp_path)
  assert runs.study(planned).run() == 0
  assert runs.started() == ["a0", "b0", "a1", "b1"]
  for trial in planned[1:]:
    _finish(trial)
  assert [trial.finished for trial in planned] == [False, True, True, True]
  again = Runs(tmp_path)
  again.notes = tmp_path / "again"
  assert again.study(planned).run() == 0
  assert again.started() == ["a0"]
  assert "3/4 a, seed 0: finished" in again.said[0]


def test_a_failure_is_said_and_the_others_go_on(tmp_path, planned):
  runs = Runs(tmp_path, {"b0": 1})
  assert runs.study(planned).run() == 1
  assert runs.started() == ["a0", "b0", "a1", "b1"]
  said = next(line for line in runs.said if line.startswith("b, seed 0"))
  assert "ended with code 1" in said
  assert "last words of b0" in said


def test_a_config_that_is_refused_ends_the_study(tmp_path, planned):
  runs = Runs(tmp_path, {"a0": 2})
  assert runs.study(planned).run() == 2
  assert runs.started() == ["a0"]


def test_no_more_run_at_a_time_than_allowed(tmp_path, planned):
  runs = Runs(tmp_path, seconds=0.5)
  assert runs.study(planned, parallel=2).run() == 0
  at_once = most = 0
  for line in runs.notes.read_text().split():
    at_once += 1 if line != "end" else -1
    most = max(most, at_once)
  assert most == 2


def test_a_stop_ends_what_runs(tmp_path, planned):
  runs = Runs(tmp_path, seconds=60)
  study = runs.study(planned)
  codes = []
  thread = threading.Thread(target=lambda: codes.append(study.run()))
  began = time.monotonic()
  thread.start()
  while not runs.started():
    assert time.monotonic() - began < 30
    time.sleep(0.01)
  study.stop()
  thread.join(timeout=30)
  assert codes == [3]
  assert runs.started() == ["a0"]


def test_the_app_names_the_conditions_there_are(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "launch.ablation"),
      *("--conditions=ful", f"--out={tmp_path}"),
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 2
  assert "no condition ful; there are full, no_cognition" in done.stderr
