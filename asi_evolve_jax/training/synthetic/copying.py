"""Tasks about what a state can hold: copying, compression, memorisation."""

from __future__ import annotations

import numpy as np

from asi_evolve_jax.training.examples import Examples
from asi_evolve_jax.training.synthetic.task import Task, empty, rows

SYMBOLS = 16  # contents are the bytes below
BLANK = 254  # nothing to remember; or: say what belongs here
MARK = 255  # say the next one
FACTS = 128  # keys that memorisation knows
_MOST_COPIED = 16


def selective_copying(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Some symbols among blanks, then as many marks: the symbols in order.

  A symbol for every 8 tokens, at most 16. The targets of the marks count.
  """
  del constant
  copied = min(time // 8, _MOST_COPIED)
  examples = empty(batch, time)
  symbols = rng.integers(0, SYMBOLS, (batch, copied))
  places = rng.random((batch, time - copied)).argsort(axis=1)[:, :copied]
  examples.tokens[:] = BLANK
  examples.tokens[rows(batch), np.sort(places, axis=1)] = symbols
  _repeat(examples, symbols)
  return examples


def compression(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Symbols without a blank fill the first half; the second repeats them.

  MAD reads the sequence back from the last token through a decoder of its own.
  A language model has none: here the state is the bottleneck.
  """
  del constant
  examples = empty(batch, time)
  symbols = rng.integers(0, SYMBOLS, (batch, time // 2))
  examples.tokens[:, : time - time // 2] = BLANK  # an odd one stays
  examples.tokens[:, : time // 2] = symbols
  _repeat(examples, symbols)
  return examples


def _repeat(examples: Examples, symbols: np.ndarray) -> None:
  end = slice(examples.tokens.shape[1] - symbols.shape[1], None)
  examples.tokens[:, end] = MARK
  examples.targets[:, end] = symbols
  examples.weights[:, end] = 1.0


def memorisation(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Keys, each followed by a blank whose target is the key's value.

  The values are the same in all sequences of a seed: no sequence tells them,
  so the weights must hold them.
  """
  value_of = constant.permutation(FACTS)
  keys = rng.integers(0, FACTS, (batch, (time + 1) // 2))
  examples = empty(batch, time)
  examples.tokens[:, 0::2] = keys
  examples.tokens[:, 1::2] = BLANK
  examples.targets[:, 1::2] = value_of[keys][:, : time // 2]
  examples.weights[:, 1::2] = 1.0
  return examples


TASKS = (
  Task(
    "selective_copying",
    "some tokens among many, repeated in order (Poli et al., MAD, "
    "arXiv:2403.17844)",
    selective_copying,
    lambda time: 1 / SYMBOLS,
    least_time=8,
  ),
  Task(
    "compression",
    "a whole random sequence, repeated from the state (after MAD, whose "
    "decoder a language model lacks)",
    compression,
    lambda time: 1 / SYMBOLS,
    least_time=2,
  ),
  Task(
    "memorisation",
    "facts that training repeats and no sequence tells (MAD)",
    memorisation,
    lambda time: 1 / FACTS,
    least_time=2,
  ),
)
