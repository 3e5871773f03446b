"""Recall sequences ask only for what they told."""

import numpy as np
import pytest
from small_models import Bigram

from asi_evolve_jax.training import recall
from asi_evolve_jax.training.trainer import Optimizer, Trainer


@pytest.mark.parametrize("time", [16, 63, 128])
def test_every_query_has_its_answer_in_the_told_part(time):
  windows, weights = recall.sequences(5, time, seed=0, stream=3)
  assert windows.shape == (5, time + 1)
  assert windows.dtype == np.uint8
  told = 2 * max(time // 16, 1)
  for row, marks in zip(windows, weights, strict=True):
    pairs = dict(zip(row[0:told:2], row[1:told:2], strict=True))
    assert len(pairs) == told // 2  # no key is told twice
    assert max(pairs) < 128 <= min(pairs.values())
    asked = np.nonzero(marks)[0]
    assert len(asked) == (time + 1 - told) // 2
    for i in asked:
      assert pairs[row[i]] == row[i + 1]
  assert weights[:, :told].sum() == 0


def test_streams_differ_and_repeat():
  first, _ = recall.sequences(4, 64, seed=0, stream=0)
  again, _ = recall.sequences(4, 64, seed=0, stream=0)
  np.testing.assert_array_equal(first, again)
  for seed, stream in ((0, 1), (1, 0)):
    other, _ = recall.sequences(4, 64, seed=seed, stream=stream)
    assert (other != first).any()


def test_a_model_that_cannot_look_back_stays_at_chance():
  trainer = Trainer(
    Bigram(), Optimizer(learning_rate=0.1, warmup=0), batch=4, time=32
  )
  accuracy = recall.measure(trainer, steps=20, seed=0, count=32)
  # One of 8 values, 32 sequences of 14 queries: standard deviation 0.016.
  assert abs(accuracy - 1 / 8) < 5 * 0.016


def test_too_short_a_sequence_is_refused():
  with pytest.raises(ValueError, match="too short"):
    recall.sequences(1, 2, seed=0, stream=0)
