"""Retrieval over cognition items: ranks of several retrievers, fused."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cognition.item import Item, serves
from cognition.retrievers import Bm25, HashedTfidf, Retriever

# Reciprocal rank fusion (Cormack et al. 2009) adds 1 / (60 + rank) over lists
# of a thousand. Here few are read: 10 keeps the first apart from the fifth.
_RANK_OFFSET = 10


@dataclasses.dataclass(frozen=True)
class Hit:
  """An item that a search found; a larger `score` fits better."""

  item: Item
  score: float


class Index:
  """Items that can be searched; grows while a run learns.

  `add` costs nothing; the first search after it builds the retrievers anew,
  whose weights are functions of the whole collection.

  Args:
    items: what it begins with.
    retrievers: whose ranks are fused; default: BM25 and hashed TF-IDF.
  """

  def __init__(
    self,
    items: Iterable[Item] = (),
    retrievers: Sequence[Retriever] | None = None,
  ):
    self._retrievers = (
      (Bm25(), HashedTfidf()) if retrievers is None else tuple(retrievers)
    )
    self._items: dict[str, Item] = {}
    self._order: list[Item] | None = None  # what the retrievers were built on
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
    self._order = None
    return True

  def search(self, query: str, k: int, track: str | None = None) -> list[Hit]:
    """Returns at most `k` items that fit `query`, best first.

    An item's score is the sum over retrievers of 1 / (10 + its rank there),
    times its weight; one that no retriever finds is not returned. Ties are
    broken by id, so equal indexes answer equally whatever the order in which
    they were filled. An item stands once; of items with equal text only the
    first.

    Args:
      query: any text: an Analysis, a motivation, features, a track's brief.
      k: how many at most; 0 gives none.
      track: only items that serve this track.
    """
    if k <= 0 or not query.strip() or not self._items:
      return []
    items = self._built()
    fits = np.array([serves(item, track) for item in items])
    fused = np.zeros(len(items))
    for retriever in self._retrievers:
      # Equal fits must tie, whatever order they were summed in.
      scores = np.round(np.where(fits, retriever.scores(query), 0.0), 9)
      # The items are in the order of their ids, and the sort is stable.
      ranked = np.argsort(-scores, kind="stable")[: np.sum(scores > 0)]
      fused[ranked] += 1 / (_RANK_OFFSET + 1 + np.arange(len(ranked)))
    fused *= [item.weight for item in items]
    hits: list[Hit] = []
    seen: set[str] = set()
    for row in np.argsort(-fused, kind="stable"):
      if fused[row] <= 0 or len(hits) == k:
        break
      if items[row].text not in seen:
        seen.add(items[row].text)
        hits.append(Hit(items[row], float(fused[row])))
    return hits

  def _built(self) -> list[Item]:
    if self._order is None:
      self._order = self.items()
      documents = [item.document() for item in self._order]
      for retriever in self._retrievers:
        retriever.build(documents)
    return self._order


def stats(items: Iterable[Item]) -> dict[str, Any]:
  """Counts items for a person to read.

  Returns:
    items, unchecked, sources: counts; tracks: items a track; suggested,
    warned: feature -> number of items. A source is one arXiv number.
  """
  items = list(items)
  count = collections.Counter
  return {
    "items": len(items),
    "unchecked": sum(not item.checked for item in items),
    "sources": len({number for item in items for number in item.papers()}),
    "tracks": dict(sorted(count(i.track for i in items).items())),
    "suggested": dict(count(f for i in items for f in i.suggests)),
    "warned": dict(count(f for i in items for f in i.warns)),
  }
