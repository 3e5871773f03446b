import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_evolve_jax.evaluation.ladder import Standing, places


@given(
  st.lists(st.integers(0, 9), max_size=60),
  st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]),
  st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_promotes_whoever_was_ever_in_the_top_share(scores, share, minimize):
  standing = Standing(share, minimize)
  promoted, expected = [], set()
  for i, score in enumerate(scores):
    promoted += standing.add(f"p{i}", score)
    # Reference: sort everything measured so far, earlier first among equals.
    so_far = sorted(
      range(i + 1), key=lambda j: (scores[j] if minimize else -scores[j], j)
    )
    top = so_far[: int((i + 1) * share + 1e-9)]
    expected |= {f"p{j}" for j in top}
    assert set(promoted) == expected
  assert len(promoted) == len(set(promoted))


def test_baselines_always_and_failures_never():
  standing = Standing(0.5, minimize=True)
  assert standing.add("bad baseline", 9.0, always=True) == ["bad baseline"]
  assert standing.add("good", 1.0) == ["good"]
  # The third place opens nothing; the fourth opens a second place.
  assert standing.add("middle", 5.0) == []
  assert standing.add("last", 8.0) == ["middle"]
  assert standing.rank("good") == 0
  assert standing.rank("bad baseline") == 3
  for score in (float("nan"), float("inf")):
    with pytest.raises(ValueError, match="ranks nowhere"):
      standing.add("failed", score)


def test_a_new_score_promotes_an_earlier_program():
  standing = Standing(0.5, minimize=False)
  assert standing.add("a", 3.0) == []
  assert standing.add("b", 2.0) == ["a"]
  assert standing.add("c", 1.0) == []
  assert standing.add("d", 0.0) == ["b"]
  assert standing.add("d", 99.0) == []  # a second score changes nothing


def test_equal_scores_do_not_climb_together():
  standing = Standing(0.25, minimize=True)
  promoted = [p for i in range(40) for p in standing.add(f"p{i}", 1.0)]
  assert promoted == [f"p{i}" for i in range(10)]


def test_order_of_arrival_changes_little():
  rng = random.Random(0)
  scores = [rng.random() for _ in range(200)]
  standing = Standing(0.5, minimize=True)
  promoted = {p for i, s in enumerate(scores) for p in standing.add(str(i), s)}
  best = sorted(range(200), key=scores.__getitem__)[:100]
  assert {str(i) for i in best} <= promoted
  assert len(promoted) < 130


def test_places():
  assert places(10, 0.3) == 3  # 10 * 0.3 is below 3 in floating point
  assert places(0, 0.5) == 0
  assert places(7, 1.0) == 7
  with pytest.raises(ValueError, match="share"):
    Standing(1.5, minimize=True)
