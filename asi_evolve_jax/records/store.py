"""The key-value store under the records: TensorStore, counted and explained.

Nothing outside this file knows that it is TensorStore. Conditional writes are
atomic across processes on the drivers that are let in.
"""

from __future__ import annotations

import collections
import hashlib
import os
import pathlib
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore as ts

_SCHEMES = ("file", "memory", "gs")
_ERRORS = (ValueError, OSError, RuntimeError, NotImplementedError)

# Handles of one process see the same memory://.
_SHARED = ts.Context({"memory_key_value_store": {}})


class StoreError(RuntimeError):
  """The store cannot be used; the message names URL and remedy."""


class Store:
  """Keys to bytes at one URL, from any number of processes.

  Attributes:
    url: where it is, with a trailing slash.
    operations: number of store operations made by this handle, by name.
  """

  def __init__(self, url: str | os.PathLike[str], *, durable: bool = False):
    """Opens the store at `url`, making it where it is missing.

    Args:
      url: a path, "file:///path/", "memory://name/" (this process only) or
        "gs://bucket/path/".
      durable: fsync every write (file only): survives a crash of the machine,
        not only of the process, and costs about nine tenths of a write.

    Raises:
      StoreError: if the URL cannot hold records for many writers.
    """
    self.url = normalise_url(url)
    self.operations: collections.Counter[str] = collections.Counter()
    self._count_lock = threading.Lock()
    try:
      self._context = ts.Context({"file_io_sync": durable}, parent=_SHARED)
      self._kv = ts.KvStore.open(self.url, context=self._context).result()
      self._missing = self._kv.read("missing").result().stamp.generation
    except _ERRORS as e:
      raise _explain(self.url, "opened", e) from e

  def get(self, key: str) -> tuple[bytes | None, bytes]:
    """Returns value (None if missing) and generation of `key`."""
    return self.get_many([key])[0]

  def get_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, bytes]]:
    """Returns value and generation of each key, read together."""
    self._count("get", len(keys))
    reads = [self._kv.read(key) for key in keys]
    results = []
    for key, read in zip(keys, reads, strict=True):
      result = self._wait(read, f"read {key}")
      value = result.value if result.state == "value" else None
      results.append((value, result.stamp.generation))
    return results

  def create(self, key: str, value: bytes) -> bytes | None:
    """Writes `value` if `key` is missing.

    Returns:
      The new generation, or None if the key exists.
    """
    return self.create_many([(key, value)])[0]

  def create_many(
    self, items: Sequence[tuple[str, bytes]]
  ) -> list[bytes | None]:
    """As `create` for each item, written together, in no order."""
    self._count("create", len(items))
    writes = [
      self._kv.write(key, value, if_equal=self._missing) for key, value in items
    ]
    return [
      self._wait(write, f"written at {key}").generation or None
      for (key, _), write in zip(items, writes, strict=True)
    ]

  def swap(self, key: str, value: bytes, generation: bytes) -> bytes | None:
    """Writes `value` if `key` still has `generation`.

    Returns:
      The new generation, or None if the key has changed.
    """
    self._count("swap", 1)
    write = self._kv.write(key, value, if_equal=generation)
    return self._wait(write, f"written at {key}").generation or None

  def delete(self, key: str, generation: bytes | None = None) -> bool:
    """Deletes `key`, if it still has `generation` where one is given."""
    self._count("delete", 1)
    write = self._kv.write(key, None, if_equal=generation)
    return bool(self._wait(write, f"deleted at {key}").generation)

  def keys(self, prefix: str) -> list[str]:
    """Returns the keys that begin with `prefix`, sorted."""
    return self.keys_range(prefix, prefix_end(prefix))

  def keys_range(self, low: str, high: str) -> list[str]:
    """Returns the keys in [low, high), sorted."""
    self._count("list", 1)
    found = self._wait(
      self._kv.list(ts.KvStore.KeyRange(low, high)), f"listed from {low}"
    )
    return sorted(key.decode() for key in found)

  def put_array(self, path: str, array: np.ndarray) -> bool:
    """Stores `array` as zarr3 under `path`/; the first complete one stays.

    Returns:
      False if an array is there already.
    """
    array = np.asarray(array, order="C")
    spec = {
      "driver": "zarr3",
      "kvstore": self._child(path),
      "metadata": {
        "shape": list(array.shape),
        "data_type": array.dtype.name,
        # A process killed between metadata and data would otherwise leave
        # zeros that look like an array.
        "attributes": {"sha256": _array_hash(array)},
        "chunk_grid": {
          "name": "regular",
          "configuration": {"chunk_shape": [max(1, n) for n in array.shape]},
        },
      },
    }
    if self.get_array(path) is not None:
      return False
    self._count("array", 1)
    try:
      target = ts.open(
        spec, create=True, delete_existing=True, context=self._context
      ).result()
      target.write(array).result()
    except _ERRORS as e:
      raise _explain(self.url, f"written at {path}", e) from e
    return True

  def get_array(self, path: str) -> np.ndarray | None:
    """Returns the array under `path`/, or None if there is no whole one."""
    raw, _ = self.get(f"{path}/zarr.json")
    if raw is None:
      return None
    self._count("array", 1)
    try:
      source = ts.open(
        {"driver": "zarr3", "kvstore": self._child(path)},
        open=True,
        context=self._context,
      ).result()
      array = source.read().result()
      spec = source.spec(retain_context=False).to_json()
    except _ERRORS as e:
      raise _explain(self.url, f"read at {path}", e) from e
    wanted = spec["metadata"].get("attributes", {}).get("sha256")
    return array if wanted == _array_hash(array) else None

  def _child(self, path: str) -> str:
    return f"{self.url}{path}/"

  def _count(self, name: str, n: int) -> None:
    if n:
      with self._count_lock:
        self.operations[name] += n

  def _wait(self, future: Any, what: str) -> Any:
    try:
      return future.result()
    except _ERRORS as e:
      raise _explain(self.url, what, e) from e


def normalise_url(url: str | os.PathLike[str]) -> str:
  """Returns `url` with a scheme and a trailing slash; paths become file URLs.

  Raises:
    StoreError: on a scheme without atomic conditional writes.
  """
  text = os.fspath(url)
  if "://" not in text:
    if not text:
      raise StoreError("--records is empty: give a folder or a URL.")
    text = pathlib.Path(text).expanduser().absolute().as_uri()
  scheme = text.split("://", 1)[0]
  if scheme == "s3":
    raise StoreError(
      f"{text}: S3 gives TensorStore no atomic conditional writes, so two "
      "writers could lose each other's records. Use gs:// or a folder that "
      "all machines share; an archive (launch.records export) may lie on S3."
    )
  if scheme not in _SCHEMES or "|" in text:
    raise StoreError(
      f"{text} cannot hold records: use a folder, "
      f"{', '.join(s + '://' for s in _SCHEMES)}."
    )
  if scheme == "file":  # blanks and the like, written out or not
    path = urllib.parse.unquote(text.removeprefix("file://"))
    text = "file://" + urllib.parse.quote(path)
  return text if text.endswith("/") else text + "/"


def prefix_end(prefix: str) -> str:
  """Returns the first key after all that begin with `prefix`."""
  return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


def _array_hash(array: np.ndarray) -> str:
  head = f"{array.dtype.name}{list(array.shape)}".encode()
  return hashlib.sha256(head + array.tobytes()).hexdigest()


def _explain(url: str, what: str, error: Exception) -> StoreError:
  text = str(error)
  if "No space left" in text or "os_error_code='28'" in text:
    remedy = "The disk is full: free space, then run the same command again."
  elif "quota" in text.lower():
    remedy = "The quota is used up: free space, then run again."
  elif (
    "Permission denied" in text
    or "PERMISSION_DENIED" in text
    or "Read-only file system" in text
  ):
    remedy = "You may not write there: change its permissions or the URL."
  else:
    remedy = "Check that the place exists and can be reached."
  return StoreError(f"{url} could not be {what}. {remedy} ({text[:300]})")
