"""Worker processes: real ones, killed, starved and lied to."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from asi_evolve_jax.evaluation.jail import Sandbox
from asi_evolve_jax.evaluation.limits import Limits
from asi_evolve_jax.evaluation.stages import Stage, StageRequest
from asi_evolve_jax.evaluation.workers import (
  InlinePool,
  WorkerError,
  WorkerPool,
)

# What processes do by themselves; test_escapes.py is about the jail.
OPEN = Sandbox("none")
HERE = str(pathlib.Path(__file__).parent)


@pytest.fixture(scope="module", autouse=True)
def _stages_importable():
  sys.path.insert(0, HERE)
  yield
  sys.path.remove(HERE)


@pytest.fixture(scope="module")
def pool(_stages_importable):
  pool = WorkerPool(
    ["worker_stages"],
    Limits(memory_bytes=512 << 20, reply_bytes=64 << 20, log_bytes=100_000),
    sandbox=OPEN,
    environ={
      **os.environ,
      "GEMINI_API_KEY": "not-for-you",
      "MY_TOKEN": "not-for-you",
      "SOME_SETTING": "not-for-you",
      "JAX_SECRET_KEY": "not-for-you",
    },
  )
  yield pool
  pool.close()


def stage(name, trusted=False):
  return Stage(name=name, entry=f"worker_stages:{name}", trusted=trusted)


def request(tmp_path, **kwargs):
  values = {
    "source": "x = 1",
    "payload": b"abc",
    "seeds": (0, 1),
    "options": {},
    "scratch": str(tmp_path / "scratch"),
    "cache": "",
    "deadline_s": 20.0,
    "author": "symbolic",
  }
  return StageRequest(**(values | kwargs))


def finish(pool, job, seconds=20.0):
  until = time.monotonic() + seconds
  while (outcome := job.poll()) is None:
    assert time.monotonic() < until, "the job does not end"
    pool.wait(0.05)
  return outcome


def run(pool, tmp_path, name, core=None, **kwargs):
  job = pool.start(stage(name), request(tmp_path, **kwargs), core)
  return finish(pool, job)


def alive(pid):
  try:
    with open(f"/proc/{pid}/stat") as f:
      return f.read().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False


def wait_dead(pids, seconds=5.0):
  until = time.monotonic() + seconds
  while any(map(alive, pids)) and time.monotonic() < until:
    time.sleep(0.02)
  return [pid for pid in pids if alive(pid)]


def test_reply_comes_back_whole(pool, tmp_path):
  outcome = run(pool, tmp_path, "echo", options={"depth": 3})
  assert outcome.status == "ok"
  assert outcome.error == ""
  assert outcome.reply.payload == b"cba"
  assert outcome.reply.metrics == ({"score": 0.0}, {"score": 1.0})
  assert outcome.reply.report["options"] == {"depth": 3}
  assert outcome.reply.cost == {"flops": 12.0}
  loss = outcome.reply.curves["loss"]
  assert loss.dtype == np.float32
  np.testing.assert_array_equal(loss, np.arange(6).reshape(2, 3))
  assert 0 < outcome.wall_seconds < 20
  assert 0 < outcome.cpu_seconds < 20
  assert outcome.peak_memory_bytes > 1 << 20
  assert "hello from the stage" in outcome.log
  log = tmp_path / "scratch" / "echo.log"
  assert log.read_text() == "hello from the stage\n"


def test_each_stage_has_a_process_of_its_own(pool, tmp_path):
  pids = {run(pool, tmp_path, "echo").reply.report["pid"] for _ in range(3)}
  assert len(pids) == 3
  assert os.getpid() not in pids


def test_large_payloads_go_both_ways(pool, tmp_path):
  outcome = run(pool, tmp_path, "echo", payload=b"0123456789" * 2_000_000)
  assert outcome.reply.payload == b"9876543210" * 2_000_000
  assert len(run(pool, tmp_path, "large").reply.payload) == 48 << 20


def test_worker_sees_no_secret_and_nothing_inherited(pool, tmp_path):
  core = max(os.sched_getaffinity(0))
  report = run(pool, tmp_path, "facts", core=core).reply.report
  for name in ("environ", "proc_environ", "parent_environ"):
    assert "not-for-you" not in str(report[name]), name
    assert "JAX_PLATFORMS" in str(report[name])
  assert report["session"] == report["pid"] != os.getsid(0)
  assert report["cwd"] == str(tmp_path / "scratch")
  assert report["affinity"] == [core]
  assert report["core"] == 0
  assert 4096 < report["processes"] < 4096 + 50_000
  assert report["stdin"] == "/dev/null"
  kinds = sorted(v.split(":")[0] for v in report["descriptors"].values())
  # stdin; stdout and stderr; the connection; (the listing itself is gone)
  assert kinds == ["/dev/null", "pipe", "pipe", "socket"]
  assert "jax" not in report["modules"]


@pytest.mark.parametrize(
  ("name", "status", "parts"),
  [
    ("raises", "failed", ["the width must divide 64", "Traceback"]),
    ("exits", "failed", ["SystemExit: 3"]),
    ("hard_exit", "failed", ["exit code 7", "gone without a word"]),
    ("wrong_type", "failed", ["returned dict, not a StageReply"]),
    ("unsendable", "failed", ["cannot send its reply"]),
    ("crash", "failed", ["crashed with SIGSEGV"]),
    ("killed", "lost", ["killed by SIGKILL"]),
    ("garbage", "failed", ["not a frame"]),
    ("huge", "failed", ["larger than 67108864 bytes"]),
    ("forged", "failed", ["larger than what was sent"]),
    ("hungry", "failed", ["0.5 GiB", "config.workers.memory_gb"]),
    ("missing", "failed", ["missing"]),
  ],
)
def test_bad_ends(pool, tmp_path, name, status, parts):
  outcome = run(pool, tmp_path, name)
  assert outcome.status == status
  for part in parts:
    assert part in outcome.error
  assert outcome.reply.metrics == ()
  assert len(outcome.error) < 3000


def test_output_is_capped_and_its_end_kept(pool, tmp_path):
  outcome = run(pool, tmp_path, "chatty")
  assert outcome.status == "ok"
  assert outcome.log.endswith("the last line\n")
  log = tmp_path / "scratch" / "chatty.log"
  assert 100_000 <= log.stat().st_size < 120_000
  text = log.read_text()
  assert "bytes cut" in text
  assert text.endswith("the last line\n")


def test_deadline_kills_all_descendants(pool, tmp_path):
  outcome = run(pool, tmp_path, "family", deadline_s=1.5)
  assert outcome.status == "timeout"
  assert "after its 1.5 s" in outcome.error
  assert 1.4 < outcome.wall_seconds < 4.0
  names = ("self", "child", "session", "orphan")
  pids = [int((tmp_path / "scratch" / n).read_text()) for n in names]
  assert wait_dead(pids, 0.5) == []


def test_descendants_do_not_outlive_a_stage_that_returns(pool, tmp_path):
  outcome = run(pool, tmp_path, "family", options={"return": True})
  assert outcome.status == "ok"
  names = ("child", "session", "orphan")
  pids = [int((tmp_path / "scratch" / n).read_text()) for n in names]
  assert wait_dead(pids, 0.5) == []


def test_kill_returns_when_all_is_dead(pool, tmp_path):
  job = pool.start(stage("sleeps"), request(tmp_path))
  path = tmp_path / "scratch" / "self"
  while not (path.exists() and path.read_text()):
    time.sleep(0.01)
  job.kill()
  assert not alive(int(path.read_text()))
  assert job.poll().status == "lost"


def test_several_at_once(pool, tmp_path):
  jobs = [
    pool.start(
      stage("sleeps"),
      request(tmp_path / str(i), options={"seconds": 0.5}),
    )
    for i in range(4)
  ]
  started = time.monotonic()
  assert all(finish(pool, job).status == "ok" for job in jobs)
  assert time.monotonic() - started < 1.5


def test_pool_survives_the_death_of_its_server(tmp_path):
  pool = WorkerPool(["worker_stages"], sandbox=OPEN)
  try:
    job = pool.start(stage("sleeps"), request(tmp_path))
    path = tmp_path / "scratch" / "self"
    while not (path.exists() and path.read_text()):
      time.sleep(0.01)
    pool._server.kill()
    outcome = finish(pool, job)
    assert outcome.status == "lost"
    assert "the fork server ended" in outcome.error
    assert wait_dead([int(path.read_text())]) == []
    assert run(pool, tmp_path, "echo").status == "ok"
  finally:
    pool.close()


def test_import_that_fails_is_said_at_once(tmp_path):
  pool = WorkerPool(["no_such_module_here"])
  with pytest.raises(WorkerError, match="no_such_module_here"):
    finish(pool, pool.start(stage("echo"), request(tmp_path)))


ENGINEER = """
import sys, time
sys.path.insert(0, {here!r})
from test_workers import *
pool = WorkerPool(["worker_stages"], Limits(silence_s={silence}), sandbox=OPEN)
job = pool.start(stage("family"), request(pathlib.Path({scratch!r})))
print("started", flush=True)
while True:
  job.poll()
  time.sleep(0.05)
"""


@pytest.mark.parametrize(
  ("number", "silence"), [(signal.SIGKILL, 0.0), (signal.SIGSTOP, 1.0)]
)
def test_workers_die_with_a_dead_or_silent_engineer(tmp_path, number, silence):
  program = textwrap.dedent(ENGINEER).format(
    here=HERE, scratch=str(tmp_path), silence=silence
  )
  engineer = subprocess.Popen([sys.executable, "-c", program])
  try:
    names = ("self", "child", "session", "orphan")
    files = [tmp_path / "scratch" / n for n in names]
    until = time.monotonic() + 20
    while not all(f.exists() and f.read_text() for f in files):
      assert time.monotonic() < until
      time.sleep(0.02)
    pids = [int(f.read_text()) for f in files]
    assert all(map(alive, pids))
    engineer.send_signal(number)
    assert wait_dead(pids) == []
  finally:
    engineer.kill()
    engineer.wait()


def test_inline_pool_gives_the_same_outcomes(tmp_path):
  pool = InlinePool()
  outcome = finish(pool, pool.start(stage("echo"), request(tmp_path)))
  assert outcome.status == "ok"
  assert outcome.reply.payload == b"cba"
  outcome = finish(pool, pool.start(stage("raises"), request(tmp_path)))
  assert outcome.status == "failed"
  assert "the width must divide 64" in outcome.error


def test_limits_are_plain_data():
  assert Limits(**dataclasses.asdict(Limits())) == Limits()
