"""The Cognition Base: what is known, as files, and how it is found again."""

from cognition.index import Hit, Index, stats
from cognition.item import ITEMS_DIR, CognitionError, Item, load_items
from cognition.lint import Names, Problem, lint
from cognition.retrievers import Bm25, Embeddings, HashedTfidf, Retriever

__all__ = [
  "ITEMS_DIR",
  "Bm25",
  "CognitionError",
  "Embeddings",
  "HashedTfidf",
  "Hit",
  "Index",
  "Item",
  "Names",
  "Problem",
  "Retriever",
  "lint",
  "load_items",
  "stats",
]
