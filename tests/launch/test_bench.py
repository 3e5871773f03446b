"""The benchmark's command where there is nothing to measure with."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("on", ["tpu-small", "tpu-lengths"])
def test_without_libtpu_one_line_says_that_nothing_was_checked(on, tmp_path):
  if importlib.util.find_spec("libtpu") is not None:
    pytest.skip("libtpu is installed here")
  figures = tmp_path / "figures.json"
  flags = [f"--on={on}", f"--json={figures}"]
  done = subprocess.run(
    [sys.executable, "-m", "launch.bench", "kernels", *flags],
    capture_output=True,
    text=True,
    timeout=120,
    env=dict(os.environ),
    cwd=pathlib.Path(__file__).resolve().parents[2],
    check=False,
  )
  assert done.returncode == 3
  assert done.stdout == ""
  assert done.stderr == (
    "not checked: libtpu is not installed (pip install "
    "'asi-evolve-jax[tpu-aot]' in an environment of its own)\n"
  )
  assert not figures.exists()
