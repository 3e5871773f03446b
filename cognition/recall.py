"""How often a held-out symptom brings up the item that explains it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import yaml

from cognition.index import Index
from cognition.item import CognitionError, Item
from cognition.retrievers import Bm25, HashedTfidf, Retriever

# What is compared: each retriever alone, and what an Index does by default.
RETRIEVERS: dict[str, Callable[[], Sequence[Retriever]]] = {
  "bm25": lambda: (Bm25(),),
  "tfidf": lambda: (HashedTfidf(),),
  "fused": lambda: (Bm25(), HashedTfidf()),
}


@dataclasses.dataclass(frozen=True)
class Query:
  """A symptom in words of its own, and the ids of the items it should find."""

  text: str
  track: str
  items: tuple[str, ...]


def load_queries(path: str | pathlib.Path) -> list[Query]:
  """Reads a YAML list of `query`, `track` and `items`.

  Raises:
    CognitionError: if the file is malformed.
  """
  try:
    entries = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    return [
      Query(str(e["query"]), str(e["track"]), tuple(map(str, e["items"])))
      for e in entries
    ]
  except (yaml.YAMLError, KeyError, TypeError) as error:
    raise CognitionError(
      f"{path}: not a list of query, track and items: {error}"
    ) from error


def recalls(
  items: Iterable[Item],
  queries: Sequence[Query],
  k: int = 5,
  retrievers: Sequence[Retriever] | None = None,
) -> list[float]:
  """Returns, for each query, the share of its items among the first `k`.

  Only items of the query's track compete, as in a run.

  Raises:
    CognitionError: if a query names an item that is not there.
  """
  index = Index(items, retrievers)
  for query in queries:
    for name in query.items:
      if index.get(name) is None:
        raise CognitionError(f"{query.text!r} wants {name}, which is no item.")
  found = (
    {hit.item.id for hit in index.search(query.text, k, query.track)}
    for query in queries
  )
  return [
    len(hits & set(query.items)) / len(query.items)
    for query, hits in zip(queries, found, strict=True)
  ]
