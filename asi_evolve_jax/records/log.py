"""The log: what followers read, in numbered buckets of a few hundred entries.

An entry is one commit: its name says when, by whom and of which kinds
(`log/<bucket>/<time_us>-<writer>-<seq>.<kind>+<kind>`), its value carries the
records. A follower lists one small bucket and reads one value a commit. No
clock decides the bucket: a writer moves to the next number once the newest it
knows is full. Time orders entries within a bucket only.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from asi_evolve_jax.records import codec
from asi_evolve_jax.records.store import Store

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

BUCKET_SIZE = 200
# A writer lists again after this many seconds or entries without news.
_STALE_S = 0.5
_STALE_ENTRIES = 25
# So for a while after a bucket is full it may still grow: followers list it
# with the next one this long at every poll, ...
_LATE_S = 1.5
# ... and all that were newest so long ago (and so many before the newest, at
# least) now and then, for a writer that was stopped or slow. `reconcile` finds
# what comes later still.
_HORIZON_S = 10.0
_BEHIND = 2
_SWEEP_S = 1.0
_OWN = 32  # own entries kept, so that a role need not read what it wrote
_CHUNK = 256  # entries read together
_PREFIX = "log/"
_END = "log0"  # the first key after all that begin with "log/"


@dataclasses.dataclass
class Cursor:
  """What one follower has seen. `follow` updates it in place.

  Attributes:
    kinds: the kinds it follows; None: all.
    bucket: newest bucket seen.
    records: number of records yielded.
    reconcile_at: monotonic seconds when all keys are to be looked at again.
  """

  kinds: frozenset[str] | None = None
  bucket: int = 0
  records: int = 0
  reconcile_at: float = 0.0
  # Hashes only: a million records must fit beside the view of them.
  _entries: dict[int, set[int]] = dataclasses.field(default_factory=dict)
  _keys: set[int] = dataclasses.field(default_factory=set)
  _swept: float = 0.0  # monotonic seconds
  # Buckets by when they became the newest, oldest first; empty before the first
  # read. The first of them was it before the horizon began, so that every
  # moment in it has one.
  _newest: collections.deque[tuple[float, int]] = dataclasses.field(
    default_factory=collections.deque
  )

  @property
  def position(self) -> str:
    """Short text for Proposal.seen: "bucket.entries in it.records so far"."""
    seen = len(self._entries.get(self.bucket, ()))
    return f"{self.bucket}.{seen}.{self.records}"

  def knows(self, key: str) -> bool:
    """Whether the record at `key` was yielded (or set aside) before."""
    return hash(key) in self._keys

  def add(self, key: str) -> None:
    """Notes that the record at `key` was yielded or set aside."""
    self._keys.add(hash(key))

  def wants(self, kinds: Iterable[str]) -> bool:
    """Whether it follows any of `kinds`."""
    return self.kinds is None or not self.kinds.isdisjoint(kinds)

  def _newest_at(self, moment: float) -> int:
    """Returns the bucket that was the newest at `moment` (monotonic)."""
    old = time.monotonic() - _HORIZON_S
    while len(self._newest) > 1 and self._newest[1][0] < old:
      self._newest.popleft()
    found = self._newest[0][1]
    for when, bucket in self._newest:
      if when > moment:
        break
      found = bucket
    return found

  def _advance(
    self, names: list[str], keys: set[int], records: int, swept: float | None
  ) -> None:
    newest = self.bucket
    for name in names:
      bucket = _bucket_of(name)
      self._entries.setdefault(bucket, set()).add(hash(name))
      newest = max(newest, bucket)
    began = (time.monotonic(), newest)
    if not self._newest:  # what was the newest before is not known
      self._newest.extend([(-math.inf, newest - _BEHIND), began])
    elif newest > self.bucket:
      self._newest.append(began)
    self.bucket = newest
    self._keys |= keys
    self.records += records
    if swept is not None:
      self._swept = swept


class Log:
  """Reads and appends the log of one store."""

  def __init__(
    self, store: Store, writer: str, clock=time.time, size: int = BUCKET_SIZE
  ):
    """
    Args:
      store: where it lives.
      writer: letters, digits, "_" and "-"; no two live writers share it.
      clock: unix seconds.
      size: entries of a full bucket.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", writer):
      raise ValueError(f"writer {writer!r} must be letters, digits, _ and -")
    self._store = store
    self._writer = writer
    self._clock = clock
    self._size = size
    self._seq = 0
    self._bucket = -1  # unknown
    self._count = 0
    self._known_at = 0.0
    self._appended = 0
    self._own: collections.OrderedDict[str, bytes] = collections.OrderedDict()
    self._lock = threading.Lock()

  def append(self, items: Sequence[tuple[str, bytes]]) -> None:
    """Writes one entry that carries `items` (key, encoded record)."""
    kinds = "+".join(sorted({key.split("/", 1)[0] for key, _ in items}))
    value = b"[%s]" % b",".join(
      b'{"key":%s,"record":%s}' % (json.dumps(key).encode(), data)
      for key, data in items
    )
    with self._lock:
      self._refresh()
      while True:
        if self._count >= self._size:
          self._bucket, self._count = self._bucket + 1, 0
        self._seq += 1
        stamp = max(0, int(self._clock() * 1e6))
        name = (
          f"{_PREFIX}{self._bucket:08d}/"
          f"{stamp:016d}-{self._writer}-{self._seq:06d}.{kinds}"
        )
        if self._store.create(name, value) is not None:
          break
      self._count += 1
      self._appended += 1
      self._own[name] = value
      while len(self._own) > _OWN:
        self._own.popitem(last=False)

  def next_bucket(self) -> None:
    """Makes the next entry begin a bucket."""
    with self._lock:
      self._known_at = -math.inf
      self._refresh()
      self._bucket, self._count = self._bucket + 1, 0

  def read(
    self,
    cursor: Cursor,
    decode: Callable[[str, Any], T | None],
    *,
    everything: bool = False,
  ) -> tuple[list[T], list[str]]:
    """Returns what is new to `cursor`, and the names of unreadable entries.

    Args:
      cursor: updated in place once all is read; a read that fails is repeated
        whole by the next.
      decode: makes a record of its key and parsed JSON, or None.
      everything: list the whole log, not only the horizon.
    """
    listed, now = self._list(cursor, everything)
    fresh = [
      name
      for name in listed
      if hash(name) not in cursor._entries.get(_bucket_of(name), ())
    ]
    names = [
      name for name in fresh if cursor.wants(name.rsplit(".", 1)[-1].split("+"))
    ]
    records: list[T] = []
    broken: list[str] = []
    keys: set[int] = set()
    for start in range(0, len(names), _CHUNK):
      for name, value in self._values(names[start : start + _CHUNK]):
        try:
          entry = codec.loads(name, value)
          pairs = [(str(item["key"]), item["record"]) for item in entry]
        except (codec.RecordError, TypeError, KeyError) as e:
          _LOGGER.warning(
            "%s is set aside; reconcile finds its records again: %s", name, e
          )
          broken.append(name)
          continue
        for key, body in pairs:
          known = cursor.knows(key) or hash(key) in keys
          if known or not cursor.wants([key.split("/", 1)[0]]):
            continue
          keys.add(hash(key))
          record = decode(key, body)
          if record is not None:
            records.append(record)
    cursor._advance(fresh, keys, len(records), now)
    self._learn(cursor)
    return records, broken

  def _values(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yields name and value of entries; those just compacted are left out."""
    with self._lock:
      own = {n: self._own[n] for n in names if n in self._own}
    others = [n for n in names if n not in own]
    values = dict(zip(others, self._store.get_many(others), strict=True))
    for name in names:
      value = own[name] if name in own else values[name][0]
      if value is not None:
        yield name, value

  def _list(
    self, cursor: Cursor, everything: bool
  ) -> tuple[list[str], float | None]:
    """Returns names to look at and, after a sweep, its time."""
    now = time.monotonic()
    if everything or not cursor._newest:
      return self._store.keys_range(_PREFIX, _END), now
    if now - cursor._swept >= _SWEEP_S:
      low = min(cursor._newest_at(now - _HORIZON_S), cursor.bucket - _BEHIND)
      return self._store.keys_range(_bucket_prefix(low), _END), now
    low = cursor._newest_at(now - _LATE_S)
    if low < cursor.bucket:  # others may not know yet that they must move on
      return self._store.keys_range(_bucket_prefix(low), _END), None
    names = self._store.keys(_bucket_prefix(cursor.bucket))
    if len(names) >= self._size:
      names += self._store.keys_range(_bucket_prefix(cursor.bucket + 1), _END)
    return names, None

  def _learn(self, cursor: Cursor) -> None:
    """Takes the newest bucket and its size from what a follower listed."""
    with self._lock:
      if cursor.bucket >= self._bucket:
        seen = len(cursor._entries.get(cursor.bucket, ()))
        if cursor.bucket > self._bucket:
          self._count = 0
        self._bucket = cursor.bucket
        self._count = max(self._count, seen)
        self._known_at, self._appended = time.monotonic(), 0

  def _refresh(self) -> None:
    now = time.monotonic()
    if (
      self._bucket >= 0
      and now - self._known_at < _STALE_S
      and self._appended < _STALE_ENTRIES
    ):
      return
    low = _bucket_prefix(self._bucket) if self._bucket >= 0 else _PREFIX
    sizes = collections.Counter(
      map(_bucket_of, self._store.keys_range(low, _END))
    )
    self._bucket = max(0, self._bucket, *sizes)
    self._count = sizes[self._bucket]
    self._known_at, self._appended = now, 0


def _bucket_prefix(bucket: int) -> str:
  return f"{_PREFIX}{max(0, bucket):08d}/"


def _bucket_of(name: str) -> int:
  """Returns the bucket of an entry; -1 for a name that is none of ours."""
  parts = name.split("/")
  return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else -1
