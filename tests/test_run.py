"""The whole loop, as a person runs it: real processes, real signals."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.supervisor.run import open_or_create, settings_from
from configs.circle_packing import get_config

ROOT = Path(__file__).resolve().parents[1]
ROLES = ("researcher", "engineer", "analyzer", "cognition", "verifier")
pytestmark = pytest.mark.slow


def _start(run_dir, *changes, env=None):
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "launch.evolve",
      "--config=configs/circle_packing.py:smoke",
      f"--config.run_dir={run_dir}",
      *changes,
    ],
    cwd=ROOT,
    env={**os.environ, **(env or {})},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _finish(process, timeout=90):
  out, err = process.communicate(timeout=timeout)
  return process.returncode, out, err


def _view(run_dir):
  view = View("sum_of_radii", "maximize")
  records = Records.open(run_dir / "records")
  news, _ = records.follow()
  view.update(news)
  assert not records.set_aside
  return view


def _wait_for(condition, timeout=60):
  """Returns what `condition` returns once that is true."""
  deadline = time.monotonic() + timeout
  while not (found := condition()):
    assert time.monotonic() < deadline, "it did not happen in time"
    time.sleep(0.05)
  return found


def _results(run_dir):
  folder = run_dir / "records" / "result"
  return len(list(folder.iterdir())) if folder.is_dir() else 0


def _role_process(supervisor, role):
  """Returns the process of a role, or None while it is being started."""
  for child in psutil.Process(supervisor).children():
    try:
      if f"launch.{role}" in child.cmdline():
        return child
    except psutil.Error:
      continue  # it has just ended
  return None


def _complete(run_dir):
  """Asserts a finished run in which every Task was done exactly once."""
  view = _view(run_dir)
  assert "finished" in view.milestones
  ended = view.milestones["search-ended"].detail["reason"]
  errors = {r.error for r in view.results.values() if r.error}
  assert ended == "rounds: 6 of 6", (ended, errors)
  assert view.rounds() == 6
  assert not view.pending()
  assert set(view.results) == set(view.tasks)
  keys = [
    (t.program, t.rung, t.seeds, t.purpose, t.attempt)
    for t in view.tasks.values()
  ]
  assert len(keys) == len(set(keys))
  return view


def test_a_run_ends_with_a_report_and_a_program_that_runs(tmp_path):
  secret = "sk-loop-test-4711"
  code, out, err = _finish(
    _start(tmp_path, env={"GEMINI_API_KEY": secret, "SOME_TOKEN": secret})
  )
  assert code == 0, err
  view = _complete(tmp_path)
  report = tmp_path / "report"
  tables = json.loads((report / "leaderboard.json").read_text())["tables"]
  assert [r["rank"] for r in tables["explore"]][:2] == [1, 2]
  scores = [r["score"] for r in tables["explore"]]
  assert scores == sorted(scores, reverse=True)
  assert tables["verify"], "finalists and baselines were verified"
  assert (report / "progress.png").stat().st_size > 1000
  assert "Round" in (report / "lineage.md").read_text()
  pack = runpy.run_path(str(report / "best.py"))["pack"]
  centers, radii = pack(26, 0, 5)
  assert centers.shape == (26, 2)
  assert 1.0 < radii.sum() < 2.64
  assert "Report:" in out
  # Analyses and what they taught were written.
  assert view.analyses_of
  for role in ROLES:
    assert (tmp_path / "logs" / f"{role}.log").is_file()
  for path in tmp_path.rglob("*"):
    if path.is_file():
      assert secret.encode() not in path.read_bytes(), path


def test_every_role_and_then_all_killed_and_the_run_goes_on(tmp_path):
  process = _start(tmp_path)
  try:
    _wait_for(lambda: _results(tmp_path) >= 2)
    for role in ROLES:
      _wait_for(lambda r=role: _role_process(process.pid, r)).kill()
    _wait_for(lambda: _results(tmp_path) >= 4)
    family = psutil.Process(process.pid).children(recursive=True)
  finally:
    process.kill()
    process.communicate()
  for child in family:
    try:
      child.kill()
    except psutil.NoSuchProcess:
      continue
  before = _results(tmp_path)
  code, _, err = _finish(_start(tmp_path))
  assert code == 0, err
  assert len(_complete(tmp_path).results) >= before


def test_the_first_ctrl_c_stops_cleanly_and_the_command_resumes(tmp_path):
  process = _start(tmp_path)
  _wait_for(lambda: _results(tmp_path) >= 2)
  roles = psutil.Process(process.pid).children(recursive=True)
  process.send_signal(signal.SIGINT)
  code, out, err = _finish(process, timeout=30)
  assert code == 3, err
  assert "Report:" in out
  _, alive = psutil.wait_procs(roles, timeout=5)
  assert not alive
  done = set(_view(tmp_path).results)
  code, _, err = _finish(_start(tmp_path))
  assert code == 0, err
  assert done <= set(_complete(tmp_path).results)


@pytest.mark.slow
def test_two_supervisors_on_one_run_do_no_harm(tmp_path):
  first, second = _start(tmp_path), _start(tmp_path)
  codes = [_finish(p)[0] for p in (first, second)]
  assert codes == [0, 0]
  view = _view(tmp_path)
  assert "finished" in view.milestones
  assert set(view.results) >= {
    t.id for t in view.tasks.values() if t.purpose == "verify"
  }


def test_another_config_is_refused_with_the_difference(tmp_path):
  config = get_config("smoke")
  config.run_dir = str(tmp_path)
  open_or_create(settings_from(config))
  code, _, err = _finish(_start(tmp_path, "--config.rounds=7"))
  assert code == 2
  assert "config.rounds: 6 -> 7" in err


def test_a_wrong_setting_is_refused_with_the_remedy(tmp_path):
  code, _, err = _finish(
    _start(tmp_path, "--config.researcher.proposer=symbolik")
  )
  assert code == 2
  assert "symbolic" in err
  assert not (tmp_path / "records").exists()
