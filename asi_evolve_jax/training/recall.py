"""Multi-query associative recall: can the model look up what it was told?

After Arora et al., "Zoology" (arXiv:2312.04927), section 4: a sequence tells
key-value pairs and then asks for the values of its keys again and again. Keys
and values are bytes, and every query counts, so the text model's own shapes
and compiled steps serve. Reported beside the score; it ranks nothing.
"""

from __future__ import annotations

import numpy as np

from asi_evolve_jax.training.trainer import Trainer

_VALUES = 128  # bytes from here on are values, below are keys
_MOST_PAIRS = 32
# Keys to choose from, a pair: with all bytes in use a short training on CPU
# meets each too seldom to show what the mixer can do (measured).
_ALPHABET = 4
_HELD_OUT = 1 << 40  # stream of the held-out sequences, beyond any step


def sequences(
  batch: int, time: int, seed: int, stream: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns recall sequences and which of their targets are answers.

  Args:
    batch: sequences.
    time: tokens a sequence; a pair for every 16, at most 32. There are four
      times as many keys and as many values to choose from.
    seed: with `stream`, of the random choice.
    stream: the training step, or a number of its own.

  Returns:
    (windows uint8 [batch, time + 1], weights float32 [batch, time], 1 where
    the target answers a query).
  """
  rng = np.random.default_rng((seed, stream))
  pairs = min(max(time // 16, 1), _MOST_PAIRS)
  symbols = _ALPHABET * pairs
  queries = (time + 1 - 2 * pairs) // 2
  if queries < 1:
    raise ValueError(f"time {time} is too short for recall: use 3 or more.")
  order = rng.permuted(np.tile(np.arange(symbols), (batch, 1)), axis=1)
  keys = order[:, :pairs]
  values = rng.integers(0, symbols, (batch, pairs)) + _VALUES
  asked = rng.integers(0, pairs, (batch, queries))
  row = np.arange(batch)[:, None]
  windows = np.zeros((batch, time + 1), np.uint8)
  told = 2 * pairs
  windows[:, 0:told:2] = keys
  windows[:, 1:told:2] = values
  end = told + 2 * queries
  windows[:, told:end:2] = keys[row, asked]
  windows[:, told + 1 : end : 2] = values[row, asked]
  weights = np.zeros((batch, time), np.float32)
  weights[:, told:end:2] = 1.0  # the target of a key is its value
  return windows, weights


def measure(trainer: Trainer, steps: int, seed: int, count: int = 64) -> float:
  """Trains a fresh model on recall and returns its accuracy in [0, 1].

  Chance is one in four times the number of pairs.

  Args:
    trainer: the compiled steps of the text model.
    steps: optimiser steps, each on fresh sequences.
    seed: of initialisation and data.
    count: held-out sequences.
  """
  state = trainer.init(seed)
  for step, rate in enumerate(trainer.optimizer.schedule(steps)):
    windows, weights = sequences(trainer.batch, trainer.time, seed, step)
    state, _ = trainer.step(state, windows, rate, weights)
  windows, weights = sequences(count, trainer.time, seed, _HELD_OUT)
  return trainer.evaluate(state["params"], windows, weights)[1]
