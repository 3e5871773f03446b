"""Retrieval over cognition items: BM25 on triggers, claims and text."""

from __future__ import annotations

import collections
import dataclasses
import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from cognition.item import Item, load_items, serves

# Words and features; "decay=vector" also counts as its two halves.
_TOKEN = re.compile(r"[a-z0-9_]+(?:=[a-z0-9_.,+-]*[a-z0-9])?")


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
    from bm25s import stopwords
  finally:
    for name, module in hidden.items():
      if module is missing:
        del sys.modules[name]
      else:
        sys.modules[name] = module  # type: ignore[assignment]
  return bm25s, frozenset(stopwords.STOPWORDS_EN)


_bm25s, _STOP = _import_bm25s()


@dataclasses.dataclass(frozen=True)
class Hit:
  """An item that a search found; a larger `score` fits better."""

  item: Item
  score: float


class Index:
  """Items that can be searched; grows while a run learns.

  `add` costs nothing; the first search after it rebuilds the BM25 weights,
  which are a function of the whole collection.
  """

  def __init__(self, items: Iterable[Item] = ()):
    self._items: dict[str, Item] = {}
    self._tokens: dict[str, list[str]] = {}
    self._built: tuple[Any, list[str]] | None = None
    for item in items:
      self.add(item)

  def __len__(self) -> int:
    return len(self._items)

  def items(self) -> list[Item]:
    """Returns all items, sorted by id."""
    return sorted(self._items.values(), key=lambda item: item.id)

  def get(self, item_id: str) -> Item | None:
    """Returns the item with this id, if it is the one in force."""
    item = self._items.get(item_id)
    if item is not None:
      return item
    return next((i for i in self._items.values() if i.id == item_id), None)

  def add(self, item: Item) -> bool:
    """Adds `item`, in place of an older version of the same series.

    Returns:
      Whether the index changed.
    """
    old = self._items.get(item.slot)
    if old is not None and (old == item or old.version > item.version):
      return False
    self._items[item.slot] = item
    self._tokens[item.slot] = _tokenize(item.document())
    self._built = None
    return True

  def search(self, query: str, k: int, track: str | None = None) -> list[Hit]:
    """Returns at most `k` items that share words with `query`, best first.

    Ties are broken by id, so equal indexes answer equally whatever the order
    in which they were filled. An item stands once; of items with equal text
    only the first.

    Args:
      query: any text: an Analysis, a motivation, features, a track's brief.
      k: how many at most; 0 gives none.
      track: only items that serve this track.
    """
    words = _tokenize(query)
    if k <= 0 or not words or not self._items:
      return []
    scorer, slots = self._built or self._build()
    scores = np.zeros(len(slots))
    # A word counts as often as it is said, but a long text says much in
    # passing: the square root keeps one word from deciding alone.
    for word, times in collections.Counter(words).items():
      ids = scorer.get_tokens_ids([word])
      if ids:
        scores += np.sqrt(times) * scorer.get_scores_from_ids(ids)
    hits: list[Hit] = []
    seen: set[str] = set()
    # Slots are in the order of ids, and the sort is stable.
    for row in np.argsort(-scores, kind="stable"):
      if scores[row] <= 0 or len(hits) == k:
        break
      item = self._items[slots[row]]
      if not serves(item, track) or item.text in seen:
        continue
      seen.add(item.text)
      hits.append(Hit(item, float(scores[row])))
    return hits

  def _build(self) -> tuple[Any, list[str]]:
    slots = sorted(self._items, key=lambda slot: self._items[slot].id)
    scorer = _bm25s.BM25(dtype="float64")
    # The index must not depend on Python's hash seed: a sorted vocabulary.
    vocabulary = sorted({w for slot in slots for w in self._tokens[slot]})
    numbers = {word: i for i, word in enumerate(vocabulary)}
    ids = [[numbers[w] for w in self._tokens[slot]] for slot in slots]
    scorer.index((ids, numbers), show_progress=False, create_empty_token=False)
    self._built = scorer, slots
    return self._built


def query(
  text: str, k: int = 5, track: str | None = None, items: str = ""
) -> list[Hit]:
  """Searches the items of a folder; "" is the folder that ships."""
  loaded = load_items(items) if items else load_items()
  return Index(loaded).search(text, k, track)


def stats(items: Iterable[Item]) -> dict[str, Any]:
  """Counts items for a person to read.

  Returns:
    items, unchecked: counts; tracks: items a track; suggested, warned:
    feature -> number of items.
  """
  items = list(items)
  count = collections.Counter
  return {
    "items": len(items),
    "unchecked": sum(not item.checked for item in items),
    "tracks": dict(sorted(count(i.track for i in items).items())),
    "suggested": dict(count(f for i in items for f in i.suggests)),
    "warned": dict(count(f for i in items for f in i.warns)),
  }


def _tokenize(text: str) -> list[str]:
  tokens = []
  for token in _TOKEN.findall(text.lower()):
    words = [token, *token.split("=")] if "=" in token else [token]
    tokens += [_stem(w) for w in words if w not in _STOP and len(w) > 1]
  return tokens


def _stem(word: str) -> str:
  """Drops a plural's s: "gates" finds "gate"."""
  if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
    return word[:-1]
  return word
