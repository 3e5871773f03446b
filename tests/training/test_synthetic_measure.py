"""Measuring on fresh sequences: a model that cannot look back only guesses."""

import numpy as np
import pytest
from small_models import Bigram

from asi_evolve_jax.training.synthetic.measure import measure
from asi_evolve_jax.training.synthetic.registry import TASKS
from asi_evolve_jax.training.synthetic.task import Task, empty
from asi_evolve_jax.training.trainer import Optimizer, Trainer


def _successor(rng, batch, time, constant):
  """What a bigram can learn: the next of ten symbols."""
  del constant
  examples = empty(batch, time)
  examples.tokens[:] = rng.integers(0, 10, (batch, time))
  examples.targets[:] = (examples.tokens + 1) % 10
  examples.weights[:] = 1.0
  return examples


SUCCESSOR = Task("successor", "the next", _successor, lambda time: 0.1, 1)


@pytest.fixture(scope="module")
def trainer():
  return Trainer(
    Bigram(), Optimizer(learning_rate=0.1, warmup=0), batch=4, time=32
  )


def test_a_model_that_cannot_look_back_stays_at_chance(trainer):
  found = measure(trainer, TASKS["recall"], steps=20, seed=0)
  chance = TASKS["recall"].chance(32)
  assert chance == 1 / 8
  # One of 8 values, 64 sequences of 14 queries: standard deviation 0.011.
  assert abs(found.accuracy - chance) < 5 * 0.011
  assert [rate for rate, _ in found.by_rate] == [0.1]


def test_the_best_rate_is_chosen_and_all_are_told(trainer):
  rates = (1e-6, 0.1, 1e38)
  found = measure(trainer, SUCCESSOR, steps=30, seed=0, rates=rates)
  assert found.rate == 0.1
  assert found.accuracy > 0.9
  low, right, diverged = found.by_rate
  assert (low[0], right[0], diverged[0]) == rates
  assert low[1] < 0.5
  assert diverged[1] < 0.5
  again = measure(trainer, SUCCESSOR, steps=30, seed=0, rates=(0.1,))
  assert again.accuracy == found.accuracy


def test_another_seed_is_another_measurement(trainer):
  task = TASKS["parity"]
  values = {
    measure(trainer, task, 2, seed, count=8).accuracy for seed in (0, 1)
  }
  assert len(values) == 2
  assert np.isfinite(list(values)).all()
