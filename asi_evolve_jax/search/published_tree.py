"""Samplers on the search tree that ASI-Arch published, without any training.

The tree has 1,772 nodes with a parent and a fitness each (asi_arch_tree.json,
from GAIR-NLP/ASI-Arch, Apache-2.0; 2507.18074). A round of the replay asks the
sampler for a parent and reveals one of the children that this parent had in the
published run, drawn by chance; a node whose children are all known, or that
had none, is no parent any more.

What this can say is limited. A sampler chooses among the 79 nodes that the
published run chose, and so profits from its choices; a child is what a model
wrote there, knowing what it knew then. It compares the order in which policies
would have opened this tree, nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from asi_evolve_jax.evaluation.statistics import (
  Interval,
  bootstrap_interval,
  mean_interval,
)
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.search.simulation import RUNG, node
from asi_evolve_jax.settings import SamplerSettings
from asi_evolve_jax.tracks.base import MAXIMIZE, Axis

# Generations from the root, all that the tree says of a node but its score.
DEPTH = Axis("depth", tuple(float(n) for n in range(1, 11)))
_ROOM = "asi_evolve_jax.search"
_AT = (50, 100, 200, 400)  # rounds
_GOALS = (2.6, 2.65, 2.7)


@dataclasses.dataclass(frozen=True)
class PublishedTree:
  """Nodes in the order of the published run.

  Attributes:
    parents: place of each node's parent; -1 for the root.
    scores: fitness of each node, larger is better.
  """

  parents: tuple[int, ...]
  scores: tuple[float, ...]

  @functools.cached_property
  def depths(self) -> tuple[int, ...]:
    """Generations between the root and each node."""
    depths: list[int] = []
    for parent in self.parents:
      depths.append(0 if parent < 0 else depths[parent] + 1)
    return tuple(depths)


def load() -> PublishedTree:
  """Returns the tree of ASI-Arch."""
  file = importlib.resources.files(_ROOM) / "asi_arch_tree.json"
  tree = json.loads(file.read_text())
  return PublishedTree(tuple(tree["parents"]), tuple(tree["scores"]))


def replay(
  settings: SamplerSettings, tree: PublishedTree, seed: int, rounds: int
) -> list[float]:
  """Opens the tree from its root as a sampler would.

  Args:
    settings: of the sampler; it sees all revealed nodes, whatever its pool.
    tree: to open.
    seed: of everything that is drawn.
    rounds: children to reveal, fewer if there are no more.

  Returns:
    The best score after each round.
  """
  everybody = len(tree.parents)
  settings = dataclasses.replace(
    settings,
    pool=everybody,
    islands=dataclasses.replace(settings.islands, archive=everybody),
  )
  rng = random.Random(f"{seed}/tree")
  chance = random.Random(f"{seed}/sampler")
  sampler = make_sampler(settings, chance, (DEPTH,))
  hidden: dict[str, list[int]] = {}
  for place, parent in enumerate(tree.parents):
    hidden.setdefault(_name(parent), []).append(place)
  for children in hidden.values():
    rng.shuffle(children)
  view = View("score", MAXIMIZE)
  best = -math.inf
  curve: list[float] = []
  sample_of = functools.partial(sampler.sample, view, RUNG, hidden.__contains__)
  parent, island = _name(-1), 0
  for number in range(rounds + 1):
    if number:  # the root is nobody's child and takes no round
      if hidden.keys().isdisjoint(view.proposal_of):
        break
      sample = sample_of(round_number=number)
      parent, island = sample.parent, sample.island
    place = hidden[parent].pop()
    if not hidden[parent]:
      del hidden[parent]
    best = max(best, tree.scores[place])
    view.update(
      node(
        _name(place),
        tree.scores[place],
        round_number=number,
        parent=parent if number else "",
        island=island,
        numbers={DEPTH.name: float(tree.depths[place])},
      )
    )
    if number:
      curve.append(best)
  return curve


def bench_samplers(
  names: Sequence[str], seeds: int, rounds: int = _AT[-1]
) -> list[dict[str, Any]]:
  """Replays each sampler on the published tree.

  Args:
    names: of the samplers.
    seeds: replays of each, the same draws of children for all samplers.
    rounds: of a replay, at least 1.

  Returns:
    One row a sampler: "sampler"; "best_<n>", mean best score after n rounds;
    "gain_<n>", what that is above the first sampler's, paired by seed;
    "to_<goal>", mean rounds to a goal, where a replay that does not get there
    counts as `rounds`; each with the ends of its 95 % interval ("_low",
    "_high": bootstrap, t for gains); "reached_<goal>", share of the replays
    that get there.
  """
  tree = load()
  rows: list[dict[str, Any]] = []
  first: list[list[float]] = []
  for name in names:
    settings = SamplerSettings(name=name)
    curves = [replay(settings, tree, seed, rounds) for seed in range(seeds)]
    first = first or curves
    row: dict[str, Any] = {"sampler": name, "seeds": seeds, "rounds": rounds}
    for count in _AT:
      if count > rounds:
        break
      best, theirs = ([c[:count][-1] for c in cs] for cs in (curves, first))
      _add(row, f"best_{count}", bootstrap_interval(best))
      if curves is not first:
        gains = [a - b for a, b in zip(best, theirs, strict=True)]
        _add(row, f"gain_{count}", mean_interval(gains))
    for goal in _GOALS:
      needed = [int(np.searchsorted(curve, goal)) + 1 for curve in curves]
      capped = [min(n, rounds) for n in needed]
      _add(row, f"to_{goal:g}", bootstrap_interval(capped))
      got = [n <= len(c) for n, c in zip(needed, curves, strict=True)]
      row[f"reached_{goal:g}"] = sum(got) / seeds
    rows.append(row)
  return rows


def _add(row: dict[str, Any], name: str, value: Interval) -> None:
  row[name], row[f"{name}_low"], row[f"{name}_high"] = value


def _name(place: int) -> str:
  return f"{place:012d}" if place >= 0 else "root"
