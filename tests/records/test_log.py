"""The log: nothing is missed, nothing comes twice, little is read."""

from __future__ import annotations

import math
import threading
import time

import pytest
from records_kit import (
  analysis,
  fast,
  milestone,
  program,
  proposal,
  result,
  task,
)

from asi_evolve_jax.records import log as log_module
from asi_evolve_jax.records.store import StoreError


def _names(records) -> list[str]:
  return [r.key for r in records]


@pytest.fixture
def url(tmp_path):
  return f"memory://{tmp_path.name}-{time.monotonic_ns()}/"


def test_each_record_comes_once_over_many_buckets(url):
  writers = [fast(url, bucket_size=5) for _ in range(3)]
  reader = fast(url, bucket_size=5)
  _, cursor = reader.follow()
  seen = []
  for n in range(100):
    writers[n % 3].put(program(n), task(n))
    if n % 4 == 0:
      news, cursor = reader.follow(cursor)
      seen += _names(news)
  news, cursor = reader.follow(cursor)
  seen += _names(news)
  assert sorted(seen) == sorted(
    key for n in range(100) for key in (program(n).key, task(n).key)
  )
  # Writers that do not follow count their own entries for a while.
  assert len(reader.store.keys("log/00000000/")) in range(5, 16)
  assert cursor.records == 200


def test_concurrent_writers_and_followers_agree(tmp_path):
  """Threads with handles of their own, on files, with small buckets."""
  url = tmp_path / "r"
  fast(url).put(milestone("begun"))
  done = threading.Event()
  begun = threading.Barrier(5)  # who begins later has no past to look back on

  def write(first: int) -> None:
    handle = fast(url, bucket_size=7)
    begun.wait()
    for n in range(first, first + 60):
      handle.put(program(n))

  def read(found: list[str]) -> None:
    handle = fast(url, bucket_size=7)
    news, cursor = handle.follow()
    found += _names(news)
    begun.wait()
    # An entry of a writer that had to wait for a processor lands in a bucket
    # that was passed: the sweep, once a second, brings it.
    until = math.inf
    while time.monotonic() < until and len(found) < 181:
      news, cursor = handle.follow(cursor)
      found += _names(news)
      time.sleep(0.005)
      if done.is_set():
        until = min(until, time.monotonic() + 5)
    news, cursor = handle.follow(cursor)
    found += _names(news)  # nothing comes twice

  found: list[list[str]] = [[], []]
  readers = [threading.Thread(target=read, args=(f,)) for f in found]
  writers = [threading.Thread(target=write, args=(k * 60,)) for k in range(3)]
  for thread in readers + writers:
    thread.start()
  for thread in writers:
    thread.join()
  done.set()
  for thread in readers:
    thread.join()
  expected = sorted(
    [milestone("begun").key] + [program(n).key for n in range(180)]
  )
  assert sorted(found[0]) == sorted(found[1]) == expected


def test_clocks_ten_minutes_apart_hide_nothing(url):
  """The one behind writes names that sort before all that was read."""
  ahead = fast(url, bucket_size=10, clock=lambda: time.time() + 600)
  behind = fast(url, bucket_size=10, clock=lambda: time.time() - 600)
  reader = fast(url, bucket_size=10)
  _, cursor = reader.follow()
  for n in range(40):
    (ahead if n % 2 else behind).put(program(n))
    news, cursor = reader.follow(cursor)
    assert _names(news) == [program(n).key]


def _late_write(url, bucket: int, n: int) -> None:
  """Appends to `bucket` as a writer would that was stopped before it wrote."""
  writer = fast(url)
  writer._log._bucket, writer._log._count = bucket, 0
  writer._log._known_at = time.monotonic()
  writer.put(program(n))


def test_a_late_writer_is_seen_in_an_older_bucket(url, monkeypatch):
  writer = fast(url, bucket_size=4)
  reader = fast(url, bucket_size=4)
  for n in range(20):
    writer.put(program(n))
  _, cursor = reader.follow()
  assert cursor.bucket == 4
  _late_write(url, 2, 100)
  monkeypatch.setattr(log_module, "_SWEEP_S", 0.0)
  news, cursor = reader.follow(cursor)
  assert _names(news) == [program(100).key]
  assert cursor.bucket == 4
  assert reader.follow(cursor)[0] == []


@pytest.mark.parametrize("begun", [False, True])
def test_buckets_passed_between_two_polls_may_still_grow(
  url, monkeypatch, begun
):
  """Several fill between two polls, then a slow writer adds to the first."""
  writer = fast(url, bucket_size=2)
  if begun:
    writer.put(milestone("begun"))
  reader = fast(url, bucket_size=2)
  _, cursor = reader.follow()
  for n in range(12):
    writer.put(program(n))
  assert len(reader.follow(cursor)[0]) == 12
  assert cursor.bucket >= 5
  _late_write(url, 0, 100)
  assert _names(reader.follow(cursor)[0]) == [program(100).key]
  monkeypatch.setattr(log_module, "_LATE_S", 0.0)
  _late_write(url, 1, 101)
  assert reader.follow(cursor)[0] == []  # by sweeps only, from here on
  monkeypatch.setattr(log_module, "_SWEEP_S", 0.0)
  assert _names(reader.follow(cursor)[0]) == [program(101).key]
  for n in range(12, 40):
    writer.put(program(n))
  assert len(reader.follow(cursor)[0]) == 28
  _late_write(url, 1, 102)
  assert _names(reader.follow(cursor)[0]) == [program(102).key]
  # Once the horizon has passed, only `reconcile` looks there.
  monkeypatch.setattr(log_module, "_HORIZON_S", 0.0)
  _late_write(url, 1, 103)
  assert reader.follow(cursor)[0] == []
  assert _names(reader.reconcile(cursor)[0]) == [program(103).key]


def test_what_comes_later_than_the_horizon_is_found_by_reconcile(url):
  writer = fast(url, bucket_size=2)
  for n in range(40):
    writer.put(program(n))
  reader = fast(url, bucket_size=2)
  _, cursor = reader.follow()
  _late_write(url, 0, 100)
  assert reader.follow(cursor)[0] == []
  news, cursor = reader.reconcile(cursor)
  assert _names(news) == [program(100).key]
  assert reader.reconcile(cursor)[0] == []


def test_entries_of_other_kinds_are_not_read(url):
  writer, reader = fast(url), fast(url)
  _, cursor = reader.follow(kinds=["task", "result"])
  reader.operations.clear()
  for n in range(10):
    writer.put(program(n), proposal(n))
  assert reader.follow(cursor)[0] == []
  assert reader.operations["get"] == 0
  writer.put(program(50), task(50))
  news, cursor = reader.follow(cursor)
  assert _names(news) == [task(50).key]
  assert reader.operations["get"] == 1


def test_kinds_must_exist(url):
  with pytest.raises(ValueError, match="tasks"):
    fast(url).follow(kinds=["tasks"])


def test_what_a_handle_wrote_it_need_not_read(url):
  handle = fast(url)
  _, cursor = handle.follow()
  handle.put(program(1), task(1))
  handle.operations.clear()
  assert len(handle.follow(cursor)[0]) == 2
  assert handle.operations == {"list": 1}


@pytest.mark.parametrize("damage", [b"", b"{", b'[{"key":1}]', b"[1]", b"7"])
def test_a_damaged_entry_is_set_aside_and_its_records_are_found(
  url, caplog, damage
):
  writer, reader = fast(url), fast(url)
  _, cursor = reader.follow()
  writer.put(program(1))
  (name,) = writer.store.keys("log/")
  writer.store.delete(name)
  writer.store.create(name, damage)
  writer.put(program(2))
  news, cursor = reader.follow(cursor)
  assert _names(news) == [program(2).key]
  assert reader.set_aside == [name]
  assert name in caplog.text
  news, cursor = reader.follow(cursor)
  assert _names(news) == [program(1).key]
  assert reader.follow(cursor)[0] == []
  # It was logged again: a follower that does not reconcile sees it, too.
  other = fast(url)
  blank = other.cursor()
  items, _ = other._log.read(blank, lambda key, body: key)
  assert sorted(items) == [program(1).key, program(2).key]


def test_a_read_that_fails_is_repeated_whole(url, monkeypatch):
  writer, reader = fast(url), fast(url)
  _, cursor = reader.follow()
  for n in range(3):
    writer.put(program(n))

  def broken(keys):
    raise StoreError("the network is down")

  with monkeypatch.context() as patch:
    patch.setattr(reader.store, "get_many", broken)
    with pytest.raises(StoreError, match="network"):
      reader.follow(cursor)
  news, cursor = reader.follow(cursor)
  assert _names(news) == [program(n).key for n in range(3)]


def test_position_is_short_and_grows(url):
  writer, reader = fast(url, bucket_size=3), fast(url, bucket_size=3)
  _, cursor = reader.follow()
  positions = [cursor.position]
  for n in range(7):
    writer.put(program(n), task(n))
    _, cursor = reader.follow(cursor)
    positions.append(cursor.position)
  assert positions[0] == "0.0.0"
  assert positions[-1] == "2.1.14"
  assert len(set(positions)) == 8


def test_a_poll_stays_cheap(url):
  """One list, and one read a commit of somebody else, at any length."""
  writer, reader = fast(url), fast(url)
  for n in range(450):
    writer.put(task(n))
  _, cursor = reader.follow()
  for n in range(450, 470):
    reader.operations.clear()
    writer.put(task(n), result(task(n), 1.0), analysis(result(task(n), 1.0)))
    assert len(reader.follow(cursor)[0]) == 3
    assert reader.operations == {"list": 1, "get": 1}
