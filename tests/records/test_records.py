"""The port: put, get, follow, reconcile, bytes and arrays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from records_kit import analysis, fast, program, proposal, result, task

from asi_evolve_jax.records import RecordError, Records, View

_HERE = os.path.dirname(__file__)


@pytest.fixture
def url(tmp_path):
  return f"memory://{tmp_path.name}-{time.monotonic_ns()}/"


def test_put_is_once_and_fills_in_the_time(url):
  records = fast(url, clock=lambda: 123.5)
  assert records.put(program(1), task(1), program(1)) == [True, True, False]
  assert records.put(program(1, source="other"), task(2)) == [False, True]
  found = records.get("program", program(1).id)
  assert found.source == "x = 1"
  assert found.created_at == 123.5
  assert records.get("program", "none") is None
  assert records.put() == []
  assert len(records.store.keys("log/")) == 2


def test_a_record_that_cannot_be_written_holds_back_its_commit(url):
  records = fast(url)
  with pytest.raises(RecordError, match="metrics must be finite"):
    records.put(program(1), result(task(1), float("nan")))
  assert records.store.keys("") == []


def test_a_record_at_its_key_speaks_for_a_damaged_copy_in_the_log(url):
  writer, reader = fast(url), fast(url)
  _, cursor = reader.follow()
  writer.put(program(1))
  (name,) = writer.store.keys("log/")
  value, _ = writer.store.get(name)
  writer.store.delete(name)
  writer.store.create(name, value.replace(b'"schema":1', b'"schema":0'))
  news, _ = reader.follow(cursor)
  assert [r.key for r in news] == [program(1).key]
  assert reader.set_aside == []


def test_a_damaged_record_is_set_aside_and_the_follow_goes_on(url, caplog):
  writer, reader = fast(url), fast(url)
  _, cursor = reader.follow()
  writer.put(program(1), program(2))
  key = program(1).key
  (name,) = writer.store.keys("log/")
  for where in (key, name):
    value, _ = writer.store.get(where)
    writer.store.delete(where)
    hurt = value.replace(b'"source":"x = 1"', b'"source":null', 1)
    assert hurt != value
    writer.store.create(where, hurt)
  news, cursor = reader.follow(cursor)
  assert [r.key for r in news] == [program(2).key]
  assert reader.set_aside == [key]
  assert key in caplog.text
  assert "source must be str" in caplog.text
  with pytest.raises(RecordError, match=key):
    reader.get("program", program(1).id)
  # Nor does it come back at every look.
  caplog.clear()
  assert reader.reconcile(cursor)[0] == []
  assert caplog.text == ""


def test_a_damaged_record_that_was_never_logged_is_set_aside(url):
  records = fast(url)
  records.store.create("program/ff", b'{"schema":1,"kind":"program"}')
  records.put(program(1))
  news, _ = records.follow()
  assert [r.key for r in news] == [program(1).key]
  assert records.set_aside == ["program/ff"]


def test_racing_puts_have_one_winner_each(tmp_path):
  """Eight threads with handles of their own put the same 40 records."""
  start = threading.Barrier(8)
  won: list[list[bool]] = []

  def race() -> None:
    handle = fast(tmp_path / "r")
    start.wait()
    won.append([handle.put(task(n))[0] for n in range(40)])

  threads = [threading.Thread(target=race) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert np.array(won).sum(axis=0).tolist() == [1] * 40
  assert len(fast(tmp_path / "r").follow()[0]) == 40


def test_a_crash_between_record_and_log_is_healed(tmp_path):
  """A real process dies by SIGKILL after its records, before its log entry."""
  script = f"""
    import os, signal, sys
    sys.path.insert(0, {_HERE!r})
    from records_kit import fast, program, task
    records = fast({str(tmp_path / "r")!r})
    records.put(program(0))
    records._log.append = lambda items: os.kill(os.getpid(), signal.SIGKILL)
    records.put(program(1), task(1))
    """
  follower = fast(tmp_path / "r")
  _, cursor = follower.follow()
  done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)])
  assert done.returncode == -signal.SIGKILL
  lost = sorted([program(1).key, task(1).key])
  news, cursor = follower.follow(cursor)
  assert [r.key for r in news] == [program(0).key]
  # A role that starts heals it for all ...
  started, _ = fast(tmp_path / "r").follow()
  assert sorted(r.key for r in started) == sorted([program(0).key, *lost])
  # ... so one that only follows sees it, and twice healed is seen once.
  blind = fast(tmp_path / "r")
  blind.reconcile(blind.cursor())
  news, cursor = follower.follow(cursor)
  assert sorted(r.key for r in news) == lost
  assert follower.reconcile(cursor)[0] == []


def test_a_follower_without_news_heals_now_and_then(url):
  now = [0.0]
  writer = fast(url)
  reader = fast(url, monotonic=lambda: now[0])
  _, cursor = reader.follow()
  writer.put(program(0))
  writer._log.append = lambda items: None
  writer.put(program(1))
  found = []
  for now[0] in (10.0, 20.0, 30.0, 39.0, 41.0, 42.0):
    news, cursor = reader.follow(cursor)
    found.append([r.key for r in news])
  assert found == [[program(0).key], [], [], [], [program(1).key], []]
  reader.operations.clear()
  for now[0] in range(43, 71):
    reader.follow(cursor)
  assert reader.operations["list"] <= 2 * 28


def test_bytes_are_named_by_their_content(url):
  records = fast(url)
  name = records.put_bytes(b"artifact")
  assert records.put_bytes(b"artifact") == name
  assert records.get_bytes(name) == b"artifact"
  assert records.get_bytes("0" * 32) is None
  records.store.delete(f"blob/{name}")
  records.store.create(f"blob/{name}", b"artifacT")
  with pytest.raises(RecordError, match="damaged"):
    records.get_bytes(name)


def test_arrays(url):
  records = fast(url)
  curve = np.linspace(0, 1, 7, dtype=np.float32)
  assert records.put_array("task/loss", curve)
  np.testing.assert_array_equal(records.get_array("task/loss"), curve)
  assert records.get_array("task/other") is None
  for name in ("", "/a", "a/", "a//b", "../a", "a b"):
    with pytest.raises(ValueError, match="array name"):
      records.put_array(name, curve)


def test_writer_names_are_made_safe(tmp_path):
  records = Records.open(str(tmp_path), writer="host.example.org/engineer 1")
  records.put(program(1))
  (name,) = records.store.keys("log/")
  assert "-host_example_org_engineer_1-" in name


@pytest.mark.parametrize("before", [0, 2000])
def test_a_round_costs_at_most_eight_operations(url, before):
  """Four roles on handles of their own, in batches of eight, all following."""
  filler = fast(url)
  for start in range(0, before, 100):
    filler.put(*(task(n) for n in range(10**6 + start, 10**6 + start + 100)))
    filler.put(
      *(result(task(n), 1.0) for n in range(10**6 + start, 10**6 + start + 100))
    )
  researcher, engineer, analyzer, cognition = (fast(url) for _ in range(4))
  handles = (researcher, engineer, analyzer, cognition)
  views = {h: View("loss", "minimize") for h in handles}
  cursors = {}
  wanted = {cognition: ["analysis", "insight", "milestone"]}
  for handle in handles:
    news, cursors[handle] = handle.follow(kinds=wanted.get(handle))
    views[handle].update(news)
    handle.operations.clear()

  def poll(handle):
    news, cursors[handle] = handle.follow(cursors[handle])
    views[handle].update(news)
    return news

  rounds = 200
  for first in range(0, rounds, 8):
    poll(researcher)
    researcher.put(
      *(
        record
        for n in range(first, first + 8)
        for record in (program(n), proposal(n), task(n))
      )
    )
    poll(engineer)
    done = []
    for todo in views[engineer].pending():
      assert engineer.acquire(todo.id, 20.0)
      done.append(result(todo, 1.0))
    engineer.put(*done)
    measured = [r for r in poll(analyzer) if r.kind == "result"]
    analyzer.put(*(analysis(r) for r in measured))
    poll(cognition)
  poll(researcher)
  assert views[researcher].rounds() == rounds
  operations = sum(sum(h.operations.values()) for h in handles)
  assert operations / rounds <= 8.0
