import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from asi_evolve_jax.roles.loop import run_role, setup_logging

PROGRAM = """
import sys, time
from asi_evolve_jax.roles.loop import run_role, setup_logging

class Slow:
  name = "slow"
  def step(self):
    print("step", flush=True)
    {body}
    return False
  def close(self):
    print("closed", flush=True)
    {close}

setup_logging(sys.argv[1])
raise SystemExit(run_role(Slow()))
"""


def start(tmp_path, body="pass", close="pass", env=None):
  program = textwrap.dedent(PROGRAM).format(body=body, close=close)
  process = subprocess.Popen(
    [sys.executable, "-c", program, str(tmp_path / "role.log")],
    stdout=subprocess.PIPE,
    text=True,
    env=env,
  )
  assert process.stdout.readline() == "step\n"
  return process


def finish(process):
  # Not communicate(): it does not see what readline() has buffered.
  watchdog = threading.Timer(10, process.kill)
  watchdog.start()
  out = process.stdout.read()
  process.wait()
  watchdog.cancel()
  return out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_cleanly(tmp_path, number):
  process = start(tmp_path)
  process.send_signal(number)
  out = finish(process)
  assert process.returncode == 0
  assert out.endswith("closed\n")


def test_second_signal_stops_at_once(tmp_path):
  process = start(tmp_path, close="time.sleep(60)")
  process.send_signal(signal.SIGTERM)
  while process.stdout.readline() != "closed\n":
    pass
  process.send_signal(signal.SIGTERM)
  assert process.wait(5) == 130


def test_exceptions_are_logged_without_secrets(tmp_path):
  env = {**os.environ, "SOME_API_KEY": "sk-0123456789"}
  process = start(
    tmp_path, body="raise ValueError('bad key sk-0123456789 here')", env=env
  )
  out = finish(process)
  assert process.returncode == 1
  assert out.endswith("closed\n")
  text = (tmp_path / "role.log").read_text()
  assert "ValueError: bad key [redacted] here" in text
  assert "sk-0123456789" not in text


class Counting:
  name = "counting"

  def __init__(self, busy=0, last=None):
    self.steps = 0
    self.times = []
    self.closed = False
    self.busy = busy
    self.last = last

  @property
  def finished(self):
    return self.last is not None and self.steps >= self.last

  def step(self):
    self.steps += 1
    self.times.append(time.monotonic())
    return self.steps <= self.busy

  def close(self):
    self.closed = True


def test_idle_role_backs_off_but_never_sleeps_long():
  role, stop = Counting(), threading.Event()
  threading.Timer(1.2, stop.set).start()
  assert run_role(role, stop) == 0
  gaps = [b - a for a, b in zip(role.times, role.times[1:], strict=False)]
  assert role.closed
  assert max(gaps) < 0.45  # a Proposal is to be seen within 0.5 s
  assert len(gaps) < 20
  assert gaps[0] < 0.1


def test_busy_role_does_not_sleep_and_ends_when_finished():
  role = Counting(busy=10**9, last=200)
  started = time.monotonic()
  assert run_role(role) == 0
  assert role.steps == 200
  assert time.monotonic() - started < 1.0
  assert role.closed


def test_logging_replaces_other_handlers(tmp_path):
  root = logging.getLogger()
  before, level = list(root.handlers), root.level
  try:
    setup_logging(tmp_path / "a" / "one.log")
    setup_logging(tmp_path / "two.log")
    logging.getLogger("x").info("hello")
    assert "hello" in (tmp_path / "two.log").read_text()
    assert (tmp_path / "a" / "one.log").read_text() == ""
  finally:
    for handler in list(root.handlers):
      root.removeHandler(handler)
    for handler in before:
      root.addHandler(handler)
    root.setLevel(level)
