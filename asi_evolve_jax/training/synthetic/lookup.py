"""Tasks that ask for what the sequence told: recall in six forms.

Keys are bytes below 128, values are bytes from 128 on.
"""

from __future__ import annotations

import numpy as np

from asi_evolve_jax.training.examples import Examples, text_examples
from asi_evolve_jax.training.synthetic.task import Task, empty, permuted, rows

VALUES = 128  # bytes from here on are values, below are keys
ASK = 255  # comes before a key that is asked for
ROUNDS = 3  # times that a key is bound in rebinding recall
NOISE = 64  # bytes from here on, 16 of them, mean nothing in noisy recall
_MOST_PAIRS = 30
# Keys to choose from, a pair: with all bytes in use a short training on CPU
# meets each too seldom to show what the mixer can do (measured).
_ALPHABET = 4
_SYMBOLS = 8  # keys, and values, of MAD's base settings
_NOISE_SYMBOLS = 16
_NOISE_SHARE = 0.2
_MOTIF = 3  # longest key or value in fuzzy recall


def _pairs(time: int) -> int:
  return min(max(time // 16, 1), _MOST_PAIRS)


def recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Tells `key value` pairs, then asks: `key value` again and again.

  A pair for every 16 tokens, four times as many keys and values to choose
  from. Targets of the asked keys count.
  """
  del constant
  pairs = _pairs(time)
  symbols = _ALPHABET * pairs
  queries = (time + 1 - 2 * pairs) // 2
  keys = permuted(rng, batch, symbols, pairs)
  values = rng.integers(0, symbols, (batch, pairs)) + VALUES
  asked = rng.integers(0, pairs, (batch, queries))
  windows = np.zeros((batch, time + 1), np.uint8)
  told = 2 * pairs
  windows[:, 0:told:2] = keys
  windows[:, 1:told:2] = values
  end = told + 2 * queries
  windows[:, told:end:2] = keys[rows(batch), asked]
  windows[:, told + 1 : end : 2] = values[rows(batch), asked]
  examples = text_examples(windows)
  examples.weights[:] = 0.0
  examples.weights[:, told:end:2] = 1.0  # the target of a key is its value
  return examples


def in_context_recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """A stream of `key value`, each key with one value: 8 keys, 8 values.

  The value of every key that came before counts.
  """
  del constant
  return _stream(rng, batch, time, 0.0)


def noisy_recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """In-context recall with noise: one of 16 further tokens, a fifth of all."""
  del constant
  return _stream(rng, batch, time, _NOISE_SHARE)


def _stream(
  rng: np.random.Generator, batch: int, time: int, noise: float
) -> Examples:
  # As many units as fit if all were noise; those beyond the end are dropped.
  shape = (batch, time + 1)
  is_noise = rng.random(shape) < noise
  length = np.where(is_noise, 1, 2)
  start = np.cumsum(length, axis=1) - length
  fits = start + length <= time + 1
  keys = rng.integers(0, _SYMBOLS, shape)
  value_of = rng.integers(0, _SYMBOLS, (batch, _SYMBOLS)) + VALUES
  values = value_of[rows(batch), keys]
  # What no unit covers is noise: where there is none, the last odd token.
  windows = rng.integers(0, _NOISE_SYMBOLS, shape) + NOISE
  row, unit = np.nonzero(fits & ~is_noise)
  place = start[row, unit]
  windows[row, place] = keys[row, unit]
  windows[row, place + 1] = values[row, unit]
  examples = text_examples(windows.astype(np.uint8))
  examples.weights[:] = 0.0
  for key in range(_SYMBOLS):
    hits = (keys == key) & fits & ~is_noise
    again = hits & (np.cumsum(hits, axis=1) > 1)
    row, unit = np.nonzero(again)
    examples.weights[row, start[row, unit]] = 1.0
  return examples


def fuzzy_recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """In-context recall where keys and values are 1 to 3 tokens long.

  No key begins another one, so it can be told where a key ends. Every token of
  the value of a key that came before counts.
  """
  del constant
  windows = np.zeros((batch, time + 1), np.uint8)
  weights = np.zeros((batch, time + 1), np.float32)
  for row in range(batch):
    keys = _motifs(rng)
    values = [
      rng.integers(0, _SYMBOLS, size) + VALUES
      for size in rng.integers(1, _MOTIF + 1, _SYMBOLS)
    ]
    tokens: list[int] = []
    counts: list[float] = []
    seen: set[int] = set()
    while len(tokens) <= time:
      pair = int(rng.integers(_SYMBOLS))
      tokens += [*keys[pair], *values[pair].tolist()]
      counts += [0.0] * len(keys[pair])
      counts += [float(pair in seen)] * values[pair].size
      seen.add(pair)
    windows[row] = tokens[: time + 1]
    weights[row] = counts[: time + 1]
  examples = text_examples(windows)
  return examples._replace(weights=weights[:, 1:])


def _motifs(rng: np.random.Generator) -> list[tuple[int, ...]]:
  """Returns keys of which none begins another."""
  keys: list[tuple[int, ...]] = []
  while len(keys) < _SYMBOLS:
    size = int(rng.integers(1, _MOTIF + 1))
    key = tuple(rng.integers(0, _SYMBOLS, size).tolist())
    if not any(key[: len(k)] == k or k[: len(key)] == key for k in keys):
      keys.append(key)
  return keys


def rebinding_recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Tells every key three values, one round after the other, then asks.

  The latest value is the answer. A memory that can only add holds all three
  alike. Asked is `ASK key`; the target of that key counts.
  """
  del constant
  pairs = _pairs(time)
  symbols = _ALPHABET * pairs
  keys = permuted(rng, batch, symbols, pairs)
  values = np.zeros((batch, pairs), np.int64)
  examples = empty(batch, time)
  for told in range(ROUNDS):
    values = rng.integers(0, symbols, (batch, pairs)) + VALUES
    order = permuted(rng, batch, pairs, pairs)
    at = slice(2 * pairs * told, 2 * pairs * (told + 1), 2)
    examples.tokens[:, at] = keys[rows(batch), order]
    after = slice(at.start + 1, at.stop, 2)
    examples.tokens[:, after] = values[rows(batch), order]
  _ask(rng, examples, 2 * pairs * ROUNDS, keys, values)
  return examples


def multi_hop_recall(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Tells `node next` for all nodes of a ring in random order, then asks.

  Asked is `ASK node`; the target of that node, the one two steps on, counts.
  """
  del constant
  nodes = _nodes(time)
  ring = permuted(rng, batch, nodes, nodes)
  examples = empty(batch, time)
  order = permuted(rng, batch, nodes, nodes)
  examples.tokens[:, 0 : 2 * nodes : 2] = ring[rows(batch), order]
  following = ring[rows(batch), (order + 1) % nodes]
  examples.tokens[:, 1 : 2 * nodes : 2] = following
  _ask(rng, examples, 2 * nodes, ring, np.roll(ring, -2, axis=1))
  return examples


def _nodes(time: int) -> int:
  return min(max(time // 16, 3), 64)


def _ask(
  rng: np.random.Generator,
  examples: Examples,
  start: int,
  keys: np.ndarray,
  answers: np.ndarray,
) -> None:
  """Fills everything from `start` on with questions."""
  batch, time = examples.tokens.shape
  queries = (time - start) // 2
  asked = rng.integers(0, keys.shape[1], (batch, queries))
  examples.tokens[:, start:] = ASK
  at = slice(start + 1, start + 2 * queries, 2)
  examples.tokens[:, at] = keys[rows(batch), asked]
  examples.targets[:, at] = answers[rows(batch), asked]
  examples.weights[:, at] = 1.0


TASKS = (
  Task(
    "recall",
    "the value of a key that was told once: multi-query associative recall "
    "(Arora et al., Zoology, arXiv:2312.04927, section 4)",
    recall,
    lambda time: 1 / (_ALPHABET * _pairs(time)),
    least_time=3,
  ),
  Task(
    "in_context_recall",
    "the value that a key had before, in a stream of pairs (Poli et al., MAD, "
    "arXiv:2403.17844)",
    in_context_recall,
    lambda time: 1 / _SYMBOLS,
    least_time=16,
  ),
  Task(
    "fuzzy_recall",
    "the same with keys and values of several tokens (MAD)",
    fuzzy_recall,
    lambda time: 1 / _SYMBOLS,
    # As many tokens as hold more pairs than there are keys: one comes again.
    least_time=2 * _MOTIF * (_SYMBOLS + 1),
  ),
  Task(
    "noisy_recall",
    "the same with noise between the pairs (MAD)",
    noisy_recall,
    lambda time: 1 / _SYMBOLS,
    least_time=24,
  ),
  Task(
    "rebinding_recall",
    "the latest value of a key that was given several: what the delta rule "
    "adds to linear attention (Schlag et al., arXiv:2102.11174, section 6.1)",
    rebinding_recall,
    lambda time: 1 / (_ALPHABET * _pairs(time)),
    least_time=8,
  ),
  Task(
    "multi_hop_recall",
    "what the successor's successor is: two look-ups in a row (after the hops "
    "of Weston et al., bAbI, arXiv:1502.05698, task 2)",
    multi_hop_recall,
    lambda time: 1 / (_nodes(time) - 1),
    least_time=8,
  ),
)
