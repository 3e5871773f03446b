"""`launch.steer` as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

from asi_evolve_jax.supervisor.run import open_or_create, settings_from
from configs.circle_packing import get_config

ROOT = Path(__file__).resolve().parents[2]


def _steer(folder, *arguments):
  url = f"--records={folder / 'records'}"
  return subprocess.run(
    [sys.executable, "-m", "launch.steer", *arguments, url],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_words_are_written_shown_and_refused(tmp_path):
  config = get_config("smoke")
  config.run_dir = str(tmp_path)
  open_or_create(settings_from(config))
  done = _steer(tmp_path, "guide", "prefer optimiser=slsqp", "--author=ann")
  assert done.returncode == 0, done.stderr
  assert "steer/000001: guide prefer optimiser=slsqp, by ann" in done.stdout
  done = _steer(tmp_path, "budget", "rounds=9", "wall_s=60", "--author=bob")
  assert done.returncode == 0, done.stderr
  shown = _steer(tmp_path, "show").stdout
  assert "of 9 rounds" in shown
  assert "wall_s 0 of 60 s" in shown
  done = _steer(tmp_path, "veto", "nobody")
  assert done.returncode == 2
  assert "'nobody' names no Program" in done.stderr
  done = _steer(tmp_path / "nowhere", "pause")
  assert done.returncode == 2
  assert "holds no run" in done.stderr
