"""The Cognition Base: what is known, as files, and how it is found again."""

from cognition.index import Hit, Index, query, stats
from cognition.item import ITEMS_DIR, CognitionError, Item, load_items

__all__ = [
  "ITEMS_DIR",
  "CognitionError",
  "Hit",
  "Index",
  "Item",
  "load_items",
  "query",
  "stats",
]
