"""Records: the port that every role writes to and reads from."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable

import numpy as np

from asi_evolve_jax.records import codec, schema
from asi_evolve_jax.records.leases import Held, Lease, Leases
from asi_evolve_jax.records.log import BUCKET_SIZE, Cursor, Log
from asi_evolve_jax.records.store import Store, StoreError

_LOGGER = logging.getLogger(__name__)
_HEAL = 50  # unlogged records in one entry
_QUIET_S = 30.0  # without news before a follower reconciles
_QUIET_SHARE = 100.0  # at most a hundredth of an idle role's time goes there


class Records:
  """The records of one run, from any number of processes.

  Attributes:
    url: of the store.
    writer: name of this handle in the log and in leases.
    store: what lies under them, for archives.
    operations: store operations made by this handle, by name.
    set_aside: keys of records that could not be parsed, in order.
  """

  def __init__(
    self,
    store: Store,
    writer: str | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    bucket_size: int = BUCKET_SIZE,
  ):
    """Use `open`; this is for tests that bring their own clocks."""
    name = writer or f"{socket.gethostname()}-{os.getpid()}"
    self.writer = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    self.url = store.url
    self.set_aside: list[str] = []
    self.store = store
    self._clock = clock
    self._monotonic = monotonic
    # A writer that starts again under its name is another writer.
    nonce = uuid.uuid4().hex[:8]
    self._log = Log(store, f"{self.writer}-{nonce}", clock, bucket_size)
    self._leases = Leases(store, self.writer, clock, monotonic)

  @classmethod
  def open(
    cls, url: str, *, durable: bool = False, writer: str | None = None
  ) -> Records:
    """Opens the records at `url`: a folder, file://, memory:// or gs://.

    Args:
      url: of the store; a missing folder is made by the first write.
      durable: fsync every write.
      writer: name for people to read; by default host and process.

    Raises:
      StoreError: if the URL cannot hold records for many writers.
    """
    return cls(Store(url, durable=durable), writer)

  @property
  def operations(self) -> collections.Counter[str]:
    return self.store.operations

  def put(self, *records: schema.Record) -> list[bool]:
    """Writes each record whose key is free, and one log entry for those.

    Returns:
      For each record, whether it is new. One that exists stays as it is.

    Raises:
      RecordError: if one cannot be written; then none is.
      StoreError: if the store fails. Put them again: what was written
        already is found by `reconcile`.
    """
    now = self._clock()
    items: dict[str, bytes] = {}
    for record in records:
      if not record.created_at:
        record = dataclasses.replace(record, created_at=now)
      items.setdefault(record.key, codec.encode(record))
    if not items:
      return []
    created = self.store.create_many(list(items.items()))
    new = {
      key for key, made in zip(items, created, strict=True) if made is not None
    }
    if new:
      self._log.append([(k, data) for k, data in items.items() if k in new])
    answers = []
    for record in records:
      answers.append(record.key in new)
      new.discard(record.key)  # the same key twice in one call
    return answers

  def get(self, kind: str, id: str) -> schema.Record | None:
    """Returns a record, or None if there is none.

    Raises:
      RecordError: if it cannot be parsed.
    """
    key = f"{kind}/{id}"
    value, _ = self.store.get(key)
    return None if value is None else codec.decode(key, value)

  def follow(
    self, cursor: Cursor | None = None, kinds: Iterable[str] | None = None
  ) -> tuple[list[schema.Record], Cursor]:
    """Returns the records that are new since `cursor`, each once.

    Reconciles at the start, after an entry that could not be read, and after
    every half a minute without news.

    Args:
      cursor: what the last call returned (it is updated in place); None: from
        the beginning.
      kinds: of a new cursor; later calls keep them.
    """
    if cursor is None:
      return self.reconcile(self.cursor(kinds))
    if self._monotonic() >= cursor.reconcile_at:
      return self.reconcile(cursor)
    return self._read(cursor), cursor

  def cursor(self, kinds: Iterable[str] | None = None) -> Cursor:
    """Returns a cursor that has seen nothing."""
    wanted = None if kinds is None else frozenset(kinds)
    unknown = (wanted or frozenset()) - schema.KINDS.keys()
    if unknown:
      raise ValueError(f"unknown kinds {sorted(unknown)} to follow")
    return Cursor(wanted)

  def reconcile(self, cursor: Cursor) -> tuple[list[schema.Record], Cursor]:
    """As `follow`, but looks at all keys and the whole log.

    Records without a log entry (their writer died between the two) are
    returned and logged.
    """
    began = self._monotonic()
    kinds = sorted(cursor.kinds or schema.KINDS)
    # Keys first: what is logged after this listing is no loss.
    keys = [k for kind in kinds for k in self.store.keys(f"{kind}/")]
    records = self._read(cursor, everything=True)
    lost = [key for key in keys if not cursor.knows(key)]
    try:
      self._heal(lost, cursor, records)
    except StoreError as e:
      # What was followed must reach the caller: the next time will do.
      _LOGGER.warning("%d records could not be logged: %s", len(lost), e)
    spent = self._monotonic() - began
    self._put_off(cursor, max(_QUIET_S, _QUIET_SHARE * spent))
    return records, cursor

  def _put_off(self, cursor: Cursor, seconds: float) -> None:
    now = self._monotonic()
    cursor.reconcile_at = max(cursor.reconcile_at, now + seconds)

  def put_bytes(self, data: bytes) -> str:
    """Stores `data` under its hash and returns that."""
    name = _blob_id(data)
    self.store.create(f"blob/{name}", bytes(data))
    return name

  def get_bytes(self, id: str) -> bytes | None:
    """Returns stored bytes, or None if there are none.

    Raises:
      RecordError: if they are not what was stored.
    """
    value, _ = self.store.get(f"blob/{id}")
    if value is not None and _blob_id(value) != id:
      raise codec.RecordError(
        f"blob/{id} was damaged: its hash differs. Delete it and evaluate "
        "again, or restore it from an archive."
      )
    return value

  def put_array(self, name: str, array: np.ndarray) -> bool:
    """Stores `array`, any shape and numeric dtype; the first one stays.

    Returns:
      False if `name` has one already.
    """
    return self.store.put_array(_array_path(name), array)

  def get_array(self, name: str) -> np.ndarray | None:
    """Returns the array stored as `name`, or None if there is no whole one."""
    return self.store.get_array(_array_path(name))

  def acquire(self, task_id: str, ttl_s: float) -> Lease | None:
    """Returns a lease on a Task, or None if it is held or has a Result.

    Renew it several times within `ttl_s`. Once the Result is put, forget the
    lease; `release` hands an unfinished Task back.
    """
    return self._leases.acquire(task_id, ttl_s)

  def leases(self, tasks: Iterable[str] | None = None) -> list[Held]:
    """Returns the leases on `tasks` (one read each), by default on all."""
    if tasks is None:
      tasks = [k.split("/", 1)[1] for k in self.store.keys("lease/")]
    return self._leases.held(tasks)

  def rewrite_log(self, records: list[schema.Record], batch: int) -> None:
    """Logs `records` again, in entries of `batch`, behind all others."""
    self._log.next_bucket()
    for start in range(0, len(records), batch):
      self._log.append(
        [(r.key, codec.encode(r)) for r in records[start : start + batch]]
      )

  def _read(
    self, cursor: Cursor, everything: bool = False
  ) -> list[schema.Record]:
    records, broken = self._log.read(
      cursor, self._decode, everything=everything
    )
    if broken:
      self.set_aside += [n for n in broken if n not in self.set_aside]
      cursor.reconcile_at = self._monotonic()
    elif records:
      self._put_off(cursor, _QUIET_S)
    return records

  def _heal(
    self, keys: list[str], cursor: Cursor, records: list[schema.Record]
  ) -> None:
    """Adds the records at `keys`, which the log lacks, and logs them."""
    for start in range(0, len(keys), _HEAL):
      batch = keys[start : start + _HEAL]
      healed = []
      for key, (value, _) in zip(
        batch, self.store.get_many(batch), strict=True
      ):
        if value is None:
          continue
        try:
          records.append(codec.decode(key, value))
          cursor.records += 1
          healed.append((key, value))
        except codec.RecordError as e:
          self._set_aside(key, e)
        cursor.add(key)
      if healed:
        self._log.append(healed)

  def _decode(self, key: str, body: object) -> schema.Record | None:
    try:
      return codec.from_json(key, body)
    except codec.RecordError as e:
      # The log carries a copy; the record itself may be sound.
      value, _ = self.store.get(key)
      try:
        return codec.decode(key, value or b"")
      except codec.RecordError:
        self._set_aside(key, e)
        return None

  def _set_aside(self, key: str, error: Exception) -> None:
    if key not in self.set_aside:
      self.set_aside.append(key)
      _LOGGER.warning("%s is set aside, the run goes on: %s", key, error)


def _blob_id(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:32]


def _array_path(name: str) -> str:
  if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", name) or (
    ".." in name
  ):
    raise ValueError(
      f"array name {name!r} must be letters, digits, _ . - and /"
    )
  return f"arrays/{name}"
