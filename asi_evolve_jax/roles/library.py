"""The Cognition Base as a run sees it: its items, names and index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asi_evolve_jax.programs.genome import feature
from asi_evolve_jax.proposers.base import Vectors
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import FAILED, REJECTED, TIMEOUT
from asi_evolve_jax.roles.embedding import Embedder
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track
from cognition import Embeddings, HashedTfidf, Index, Names, lint, load_items
from cognition.retrievers import Bm25

log = logging.getLogger(__name__)

# Tracks whose items are written before their space is, and what they will
# measure. A track that exists speaks for itself: `names_of`.
_TO_COME = {
  "rl_loss": (
    *("accuracy", "accuracy_auc", "greedy_accuracy", "pass_at_k", "reward"),
    *("entropy", "kl", "length", "ratio_deviation", "clipped_share"),
    *("gradient_norm", "mixed_groups", "collapsed_seeds", "distinct_answers"),
  ),
  "data_curation": (
    *("bits_per_byte", "held_out_bits_per_byte", "task_accuracy", "kept"),
    *("duplicates", "contamination", "source_mixture", "diversity", "epochs"),
  ),
}


def names_of(track: Track) -> Names:
  """Returns what items of `track` may name."""
  metrics = {metric.name for metric in track.metrics()}
  return Names(
    features={feature(g.name, v) for g in track.space.genes for v in g.values},
    metrics={*metrics, *track.columns()},
    others={
      *(name.rpartition("/")[2] for name in metrics),  # tasks of any suite
      *(stage.name for stage in track.stages),
      *(baseline.name for baseline in track.baselines()),
      *(FAILED, REJECTED, TIMEOUT),
    },
  )


def names_to_come() -> dict[str, Names]:
  """Returns the names of tracks that have items and no space yet."""
  return {
    name: Names(features=(), metrics=metrics)
    for name, metrics in _TO_COME.items()
  }


def make_index(
  records: Records,
  settings: RunSettings,
  track: Track,
  items_dir: str | Path,
  embed: Embedder | None = None,
) -> Index:
  """Returns the items that the run may read, ready to be searched.

  Items that name what does not exist are kept and logged: what they say in
  words still helps, and a mistake in a file must not stop a run.

  Args:
    records: where vectors of `embed` are kept.
    settings: `researcher.knowledge` of 0 gives an empty Index.
    track: whose items, with the names that exist there.
    items_dir: the folder of items.
    embed: an embedding model, in place of hashed TF-IDF.
  """
  if not settings.researcher.knowledge:
    return Index()
  items = load_items(
    items_dir, track=settings.track, exclude=settings.cognition.exclude
  )
  for problem in lint(items, {settings.track: names_of(track)}):
    log.warning("item %s: %s", problem.item, problem.text)
  dense = (
    Embeddings(embed.name, embed, _Kept(records)) if embed else HashedTfidf()
  )
  return Index(items, (Bm25(), dense))


def vectors(records: Records, embed: Embedder) -> Vectors:
  """Returns what gives vectors by `embed`, each kept once it is made.

  Proposals are written side by side, and an Embedder answers one at a time.
  """
  kept = Embeddings(embed.name, embed, _Kept(records))
  lock = threading.Lock()

  def of(texts: Sequence[str]) -> NDArray[np.floating]:
    with lock:
      return kept.of(texts)

  return of


class _Kept:
  """Vectors as arrays of a run's records."""

  def __init__(self, records: Records):
    self._records = records
    # An Index that grows asks for all of them again.
    self._read: dict[str, np.ndarray] = {}

  def get(self, key: str, /) -> np.ndarray | None:
    if key not in self._read:
      found = self._records.get_array(f"vectors/{key}")
      if found is None:
        return None
      self._read[key] = found
    return self._read[key]

  def __setitem__(self, key: str, vector: np.ndarray, /) -> None:
    self._records.put_array(f"vectors/{key}", vector)
    self._read[key] = vector
