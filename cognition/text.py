"""How texts become words: shared by everything that retrieves."""

from __future__ import annotations

import re

# Words and features; "decay=vector" also counts as its two halves.
_TOKEN = re.compile(r"[a-z0-9_]+(?:=[a-z0-9_.,+-]*[a-z0-9])?")
# Lucene's list of English stop words, as in bm25s.
_STOP_TEXT = """
a an and are as at be but by for if in into is it no not of on or such that the
their then there these they this to was will with
"""
_STOP = frozenset(_STOP_TEXT.split())


def words_of(text: str) -> list[str]:
  """Returns the words of `text` in order, without stop words and plurals.

  A feature "gene=value" stands as itself and as both halves.
  """
  words = []
  for token in _TOKEN.findall(text.lower()):
    parts = [token, *token.split("=")] if "=" in token else [token]
    words += [_stem(w) for w in parts if w not in _STOP and len(w) > 1]
  return words


def _stem(word: str) -> str:
  """Drops a plural's s: "gates" finds "gate"."""
  if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
    return word[:-1]
  return word
