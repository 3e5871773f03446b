"""Records under real processes and real signals."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records_kit import fast, number, program, result, task

from asi_evolve_jax.records import Records

_WORKERS = Path(__file__).with_name("record_workers.py")
_REPOSITORY = _WORKERS.parents[2]


@pytest.fixture
def start():
  """Starts a function of record_workers; kills what is left at the end."""
  started: list[subprocess.Popen] = []

  def run(what: str, url, *arguments) -> subprocess.Popen:
    process = subprocess.Popen(
      [sys.executable, str(_WORKERS), what, str(url), *map(str, arguments)],
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
    )
    started.append(process)
    return process

  yield run
  for process in started:
    if process.poll() is None:
      process.kill()
    process.wait()


def _finish(process: subprocess.Popen) -> dict:
  out, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_eight_processes_do_two_thousand_tasks_once_each(tmp_path, start):
  records = Records.open(str(tmp_path))
  count = 2000
  for first in range(0, count, 250):
    records.put(*(task(n) for n in range(first, first + 250)))
  workers = [start("work", tmp_path, k, 600.0, count) for k in range(8)]
  reports = [_finish(w) for w in workers]
  done = collections.Counter(t for r in reports for t in r["done"])
  assert set(done) == {task(n).id for n in range(count)}
  assert set(done.values()) == {1}
  assert sum(r["won"] for r in reports) == count
  news, _ = records.follow(kinds=["result"])
  assert len(news) == count


def test_a_process_killed_with_a_lease_loses_nothing(tmp_path, start):
  records = Records.open(str(tmp_path))
  asked = task(1)
  records.put(program(1), asked)
  holder = start("hold", tmp_path, asked.id, 1.0)
  assert holder.stdout.readline() == "held\n"
  holder.send_signal(signal.SIGKILL)
  report = _finish(start("work", tmp_path, 1, 1.0, 1))
  assert report == {"done": [asked.id], "won": 1}
  news, _ = records.follow()
  assert sorted(r.kind for r in news) == ["program", "result", "task"]


def test_a_process_stopped_past_its_lease_doubles_nothing(tmp_path, start):
  records = Records.open(str(tmp_path))
  asked = task(1)
  records.put(asked)
  holder = start("hold", tmp_path, asked.id, 0.6)
  assert holder.stdout.readline() == "held\n"
  holder.send_signal(signal.SIGSTOP)
  report = _finish(start("work", tmp_path, 1, 0.6, 1))
  assert report == {"done": [asked.id], "won": 1}
  holder.send_signal(signal.SIGCONT)
  # It learns that its lease is lost, and its Result comes second.
  assert _finish(holder) == {"put": [False]}
  found = records.get("result", asked.id)
  assert found.metrics == ({"loss": 1.0},)
  assert len(records.follow(kinds=["result"])[0]) == 1


def test_writers_killed_at_any_moment_lose_no_commit_they_made(tmp_path, start):
  """What a put returned for is there; what it began is whole or absent."""
  said = 0
  for kill in range(4):
    writer = start("fill", tmp_path, kill * 1000, 900)
    count = 0
    while count < 20 + 7 * kill:
      count = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().splitlines()
    said += int(rest[-1]) if rest else count
  reader = fast(tmp_path)
  news, cursor = reader.follow()
  keys = [r.key for r in news]
  assert len(keys) == len(set(keys))
  assert sum(r.kind == "task" for r in news) >= said
  assert sum(r.kind == "task" for r in news) <= said + 4
  assert reader.set_aside == []
  # The store goes on working where they stopped.
  assert reader.put(result(task(0), 1.0)) == [True]
  assert len(reader.follow(cursor)[0]) == 1


def test_a_new_record_is_noticed_within_half_a_second(tmp_path, start):
  reader = fast(tmp_path)
  _, cursor = reader.follow()
  writer = start("fill", tmp_path, 0, 30)
  written: dict[int, float] = {}
  noticed: dict[int, float] = {}
  os.set_blocking(writer.stdout.fileno(), False)
  end = time.monotonic() + 30
  while len(noticed) < 30 and time.monotonic() < end:
    for line in writer.stdout.readlines():
      written[int(line)] = time.monotonic()
    news, cursor = reader.follow(cursor, ["task"])
    for record in news:
      if record.kind == "task":
        noticed[number(record.program) + 1] = time.monotonic()
    time.sleep(0.05)
  late = [noticed[n] - written.get(n, noticed[n]) for n in noticed]
  assert len(noticed) == 30
  assert max(late) < 0.5
