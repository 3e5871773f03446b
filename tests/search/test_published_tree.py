"""The published tree, and samplers that open it."""

import collections

import pytest

from asi_evolve_jax.search.published_tree import (
  PublishedTree,
  bench_samplers,
  load,
  replay,
)
from asi_evolve_jax.search.registry import SAMPLERS
from asi_evolve_jax.settings import SamplerSettings


def test_the_tree_is_the_one_that_was_published():
  tree = load()
  assert len(tree.parents) == len(tree.scores) == 1772
  assert tree.parents[0] == -1
  assert all(p < i for i, p in enumerate(tree.parents))
  children = collections.Counter(tree.parents[1:])
  assert len(children) == 79
  assert [n for _, n in children.most_common(3)] == [213, 113, 77]
  assert max(tree.scores) == pytest.approx(2.74223)
  assert sum(score > tree.scores[0] for score in tree.scores) == 1463
  assert max(tree.depths) == 11


# A root with a good, a bad and a barren child; only the good one leads on.
SMALL = PublishedTree(
  parents=(-1, 0, 0, 0, 1, 2, 4), scores=(1.0, 2.0, 0.5, 1.5, 3.0, 0.6, 4.0)
)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_node_is_revealed_once_and_then_it_is_over(name):
  curve = replay(SamplerSettings(name=name), SMALL, seed=1, rounds=50)
  assert len(curve) == 6  # all but the root
  assert curve == sorted(curve)
  assert curve[-1] == 4.0
  assert curve == replay(SamplerSettings(name=name), SMALL, 1, 50)
  assert curve[:2] == replay(SamplerSettings(name=name), SMALL, 1, 2)


def test_greedy_goes_down_the_good_line_first():
  for seed in range(8):
    curve = replay(SamplerSettings(name="greedy"), SMALL, seed, 6)
    # As soon as the good child is known, its line is followed to the end.
    found = curve.index(2.0)
    assert curve[found:][:3] == [2.0, 3.0, 4.0]


def test_rows_say_how_far_and_how_soon():
  (row,) = bench_samplers(["random"], seeds=3, rounds=60)
  assert row["best_50_low"] <= row["best_50"] <= row["best_50_high"]
  assert "best_100" not in row
  assert row["to_2.7"] <= 60
  assert 0 <= row["reached_2.7"] <= row["reached_2.6"] <= 1
