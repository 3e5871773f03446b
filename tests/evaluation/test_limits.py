import os
import subprocess
import sys
import time

import pytest

from asi_evolve_jax.evaluation import limits as lib
from asi_evolve_jax.evaluation.benchmark import bench_start

ENVIRON = {
  "PATH": "/usr/bin",
  "LC_ALL": "C",
  "JAX_PLATFORMS": "tpu",
  "JAX_COMPILER_SECRET": "secret-1",
  "XLA_FLAGS": "--xla_dump_to=x",
  "GEMINI_API_KEY": "secret-2",
  "AWS_SESSION_TOKEN": "secret-3",
  "DB_PASSWORD": "secret-4",
  "UNKNOWN": "not allowed",
  "SHORT_KEY": "1",
}


def test_environment_is_an_allow_list():
  clean = lib.scrubbed_environment(ENVIRON)
  assert set(clean) == {"PATH", "LC_ALL", "JAX_PLATFORMS", "XLA_FLAGS"}
  assert lib.scrubbed_environment(clean) == clean
  kept = lib.scrubbed_environment(ENVIRON, keep=["UNKNOWN"])
  assert kept["UNKNOWN"] == "not allowed"


def test_secret_values_are_what_logs_must_not_hold():
  values = lib.secret_values(ENVIRON)
  assert set(values) == {f"secret-{i}" for i in (1, 2, 3, 4)}


def test_worker_environment():
  chosen = lib.worker_environment(ENVIRON, single_thread=True)
  assert chosen["JAX_PLATFORMS"] == "tpu"
  assert chosen["XLA_FLAGS"] == "--xla_dump_to=x"
  cpu = lib.worker_environment({"PATH": "/bin"}, single_thread=True)
  assert cpu["JAX_PLATFORMS"] == "cpu"
  assert cpu["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=false"
  assert cpu["PYTHONHASHSEED"] == "0"
  many = lib.worker_environment({}, single_thread=False)
  assert "XLA_FLAGS" not in many


def test_default_cores():
  here = sorted(os.sched_getaffinity(0))
  assert lib.default_cores(0, pin=True) == tuple(here)
  more = lib.default_cores(len(here) + 1, pin=True)
  assert more == (*here, here[0])
  assert lib.default_cores(3, pin=False) == (None,) * 3


def test_children_of_finds_direct_children():
  child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
  try:
    assert child.pid in lib.children_of(os.getpid())
    assert os.getpid() not in lib.children_of(os.getpid())
  finally:
    child.communicate(b"\n")
  assert child.pid not in lib.children_of(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_usage_counts_who_was_waited_for_already():
  """Below the process: one whose own child has worked and ended."""
  code = (
    "import os, time\n"
    "if os.fork() == 0:\n"
    "  if os.fork() == 0:\n"
    "    while time.process_time() < 0.1: pass\n"
    "    os._exit(0)\n"
    "  os.wait()\n"
    "  print('waited', flush=True)\n"
    "os.wait() if os.getppid() == PARENT else time.sleep(60)\n"
  ).replace("PARENT", str(os.getpid()))
  with subprocess.Popen(
    [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE
  ) as child:
    assert child.stdout.readline() == b"waited\n"
    below = lib.children_of(child.pid)
    seconds, _ = lib.usage_below(child.pid)
    for pid in (*below, child.pid):
      lib.kill_group(pid)
  assert 0.05 < seconds < 10  # /proc counts whole ticks of 10 ms


def test_kill_group_takes_the_group_and_forgives_the_dead():
  program = (
    "import subprocess, sys\n"
    "p = subprocess.Popen(['sleep', '60'])\n"
    "print(p.pid, flush=True)\np.wait()"
  )
  leader = subprocess.Popen(
    [sys.executable, "-c", program],
    stdout=subprocess.PIPE,
    start_new_session=True,
  )
  sleeper = int(leader.stdout.readline())
  lib.kill_group(leader.pid)
  leader.communicate()
  until = time.monotonic() + 5
  while True:
    try:
      with open(f"/proc/{sleeper}/stat") as f:
        state = f.read().rpartition(")")[2].split()[0]
    except OSError:
      break
    if state == "Z":
      break
    assert time.monotonic() < until
  lib.kill_group(leader.pid)


def test_last_useful_lines():
  noise = "".join(f"step {i}\n" for i in range(1000))
  first = "Traceback (most recent call last):\n  a\nKeyError: 1\n"
  last = "Traceback (most recent call last):\n  b\n%sValueError: x\n\n"
  text = lib.last_useful_lines(noise + first + noise + last % "    ~~^^~\n")
  assert text == (last % "").strip()
  assert lib.last_useful_lines(noise).splitlines() == [
    f"step {i}" for i in range(988, 1000)
  ]
  assert len(lib.last_useful_lines("x" * 10**6)) == 400
  deep = "Traceback (most recent call last):\n" + "  frame\n" * 9999 + "E: x\n"
  assert lib.last_useful_lines(deep).endswith("E: x")
  assert len(lib.last_useful_lines(deep)) < 1600


@pytest.mark.slow
def test_warm_start_beats_cold_start():
  figures = bench_start(1)
  # Idle: 0.16 s, and 12 to 21 times faster. The machine may be busy.
  assert figures["warm_s"] < 1.5
  assert figures["ratio"] > 4
