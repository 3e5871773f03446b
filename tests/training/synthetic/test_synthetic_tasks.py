"""Every answer is found again by solvers that share no code with the tasks."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_evolve_jax.training.synthetic.registry import TASKS
from asi_evolve_jax.training.synthetic.tracking import group


def _last_pair(seen):
  """Value after the last time that the newest token stood before."""
  key = seen[-1]
  for i in range(len(seen) - 2, 0, -1):
    if seen[i - 1] == key:
      return seen[i]
  raise AssertionError(f"{key} was not told in {seen}")


def _fuzzy(seen):
  """Parses whole keys and values, and continues the value of the last key."""
  pairs, i = [], 0
  while i < len(seen):
    key, value = [], []
    while i < len(seen) and seen[i] < 128:
      key.append(seen[i])
      i += 1
    while i < len(seen) and seen[i] >= 128:
      value.append(seen[i])
      i += 1
    pairs.append((key, value))
  *told, (key, begun) = pairs
  (value,) = {tuple(v) for k, v in told if k == key}
  assert list(value[: len(begun)]) == begun
  return value[len(begun)]


def _rebinding(seen):
  told = seen[: seen.index(255)]
  latest = dict(zip(told[0::2], told[1::2], strict=True))
  return latest[seen[-1]]


def _two_hops(seen):
  told = seen[: seen.index(255)]
  after = dict(zip(told[0::2], told[1::2], strict=True))
  assert set(after) == set(after.values())
  return after[after[seen[-1]]]


def _copied(seen):
  return [t for t in seen if t < 16][seen.count(255) - 1]


def _parity(seen):
  odd = False
  for bit in seen:
    odd = odd != bool(bit)
  return int(odd)


def _product(size):
  elements = list(itertools.permutations(range(size)))

  def solve(seen):
    things = list(range(size))
    for token in seen:
      things = [elements[token][thing] for thing in things]
    return elements.index(tuple(things))

  return solve


def _innermost(seen):
  stack = []
  for token in seen:
    if token < 4:
      stack.append(token)
    else:
      assert stack.pop() == token - 4
    assert len(stack) <= 6
  return stack[-1] + 4


SOLVERS = {
  "recall": _last_pair,
  "in_context_recall": _last_pair,
  "noisy_recall": _last_pair,
  "fuzzy_recall": _fuzzy,
  "rebinding_recall": _rebinding,
  "multi_hop_recall": _two_hops,
  "selective_copying": _copied,
  "compression": _copied,
  "parity": _parity,
  "permutations_s3": _product(3),
  "permutations_s5": _product(5),
  "dyck": _innermost,
}


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(32, 97))
def test_answers_follow_from_the_tokens_so_far(name, seed, time):
  time = max(time, TASKS[name].least_time)
  tokens, targets, weights = TASKS[name].batch(3, time, seed, stream=1)
  assert tokens.shape == targets.shape == weights.shape == (3, time)
  assert tokens.dtype == targets.dtype == np.uint8
  assert set(np.unique(weights)) <= {0.0, 1.0}
  for row in range(3):
    asked = np.flatnonzero(weights[row])
    assert asked.size or name == "dyck"
    for t in asked:
      assert SOLVERS[name](tokens[row, : t + 1].tolist()) == targets[row, t]


def test_memorisation_asks_one_value_of_a_key_in_all_sequences():
  task = TASKS["memorisation"]
  value_of = {}
  for stream in range(20):
    tokens, targets, weights = task.batch(8, 33, seed=5, stream=stream)
    for row, t in zip(*np.nonzero(weights), strict=True):
      assert tokens[row, t] == 254
      key = tokens[row, t - 1]
      assert value_of.setdefault(key, targets[row, t]) == targets[row, t]
  assert len(value_of) == len(set(value_of.values())) == 128
  other = task.batch(8, 33, seed=6, stream=0)
  known = [
    value_of[other.tokens[row, t - 1]] == other.targets[row, t]
    for row, t in zip(*np.nonzero(other.weights), strict=True)
  ]
  assert np.mean(known) < 0.1


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("time", [32, 64])
def test_chance_is_the_best_guess_from_the_current_token(name, time):
  """Counts what follows each token on one half and guesses on the other.

  Nothing nearby, and no habit of the answers, gives them away.
  """
  task = TASKS[name]
  time = max(time, task.least_time)
  counts = collections.defaultdict(collections.Counter)
  hits = total = 0
  for stream in range(40):
    tokens, targets, weights = task.batch(64, time, seed=0, stream=stream)
    chosen = weights > 0
    pairs = zip(tokens[chosen].tolist(), targets[chosen].tolist(), strict=True)
    for token, target in pairs:
      if stream < 20:
        counts[token][target] += 1
      elif counts[token]:
        hits += counts[token].most_common(1)[0][0] == target
        total += 1
  chance = task.chance(time)
  # Answers within a sequence hang together, so count sequences, not answers.
  deviation = np.sqrt(chance * (1 - chance) / (20 * 64))
  assert abs(hits / total - chance) < 4 * deviation


@pytest.mark.parametrize("name", TASKS)
def test_the_same_arguments_give_the_same_sequences(name):
  task = TASKS[name]
  first = task.batch(4, 64, seed=0, stream=0)
  again = task.batch(4, 64, seed=0, stream=0)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a, b)
  for seed, stream in ((0, 1), (1, 0)):
    other = task.batch(4, 64, seed=seed, stream=stream)
    assert (other.tokens != first.tokens).any()


@pytest.mark.parametrize("name", TASKS)
def test_every_length_from_the_least_on_asks_something(name):
  task = TASKS[name]
  for time in (task.least_time, task.least_time + 1, 512, 513):
    assert task.batch(16, time, seed=0, stream=0).weights.sum() > 0
  with pytest.raises(ValueError, match=f"too short for {name}: use"):
    task.batch(1, task.least_time - 1, seed=0, stream=0)


def test_products_are_those_of_permutations():
  elements, products = group(3)
  for a, b in itertools.product(range(6), repeat=2):
    np.testing.assert_array_equal(
      elements[products[a, b]], elements[a][elements[b]]
    )
