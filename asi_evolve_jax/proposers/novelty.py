"""Is it new? Asked before anything is computed.

What is compared is words: the motivation, and the source without comments and
layout, as hashed runs of three and fewer tokens, weighted by how rare they are
in the archive (TF-IDF), by cosine. A child is like its parent in source by
nature, and two ideas can be told in the same words; only what is like an
earlier Program in both has been done. So likeness is the smaller of the two.

Words miss an idea that is told again in other words. Where the run has an
embedding model, its vectors of the motivations find those; what they find is
for a judge, since vectors place all talk of one subject close together.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from asi_evolve_jax.programs.source import normalise
from asi_evolve_jax.proposers.base import Story, Vectors

_WIDTH = 1 << 16  # of the hash: a few collisions among thousands of runs
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d+(?:\.\d+)?|[^\w\s]")
_RUN = 3
# Two motivations are close if fewer pairs of the archive than this are
# closer. A share, as models differ in what cosine is usual; of enough pairs.
_CLOSER = 0.05
_LEAST_STORIES = 6


@dataclasses.dataclass(frozen=True)
class Nearest:
  """The Program of the archive that is most like a new one."""

  story: Story
  likeness: float  # 0 to 1


class Novelty:
  """Compares with an archive; what it has counted it keeps."""

  def __init__(self) -> None:
    self._counts: dict[str, tuple[Counter[int], Counter[int]]] = {}
    self._lock = threading.Lock()

  def nearest(
    self, source: str, motivation: str, archive: Sequence[Story]
  ) -> Nearest | None:
    """Returns what is most like a new Program; None: there is nothing yet."""
    if not archive:
      return None
    known = self._known(archive)
    likeness = np.minimum(
      _cosines([sources for sources, _ in known], _runs(normalise(source))),
      _cosines([words for _, words in known], _runs(motivation.lower())),
    )
    best = int(np.argmax(likeness))
    return Nearest(archive[best], float(likeness[best]))

  def told_again(
    self,
    source: str,
    motivation: str,
    archive: Sequence[Story],
    vectors: Vectors,
    least: float,
  ) -> Nearest | None:
    """Returns whose idea this may be in other words; None: nobody's.

    Args:
      source, motivation: of the new Program.
      archive: as for `nearest`.
      vectors: of motivations.
      least: likeness of the sources, by which the answer is the first.
    """
    if len(archive) < _LEAST_STORIES:
      return None
    known = [sources for sources, _ in self._known(archive)]
    likeness = _cosines(known, _runs(normalise(source)))
    if likeness.max() < least:
      return None  # vectors may cost money
    new, *old = vectors([motivation, *(story.motivation for story in archive)])
    placed = np.array(old)
    pairs = (placed @ placed.T)[np.triu_indices(len(old), 1)]
    usual = np.quantile(pairs, 1 - _CLOSER)
    # Without a vector there is no word on it.
    close = (placed @ new >= usual) & placed.any(axis=1) & new.any()
    likeness = np.where(close, likeness, -1.0)
    best = int(np.argmax(likeness))
    if likeness[best] < least:
      return None
    return Nearest(archive[best], float(likeness[best]))

  def _known(
    self, archive: Sequence[Story]
  ) -> list[tuple[Counter[int], Counter[int]]]:
    with self._lock:
      for story in archive:
        if story.program not in self._counts:
          self._counts[story.program] = (
            _runs(normalise(story.source)),
            _runs(story.motivation.lower()),
          )
      return [self._counts[story.program] for story in archive]


def _runs(text: str) -> Counter[int]:
  tokens = _TOKEN.findall(text)
  return Counter(
    zlib.crc32(" ".join(tokens[i : i + size]).encode()) % _WIDTH
    for size in range(1, _RUN + 1)
    for i in range(len(tokens) - size + 1)
  )


def _cosines(known: list[Counter[int]], new: Counter[int]) -> np.ndarray:
  """Returns the likeness of `new` to each of `known`: float64 [len(known)]."""
  table = _table([*known, new])
  seen = np.bincount(table.indices, minlength=_WIDTH)
  # Smooth: a run that all have still counts, so that equal texts are alike.
  rarity = np.log((1 + table.shape[0]) / (1 + seen)) + 1
  table = table @ scipy.sparse.diags_array(rarity)
  norms = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
  dots = np.asarray((table[:-1] @ table[-1:].T).todense()).ravel()
  return dots / np.maximum(norms[:-1] * norms[-1], 1e-12)


def _table(counts: list[Counter[int]]) -> scipy.sparse.csr_matrix:
  rows = np.concatenate(
    [np.full(len(c), i, np.int64) for i, c in enumerate(counts)]
  )
  columns = np.fromiter((k for c in counts for k in c), np.int64)
  # A run said ten times is not ten times as telling.
  values = 1 + np.log(
    np.fromiter((v for c in counts for v in c.values()), float)
  )
  return scipy.sparse.csr_matrix(
    (values, (rows, columns)), shape=(len(counts), _WIDTH)
  )
