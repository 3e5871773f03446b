"""Splitting by document group, and the order of documents in a file."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from asi_evolve_jax.training.sources import order
from asi_evolve_jax.training.wheels import CorpusError

EVALUATION_SHARE = 0.04  # of a pool, for dev and for held_out each
# Every pool gives about as much, so that no source decides a score alone.
MAX_EVALUATION_BYTES = 256_000
_MAX_OVERSHOOT = 1.5  # a group may exceed the room left by this factor
_PIECE_BYTES = 64_000

Documents = list[tuple[str, bytes]]


def split_groups(
  pools: Mapping[str, Sequence[tuple[str, bytes]]],
) -> dict[str, Documents]:
  """Parts the documents of each pool into train, dev and held_out.

  Args:
    pools: (group, document) pairs by pool; groups of two pools are distinct
      even where they have the same name.

  Returns:
    (group, document) by split; the group's name now begins with its pool.

  Raises:
    CorpusError: if a pool has fewer than three groups.
  """
  parts: dict[str, Documents] = {"train": [], "dev": [], "held_out": []}
  for pool, documents in pools.items():
    sizes: dict[str, int] = collections.Counter()
    for group, data in documents:
      sizes[group] += len(data)
    place = _assign(pool, sizes)
    for group, data in documents:
      parts[place[group]].append((f"{pool}/{group}", data))
  return parts


def _assign(pool: str, sizes: Mapping[str, int]) -> dict[str, str]:
  """Returns the split of each group."""
  if len(sizes) < 3:
    raise CorpusError(
      f"{pool} has {len(sizes)} document group(s); at least 3 are needed for "
      "train, dev and held-out text that do not share any. Add documents."
    )
  target = min(EVALUATION_SHARE * sum(sizes.values()), MAX_EVALUATION_BYTES)
  place = dict.fromkeys(sizes, "train")
  shuffled = sorted(sizes, key=lambda group: order("split", pool, group))
  for split in ("held_out", "dev"):
    taken = 0
    for group in shuffled:
      room = target - taken
      if place[group] == "train" and sizes[group] <= _MAX_OVERSHOOT * room:
        place[group] = split
        taken += sizes[group]
      if taken >= target:
        break
    if not taken:
      free = [group for group in shuffled if place[group] == "train"]
      place[min(free, key=lambda group: sizes[group])] = split
  return place


def shuffle(documents: Documents) -> list[bytes]:
  """Returns the documents in an order that depends on the groups' names only.

  Groups are cut into pieces of 64 kB first, so that the first megabytes of
  the result are a fair sample of the whole.
  """
  groups: dict[str, list[bytes]] = collections.defaultdict(list)
  for group, data in documents:
    groups[group].append(data)
  pieces: list[tuple[bytes, list[bytes]]] = []
  for group, members in groups.items():
    piece: list[bytes] = []
    size = number = 0
    for data in members:
      piece.append(data)
      size += len(data)
      if size >= _PIECE_BYTES:
        pieces.append((order("piece", group, str(number)), piece))
        piece, size, number = [], 0, number + 1
    if piece:
      pieces.append((order("piece", group, str(number)), piece))
  pieces.sort(key=lambda item: item[0])
  return [data for _, piece in pieces for data in piece]
