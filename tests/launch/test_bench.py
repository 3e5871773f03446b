"""The benchmark's command: with nothing to measure with, and stopped early."""

import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import time
import weakref

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _bench_kernels(*flags: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, "-m", "launch.bench", "kernels", *flags],
    capture_output=True,
    text=True,
    timeout=120,
    cwd=ROOT,
    check=False,
  )


@pytest.mark.parametrize("on", ["tpu-small", "tpu-lengths"])
def test_without_libtpu_one_line_says_that_nothing_was_checked(on, tmp_path):
  if importlib.util.find_spec("libtpu") is not None:
    pytest.skip("libtpu is installed here")
  figures = tmp_path / "figures.json"
  flags = [f"--on={on}", f"--json={figures}"]
  done = _bench_kernels(*flags)
  assert done.returncode == 3
  assert done.stdout == ""
  assert done.stderr == (
    "not checked: libtpu is not installed (pip install "
    "'asi-evolve-jax[tpu-aot]' in an environment of its own)\n"
  )
  assert not figures.exists()


@pytest.mark.parametrize("flag", ["times=8", "times=", "times=1k", "dims=0"])
def test_sizes_that_cannot_be_timed_are_refused(flag):
  done = _bench_kernels(f"--{flag}")
  assert done.returncode != 0
  assert "as in --" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_still_ends_the_run():
  from launch import bench

  before = signal.getsignal(signal.SIGINT)
  try:
    interrupted = bench._note_interrupts()
    assert not interrupted()
    target = set()
    reference = weakref.ref(
      target, lambda _: signal.raise_signal(signal.SIGINT)
    )
    del target  # "Exception ignored in"
    assert reference() is None
    assert interrupted()
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  finally:
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_who_stops_it_keeps_the_rows_that_are_there(tmp_path):
  figures = tmp_path / "figures.json"
  flags = ["--on=cpu", "--dims=8", "--times=64", f"--json={figures}"]
  with subprocess.Popen(
    [sys.executable, "-m", "launch.bench", "kernels", *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  ) as process:
    until = time.monotonic() + 120
    while not figures.exists() and process.poll() is None:
      assert time.monotonic() < until
      time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
  assert process.returncode == 130, err
  rows = json.loads(figures.read_text())["figures"]
  assert 1 <= len(rows) < 9
  assert all(row["mixer"] in out for row in rows)
  assert f"stopped: {len(rows)} rows were measured" in err
