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
import re
import threading
import time
from collections.abc import Iterable, Sequence

from asi_evolve_jax.records import codec
from asi_evolve_jax.records.store import Store

_LOGGER = logging.getLogger(__name__)

BUCKET_SIZE = 200
# A writer lists again after this many seconds or entries without news. The
# horizon of followers is much longer, so what it adds to a bucket that others
# have left is still seen.
_STALE_S = 0.5
_STALE_ENTRIES = 25
_HORIZON_S = 10.0
_HORIZON_BUCKETS = 2
_SWEEP_S = 1.0  # how often followers list the whole horizon
_OWN = 32  # own entries kept, so that a role need not read what it wrote
_PREFIX = "log/"
_END = "log0"  # the first key after all that begin with "log/"


@dataclasses.dataclass
class Cursor:
  """What one follower has seen. `follow` updates it in place.

  Attributes:
    kinds: the kinds it follows; None: all.
    bucket: newest bucket seen.
    records: number of records yielded.
  """

  kinds: frozenset[str] | None = None
  bucket: int = 0
  records: int = 0
  # Hashes only: a million records must fit beside the view of them.
  _entries: dict[int, set[int]] = dataclasses.field(default_factory=dict)
  _keys: set[int] = dataclasses.field(default_factory=set)
  _started: bool = False
  _swept: float = 0.0  # monotonic seconds
  # Buckets by when they became the newest, oldest first, horizon only.
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

  def add(self, key: str) -> bool:
    """Notes the record at `key`; False if it was known."""
    known = self.knows(key)
    self._keys.add(hash(key))
    return not known

  def wants(self, kinds: Iterable[str]) -> bool:
    return self.kinds is None or not self.kinds.isdisjoint(kinds)


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

  def read(
    self, cursor: Cursor, *, everything: bool = False
  ) -> tuple[list[tuple[str, object]], list[str]]:
    """Returns the records that `cursor` has not seen, and unreadable entries.

    Args:
      cursor: updated in place.
      everything: list the whole log, not only the horizon.

    Returns:
      (key, parsed JSON) of each new record of the wanted kinds, in the order
      of the log; names of entries that are not JSON.
    """
    fresh = self._new_entries(cursor, everything)
    names = [
      name for name in fresh if cursor.wants(name.rsplit(".", 1)[-1].split("+"))
    ]
    with self._lock:
      values = {n: self._own[n] for n in names if n in self._own}
    missing = [n for n in names if n not in values]
    for name, (value, _) in zip(
      missing, self._store.get_many(missing), strict=True
    ):
      if value is not None:  # compacted between list and read
        values[name] = value
    items: list[tuple[str, object]] = []
    broken: list[str] = []
    for name in names:
      if name not in values:
        continue
      try:
        entry = codec.loads(name, values[name])
        pairs = [(item["key"], item["record"]) for item in entry]
      except (codec.RecordError, TypeError, KeyError) as e:
        _LOGGER.warning(
          "%s is set aside, its records are found again by reconcile: %s",
          name,
          e,
        )
        broken.append(name)
        continue
      for key, body in pairs:
        if not isinstance(key, str):
          broken.append(name)
        elif cursor.wants([key.split("/", 1)[0]]) and cursor.add(key):
          items.append((key, body))
    return items, broken

  def _new_entries(self, cursor: Cursor, everything: bool) -> list[str]:
    now = time.monotonic()
    names: list[str] = []
    if everything or not cursor._started:
      names = self._store.list_range(_PREFIX, _END)
    elif now - cursor._swept >= _SWEEP_S:
      low = max(0, self._horizon(cursor, now))
      names = self._store.list_range(_bucket_prefix(low), _END)
    else:
      names = self._store.list(_bucket_prefix(cursor.bucket))
      if len(names) >= self._size:
        names += self._store.list_range(_bucket_prefix(cursor.bucket + 1), _END)
      now = cursor._swept
    cursor._started, cursor._swept = True, now
    fresh = []
    for name in names:
      number = _bucket_of(name)
      if number is None:
        continue
      seen = cursor._entries.setdefault(number, set())
      if hash(name) not in seen:
        seen.add(hash(name))
        fresh.append(name)
    if fresh:
      newest = max(filter(None, map(_bucket_of, fresh)), default=0)
      if newest > cursor.bucket:
        cursor.bucket = newest
        cursor._newest.append((time.monotonic(), newest))
    self._learn(cursor)
    return fresh

  def _horizon(self, cursor: Cursor, now: float) -> int:
    """Returns the bucket that was newest a horizon ago, or two back."""
    newest = cursor._newest
    while len(newest) > 1 and newest[1][0] < now - _HORIZON_S:
      newest.popleft()
    oldest = newest[0][1] - 1 if newest else cursor.bucket
    return min(oldest, cursor.bucket - _HORIZON_BUCKETS)

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
      map(_bucket_of, self._store.list_range(low, _END))
    )
    newest = max((n for n in sizes if n is not None), default=0)
    self._bucket = max(newest, self._bucket)
    self._count = sizes[self._bucket]
    self._known_at, self._appended = now, 0


def _bucket_prefix(bucket: int) -> str:
  return f"{_PREFIX}{bucket:08d}/"


def _bucket_of(name: str) -> int | None:
  parts = name.split("/")
  return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None
