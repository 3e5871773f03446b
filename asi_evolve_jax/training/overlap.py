"""Near-duplicate detection: which documents share long runs with others.

A shingle is any run of 50 bytes. All shingles of all documents are hashed (a
polynomial rolling hash, whole arrays at a time), not a sample of them, so a
document that repeats part of another is found wherever the part begins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

SHINGLE = 50  # bytes
_CHUNK = 1 << 17  # bytes hashed at a time, so that the arrays stay in cache
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse
_MIX = np.uint64(0xD6E8FEB86659FD93)
_TABLE_BITS = 26
_HIGH = np.uint64(64 - _TABLE_BITS)
_LOW = np.uint64((1 << _TABLE_BITS) - 1)
_MODULUS = 1 << 64
_INVERSE = pow(_BASE, -1, _MODULUS)


@functools.lru_cache(maxsize=8)
def _powers(base: int, length: int) -> np.ndarray:
  values = np.full(length, base, np.uint64)
  values[0] = 1
  return np.cumprod(values, dtype=np.uint64)


class ShingleSet:
  """A growing set of all shingles of some documents."""

  def __init__(self) -> None:
    self._hashes = np.zeros(0, np.uint64)
    # By the high and the low bits of a hash: they settle 99 of 100 lookups
    # without a binary search.
    self._high = np.zeros(1 << _TABLE_BITS, bool)
    self._low = np.zeros(1 << _TABLE_BITS, bool)

  def add(self, documents: Sequence[bytes]) -> None:
    """Puts the documents' shingles into the set."""
    hashes = [h[valid] for h, valid, _ in _hash_chunks(documents)]
    self._hashes = np.sort(np.concatenate([self._hashes, *hashes]))
    self._high[self._hashes >> _HIGH] = True
    self._low[self._hashes & _LOW] = True

  def shared(self, documents: Sequence[bytes]) -> np.ndarray:
    """Returns the share of each document's shingles that are in the set.

    Args:
      documents: any; one shorter than a shingle shares nothing.

    Returns:
      float64 [len(documents)] in [0, 1].
    """
    shares = []
    for hashes, valid, starts in _hash_chunks(documents):
      hit = self._contains(hashes) & valid
      counts = np.add.reduceat(valid.astype(np.int64), starts)
      hits = np.add.reduceat(hit.astype(np.int64), starts)
      shares.append(hits / np.maximum(counts, 1))
    return np.concatenate(shares or [np.zeros(0)])

  def _contains(self, hashes: np.ndarray) -> np.ndarray:
    if not self._hashes.size:
      return np.zeros(hashes.shape, bool)
    found = self._high[hashes >> _HIGH]
    (where,) = np.nonzero(found)
    some = hashes[where]
    maybe = self._low[some & _LOW]
    found[where[~maybe]] = False
    where, some = where[maybe], some[maybe]
    place = np.searchsorted(self._hashes, some)
    place = np.minimum(place, self._hashes.size - 1)
    found[where] = self._hashes[place] == some
    return found


def _hash_chunks(
  documents: Sequence[bytes],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields (hash at each byte, is a shingle's start, document starts)."""
  chunk: list[bytes] = []
  size = 0
  for document in documents:
    chunk.append(document)
    size += len(document) + 1
    if size >= _CHUNK:
      yield _hash_chunk(chunk)
      chunk, size = [], 0
  if chunk:
    yield _hash_chunk(chunk)


def _hash_chunk(
  chunk: list[bytes],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  # A byte after each document gives empty ones a place for reduceat.
  text = np.frombuffer(b"\0".join(chunk) + b"\0", np.uint8)
  lengths = np.array([len(d) + 1 for d in chunk])
  ends = np.cumsum(lengths)
  starts = ends - lengths
  # Powers for the next multiple of the chunk, so that few are ever made.
  room = -(-text.size // _CHUNK) * _CHUNK
  prefix = np.zeros(text.size + SHINGLE, np.uint64)
  # Arithmetic modulo 2^64 is meant: it is exact for an odd base.
  np.cumsum(
    text * _powers(_BASE, room)[: text.size], out=prefix[1 : text.size + 1]
  )
  prefix[text.size + 1 :] = prefix[text.size]
  hashes = prefix[SHINGLE:] - prefix[: text.size]
  hashes *= _powers(_INVERSE, room)[: text.size]
  hashes ^= hashes >> np.uint64(32)
  hashes *= _MIX
  hashes ^= hashes >> np.uint64(29)
  last = np.repeat(ends - 1 - SHINGLE, lengths)
  valid = np.arange(text.size) <= last
  return hashes, valid, starts
