"""Leases: who works on which Task. The only records that change.

A lease is `lease/<task>`: owner, nonce, beat. It has expired when an observer
has seen the same beat for its time to live on the observer's own monotonic
clock; clocks of two hosts are never compared. After a Result is written its
lease is left where it is: it keeps others, whose view lags, from starting the
Task again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable

from asi_evolve_jax.records.codec import RecordError, loads
from asi_evolve_jax.records.store import Store

# A lease held by another is looked at again after this share of the time to
# live, at most this many seconds: a long queue must not cost a read a poll.
_LOOK_AGAIN = 0.25
_LOOK_AGAIN_S = 1.0


@dataclasses.dataclass(frozen=True)
class Held:
  """A lease as others see it."""

  task: str
  owner: str
  beat: int
  started_at: float  # unix seconds of the owner's clock, for people to read


class Lease:
  """A Task that is ours until `lost`."""

  def __init__(self, store: Store, body: dict, generation: bytes):
    self.task: str = body["task"]
    self.owner: str = body["owner"]
    self.lost = False
    self._store = store
    self._body = body
    self._generation = generation

  def renew(self) -> bool:
    """Shows that its owner lives.

    Returns:
      False if another has taken it over: stop the work, its Result would
      come second.
    """
    if self.lost:
      return False
    body = {**self._body, "beat": self._body["beat"] + 1}
    generation = self._store.swap(
      _key(self.task), _dump(body), self._generation
    )
    if generation is None:
      self.lost = True
      return False
    self._body, self._generation = body, generation
    return True

  def release(self) -> bool:
    """Hands an unfinished Task back; another may acquire it at once.

    Not for a Task whose Result is written: leave that lease alone.

    Returns:
      False if it was lost before.
    """
    if self.lost:
      return False
    self.lost = True
    return self._store.delete(_key(self.task), self._generation)


@dataclasses.dataclass
class _Seen:
  generation: bytes | None
  since: float  # monotonic seconds
  looked: float


class Leases:
  """Acquires leases for one owner."""

  def __init__(
    self,
    store: Store,
    owner: str,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
  ):
    self._store = store
    self._owner = owner
    self._clock = clock
    self._monotonic = monotonic
    self._others: dict[str, _Seen] = {}
    self._lock = threading.Lock()

  def acquire(self, task: str, ttl_s: float) -> Lease | None:
    """Returns a lease on `task`, or None if another holds it or has finished.

    One store operation where it is free. One that another holds is watched,
    from call to call, and taken over once it has not moved for `ttl_s`.
    """
    with self._lock:
      now = self._monotonic()
      seen = self._others.get(task)
      if seen is None:
        return self._create(task, now)
      if now - seen.looked < min(_LOOK_AGAIN * ttl_s, _LOOK_AGAIN_S):
        return None
      seen.looked = now
      value, generation = self._store.get(_key(task))
      if value is None:
        return self._create(task, now)
      if generation != seen.generation:
        seen.generation, seen.since = generation, now
      if now - seen.since < ttl_s and _owner_alive(value) is not False:
        return None
      return self._take_over(task, generation)

  def held(self, tasks: Iterable[str]) -> list[Held]:
    """Returns the leases that exist on `tasks`."""
    names = list(tasks)
    found = []
    for task, (value, _) in zip(
      names, self._store.get_many([_key(t) for t in names]), strict=True
    ):
      body = _load(_key(task), value) if value is not None else None
      if body is not None:
        found.append(
          Held(task, body["owner"], body["beat"], body["started_at"])
        )
    return found

  def _create(self, task: str, now: float) -> Lease | None:
    body = self._body(task)
    generation = self._store.create(_key(task), _dump(body))
    if generation is None:
      self._others[task] = _Seen(None, now, now)
      return None
    self._others.pop(task, None)
    return Lease(self._store, body, generation)

  def _take_over(self, task: str, generation: bytes) -> Lease | None:
    if self._store.get(f"result/{task}")[0] is not None:
      # Watched no longer: the caller's view is about to say so, too.
      self._others[task].since = self._monotonic()
      return None
    body = self._body(task)
    new = self._store.swap(_key(task), _dump(body), generation)
    if new is None:
      return None
    self._others.pop(task, None)
    return Lease(self._store, body, new)

  def _body(self, task: str) -> dict:
    return {
      "task": task,
      "owner": self._owner,
      "nonce": uuid.uuid4().hex[:12],
      "beat": 0,
      "started_at": self._clock(),
      "process": _process(os.getpid()),
    }


def _key(task: str) -> str:
  return f"lease/{task}"


def _dump(body: dict) -> bytes:
  return json.dumps(body, separators=(",", ":")).encode()


def _load(key: str, value: bytes) -> dict | None:
  try:
    body = loads(key, value)
    return {
      "owner": str(body["owner"]),
      "beat": int(body["beat"]),
      "started_at": float(body["started_at"]),
      "process": body.get("process"),
    }
  except (RecordError, TypeError, KeyError, ValueError, AttributeError):
    return None  # garbage expires like any lease that does not move


def _process(pid: int) -> list[str] | None:
  """Names a process of this machine for as long as it lives, or None.

  Boot, PID namespace, PID and start time: no two processes share all four, so
  one that is gone is known to be gone without waiting for its lease.
  """
  try:
    with open("/proc/sys/kernel/random/boot_id") as f:
      boot = f.read().strip()
    with open(f"/proc/{pid}/stat") as f:
      state, *rest = f.read().rsplit(")", 1)[1].split()
    if state in "ZX":  # ended, and its parent has not looked yet
      return None
    return [boot, os.readlink("/proc/self/ns/pid"), str(pid), rest[18]]
  except (OSError, IndexError):
    return None


def _owner_alive(value: bytes) -> bool | None:
  """Whether the lease's owner runs on this machine; None where unknown."""
  body = _load("lease", value)
  process = body["process"] if body else None
  here = _process(os.getpid())
  if (
    here is None
    or not isinstance(process, list)
    or len(process) != 4
    or process[:2] != here[:2]
    or not str(process[2]).isdigit()
  ):
    return None
  return _process(int(process[2])) == process
