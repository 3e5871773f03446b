"""What an Index asks how well documents fit a query; ranks are fused there.

Retrievers keep what they have computed for a document, so that an Index that
grows by one item costs little.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import itertools
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cognition.text import words_of

log = logging.getLogger(__name__)

# Buckets of the hashed n-grams: far more than there are n-grams, and the
# matrix is sparse, so that they cost nothing.
_BUCKETS = 1 << 20
# Similarities below come from single buckets shared by chance.
_LEAST_SIMILARITY = 0.02
# Texts that a model is asked for at a time; what it has given is kept.
_ASKED = 50


class Retriever(Protocol):
  """Scores documents against queries. `name` stands in reports."""

  name: str

  def build(self, documents: Sequence[str]) -> None:
    """Takes the whole collection, in place of an earlier one."""
    ...

  def scores(self, query: str) -> NDArray[np.float64]:
    """Returns float64 [documents]; 0 where nothing fits."""
    ...


def _import_bm25s() -> Any:
  """Imports bm25s without the jax it would start if it finds one.

  bm25s runs a small jax program at import time, which costs seconds and
  occupies a device. The processes that retrieve must stay free of jax.
  """
  names = ("jax", "jax.lax")
  missing = object()
  hidden = {name: sys.modules.get(name, missing) for name in names}
  for name in names:
    sys.modules[name] = None  # type: ignore[assignment]
  try:
    import bm25s
  finally:
    for name, module in hidden.items():
      if module is missing:
        del sys.modules[name]
      else:
        sys.modules[name] = module  # type: ignore[assignment]
  # It tells of every build.
  logging.getLogger("bm25s").setLevel(logging.WARNING)
  return bm25s


_bm25s = _import_bm25s()


class Bm25:
  """Okapi BM25 on whole words (Robertson and Zaragoza 2009), by bm25s."""

  name = "bm25"

  def __init__(self) -> None:
    self._scorer: Any = None
    self._count = 0

  def build(self, documents: Sequence[str]) -> None:
    tokens = [_words(document) for document in documents]
    # The index must not depend on Python's hash seed: a sorted vocabulary.
    vocabulary = sorted({word for words in tokens for word in words})
    numbers = {word: i for i, word in enumerate(vocabulary)}
    ids = [[numbers[word] for word in words] for words in tokens]
    self._count = len(documents)
    self._scorer = None
    if not vocabulary:
      return
    self._scorer = _bm25s.BM25(dtype="float64")
    self._scorer.index(
      (ids, numbers), show_progress=False, create_empty_token=False
    )

  def scores(self, query: str) -> NDArray[np.float64]:
    scores = np.zeros(self._count)
    if self._scorer is None:
      return scores
    # A word counts as often as it is said, but a long text says much in
    # passing: the square root keeps one word from deciding alone.
    for word, times in collections.Counter(words_of(query)).items():
      ids = self._scorer.get_tokens_ids([word])
      if ids:
        scores += np.sqrt(times) * self._scorer.get_scores_from_ids(ids)
    return scores


class HashedTfidf:
  """Cosine of TF-IDF vectors over hashed words, word pairs and characters.

  Character n-grams find what BM25 cannot: "normalised" for "normalisation",
  "overflows" for "overflow". Needs no download and is deterministic.
  """

  name = "tfidf"

  def __init__(self) -> None:
    self._matrix = sparse.csr_matrix((0, _BUCKETS))
    self._idf = np.zeros(_BUCKETS)

  def build(self, documents: Sequence[str]) -> None:
    rows = [_hashed(document) for document in documents]
    frequency = np.zeros(_BUCKETS)
    for buckets, _ in rows:
      frequency[buckets] += 1
    self._idf = 1 + np.log((1 + len(rows)) / (1 + frequency))
    pointers = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    empty = (np.zeros(0, np.int64), np.zeros(0))
    buckets, weights = map(
      np.concatenate, zip(empty, *map(self._weighted, rows), strict=True)
    )
    self._matrix = sparse.csr_matrix(
      (weights, buckets, pointers), shape=(len(rows), _BUCKETS)
    )

  def scores(self, query: str) -> NDArray[np.float64]:
    buckets, weights = self._weighted(_hashed(query))
    vector = np.zeros(_BUCKETS)
    vector[buckets] = weights
    found = self._matrix @ vector
    return np.where(found < _LEAST_SIMILARITY, 0.0, found)

  def _weighted(self, row: Hashed) -> Hashed:
    buckets, counts = row
    weights = (1 + np.log(counts)) * self._idf[buckets]
    length = np.sqrt(np.sum(weights**2))
    return buckets, weights / length if length else weights


Embed = Callable[[Sequence[str]], NDArray[np.floating]]


class Vectors(Protocol):
  """Where vectors are kept: a dict will do."""

  def get(self, key: str, /) -> NDArray[np.floating] | None: ...

  def __setitem__(self, key: str, vector: NDArray[np.floating], /) -> None: ...


class Embeddings:
  """Cosine of vectors that a model gives: MiniLM, an API, anything.

  Args:
    name: of the model and its version; part of the keys of kept vectors.
    embed: texts to [texts, dimensions], any length but zero. Called for the
      texts that `vectors` does not hold, some at a time. Where it raises
      ConnectionError, these documents, or all for this query, are not found;
      at the next build it is asked again.
    vectors: where document vectors are kept, by a hash of name and text.
    least: similarity below which a document does not count as found.
  """

  def __init__(
    self,
    name: str,
    embed: Embed,
    vectors: Vectors,
    *,
    least: float = 0.0,
  ):
    self.name = name
    self._embed = embed
    self._vectors = vectors
    self._least = least
    self._matrix: NDArray[np.floating] = np.zeros((0, 1))

  def build(self, documents: Sequence[str]) -> None:
    self._matrix = self.of(documents)

  def of(self, documents: Sequence[str]) -> NDArray[np.floating]:
    """Returns a kept unit vector a document [documents, dimensions].

    Zeros stand for those that the model gave none for.
    """
    keys = [self._key(document) for document in documents]
    found = {key: self._vectors.get(key) for key in keys}
    new = {
      key: document
      for key, document in zip(keys, documents, strict=True)
      if found[key] is None
    }
    for start in range(0, len(new), _ASKED):
      part = list(new)[start : start + _ASKED]
      made = self._ask([new[key] for key in part])
      if not len(made):
        break  # what was made is kept
      for key, vector in zip(part, made, strict=True):
        self._vectors[key] = found[key] = vector
    size = max((len(v) for v in found.values() if v is not None), default=0)
    rows = (found[key] for key in keys)
    return _unit(
      np.array([np.zeros(size) if row is None else row for row in rows])
    )

  def scores(self, query: str) -> NDArray[np.float64]:
    nothing = np.zeros(len(self._matrix))
    if not self._matrix.any():
      return nothing
    asked = self._ask([query])
    if not len(asked):
      return nothing
    found = self._matrix @ _unit(asked)[0]
    return np.where(found <= self._least, 0.0, found)

  def _ask(self, texts: Sequence[str]) -> NDArray[np.floating]:
    """Returns one vector a text, or none at all."""
    try:
      return np.asarray(self._embed(texts))
    except ConnectionError as error:
      log.warning("no vectors of %s: %s", self.name, error)
      return np.zeros((0, 1))

  def _key(self, text: str) -> str:
    return hashlib.sha256(f"{self.name}\n{text}".encode()).hexdigest()[:32]


Hashed = tuple[NDArray[np.int64], NDArray[np.float64]]


@functools.lru_cache(maxsize=4096)
def _words(document: str) -> tuple[str, ...]:
  return tuple(words_of(document))


@functools.lru_cache(maxsize=4096)
def _hashed(text: str) -> Hashed:
  """Returns the buckets that `text` falls into, and how often."""
  words = words_of(text)
  grams = [bucket for word in words for bucket in _grams(word)]
  grams += [_bucket(f"{a} {b}") for a, b in itertools.pairwise(words)]
  buckets, counts = np.unique(
    np.array(grams, dtype=np.int64), return_counts=True
  )
  return buckets, counts.astype(np.float64)


@functools.lru_cache(maxsize=1 << 16)
def _grams(word: str) -> tuple[int, ...]:
  """Returns the buckets of a word: itself, and its 4- and 5-grams."""
  padded = f"<{word}>"
  parts = [
    padded[i : i + size]
    for size in (4, 5)
    for i in range(len(padded) - size + 1)
  ]
  return tuple(_bucket(part) for part in (word, *parts))


def _bucket(gram: str) -> int:
  return zlib.crc32(gram.encode()) % _BUCKETS


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
  """Returns the rows at unit length; a row of zeros stays one."""
  lengths = np.sqrt(np.sum(rows.astype(np.float64) ** 2, axis=1, keepdims=True))
  return rows / np.where(lengths == 0, 1.0, lengths)
