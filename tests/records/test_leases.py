"""Leases: one holder, taken over by the observer's clock alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest
from records_kit import fast, result, task

_TTL = 20.0


class Clock:
  """Monotonic seconds that a test moves."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self) -> float:
    return self.now


@pytest.fixture
def url(tmp_path):
  return f"memory://{tmp_path.name}-{time.monotonic_ns()}/"


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def observer(url, clock):
  return fast(url, monotonic=clock)


def _wait(observer, clock, seconds: float, step: float = 1.0, name="t"):
  """Tries to acquire at every step; returns the first lease."""
  end = clock.now + seconds
  while clock.now < end:
    clock.now += step
    lease = observer.acquire(name, _TTL)
    if lease:
      return lease
  return None


def test_a_free_task_costs_one_operation(url):
  records = fast(url)
  lease = records.acquire("t", _TTL)
  assert lease.task == "t"
  assert records.operations == {"create": 1}
  assert records.acquire("t", _TTL) is None  # its own, too


def test_a_lease_that_moves_is_never_taken(url, observer, clock):
  lease = fast(url).acquire("t", _TTL)
  for _ in range(10):
    assert _wait(observer, clock, 15.0) is None
    assert lease.renew()


def test_a_lease_that_stands_still_is_taken_over_after_its_time(
  url, observer, clock
):
  lease = fast(url).acquire("t", _TTL)
  assert observer.acquire("t", _TTL) is None
  assert _wait(observer, clock, _TTL) is None
  taken = _wait(observer, clock, 3.0)
  assert taken
  assert not lease.renew()
  assert lease.lost
  assert not lease.release()
  assert taken.renew()


def test_clocks_of_two_hosts_are_never_compared(url, clock):
  """The owner's wall clock is an hour ahead, the observer's a year behind."""
  owner = fast(url, clock=lambda: time.time() + 3600)
  observer = fast(url, clock=lambda: time.time() - 3e7, monotonic=clock)
  assert owner.acquire("t", _TTL)
  assert observer.acquire("t", _TTL) is None
  assert _wait(observer, clock, _TTL) is None
  assert _wait(observer, clock, 3.0)


def test_two_observers_cannot_both_take_over(url, clock):
  fast(url).acquire("t", _TTL)
  observers = [fast(url, monotonic=clock) for _ in range(5)]
  winners = []
  for _ in range(30):
    clock.now += 1.0
    winners += [o for o in observers if o.acquire("t", _TTL)]
  assert len(winners) == 1


def test_a_finished_task_is_not_taken_over(url, observer, clock):
  owner = fast(url)
  asked = task(1)
  owner.put(asked)
  assert owner.acquire(asked.id, _TTL)
  owner.put(result(asked, 1.0))
  assert _wait(observer, clock, 60.0, name=asked.id) is None
  assert owner.store.get(f"lease/{asked.id}")[0] is not None


def test_a_lease_handed_back_is_free(url, observer, clock):
  lease = fast(url).acquire("t", _TTL)
  assert observer.acquire("t", _TTL) is None
  assert lease.release()
  assert not lease.renew()
  clock.now += 1.0
  taken = observer.acquire("t", _TTL)
  assert taken
  assert not lease.release()  # not the new owner's
  assert taken.renew()


def test_watching_a_held_task_is_cheap(url, observer, clock):
  fast(url).acquire("t", _TTL)
  for _ in range(100):  # ten seconds of polls, ten a second
    clock.now += 0.1
    observer.acquire("t", _TTL)
  assert sum(observer.operations.values()) <= 12


def test_garbage_expires_like_a_lease(url, observer, clock):
  observer.store.create("lease/t", b"\xff{")
  assert observer.acquire("t", _TTL) is None
  assert observer.leases() == []
  assert _wait(observer, clock, _TTL + 3.0)


def test_leases_are_listed(url):
  records = fast(url, clock=lambda: 77.0)
  lease = records.acquire("a", _TTL)
  records.acquire("b", _TTL)
  lease.renew()
  held = {h.task: h for h in records.leases()}
  assert (held["a"].beat, held["b"].beat) == (1, 0)
  assert held["a"].owner == records.writer
  assert held["a"].started_at == 77.0
  assert [h.task for h in records.leases(["b", "c"])] == ["b"]


@pytest.mark.skipif(
  not sys.platform.startswith("linux"), reason="needs /proc to know"
)
def test_an_owner_that_died_on_this_machine_is_replaced_at_once(tmp_path):
  script = f"""
    from asi_evolve_jax.records import Records
    assert Records.open({str(tmp_path)!r}).acquire("t", 1e6)
    """
  subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
  clock = Clock()
  observer = fast(tmp_path, monotonic=clock)
  assert observer.acquire("t", 1e6) is None
  clock.now += 1.0
  assert observer.acquire("t", 1e6)
