"""What a synthetic task is, and what generators share.

Sequences are bytes at the text model's own shapes, so that its compiled steps
serve. An answer follows from the tokens up to its position alone; only answers
count. No jax here: configs name tasks too.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable

import numpy as np

from asi_evolve_jax.training.examples import Examples

# (random, batch, time, constant) -> Examples. `constant` starts anew for each
# batch of a seed: what is drawn from it is the same in all of them.
Sample = Callable[
  [np.random.Generator, int, int, np.random.Generator], Examples
]


@dataclasses.dataclass(frozen=True)
class Task:
  """A generator of sequences, and what guessing gets.

  Attributes:
    name: as configs and metrics call it.
    asks: what the model has to do, in words, with its source.
    sample: makes sequences.
    chance: from the time to the accuracy of the best guess that sees the
      current token alone.
    least_time: tokens that a sequence needs.
  """

  name: str
  asks: str
  sample: Sample
  chance: Callable[[int], float]
  least_time: int

  def batch(self, count: int, time: int, seed: int, stream: int) -> Examples:
    """Returns sequences, the same for the same arguments.

    Args:
      count: sequences.
      time: tokens a sequence.
      seed: of everything that is random.
      stream: the train step, or a number of its own.

    Raises:
      ValueError: if `time` is too short for the task.
    """
    if time < self.least_time:
      raise ValueError(
        f"time {time} is too short for {self.name}: use {self.least_time} or "
        "more."
      )
    name = zlib.crc32(self.name.encode())
    return self.sample(
      np.random.default_rng((seed, name, 1, stream)),
      count,
      time,
      np.random.default_rng((seed, name, 0)),
    )


def empty(count: int, time: int) -> Examples:
  """Returns sequences of token 0 where nothing counts, to be filled."""
  return Examples(
    np.zeros((count, time), np.uint8),
    np.zeros((count, time), np.uint8),
    np.zeros((count, time), np.float32),
  )


def permuted(
  rng: np.random.Generator, batch: int, symbols: int, taken: int
) -> np.ndarray:
  """Returns `taken` distinct numbers below `symbols` a row, in random order."""
  rows = np.tile(np.arange(symbols), (batch, 1))
  return rng.permuted(rows, axis=1)[:, :taken]


def rows(batch: int) -> np.ndarray:
  """Returns row indices [batch, 1], for indexing with columns a row."""
  return np.arange(batch)[:, None]
