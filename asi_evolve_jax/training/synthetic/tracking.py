"""Tasks about what follows from all tokens so far: state tracking and nesting.

Inputs do not show earlier answers: a model that could copy those would have to
track nothing.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from asi_evolve_jax.training.examples import Examples
from asi_evolve_jax.training.synthetic.task import Sample, Task, empty

BRACKETS = 4  # kinds; byte i opens one, byte BRACKETS + i closes it
DEPTH = 6  # deepest nesting


def parity(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Bits; after each but the first, whether the ones so far are odd (1)."""
  del constant
  examples = empty(batch, time)
  bits = rng.integers(0, 2, (batch, time))
  examples.tokens[:] = bits
  examples.targets[:] = np.cumsum(bits, axis=1) % 2
  examples.weights[:, 1:] = 1.0
  return examples


@functools.cache
def group(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the symmetric group of `size` things.

  Returns:
    (elements [size!, size] in lexicographic order, products [size!, size!]
    where entry (a, b) is the index of a after b).
  """
  elements = np.array(list(itertools.permutations(range(size))))
  weight = size ** np.arange(size)
  code = elements @ weight
  index = np.zeros(code.max() + 1, np.int64)
  index[code] = np.arange(len(elements))
  products = np.stack([index[e[elements] @ weight] for e in elements])
  return elements, products


def _permutations(size: int) -> Sample:
  def sample(
    rng: np.random.Generator,
    batch: int,
    time: int,
    constant: np.random.Generator,
  ) -> Examples:
    """Elements of the group; after each but the first, their product so far."""
    del constant
    elements, products = group(size)
    examples = empty(batch, time)
    drawn = rng.integers(0, len(elements), (batch, time))
    examples.tokens[:] = drawn
    state = drawn[:, 0]
    for t in range(1, time):
      state = products[drawn[:, t], state]
      examples.targets[:, t] = state
    examples.weights[:, 1:] = 1.0
    return examples

  return sample


def dyck(
  rng: np.random.Generator,
  batch: int,
  time: int,
  constant: np.random.Generator,
) -> Examples:
  """Four kinds of brackets, properly nested, at most 6 deep.

  After a closing bracket, what closes the innermost one still open; where none
  is, and after opening brackets (they show it), nothing counts.
  """
  del constant
  examples = empty(batch, time)
  stack = np.zeros((batch, DEPTH + 1), np.int64)
  depth = np.zeros(batch, np.int64)
  row = np.arange(batch)
  opens = rng.random((batch, time)) < 0.5
  kinds = rng.integers(0, BRACKETS, (batch, time))
  for t in range(time):
    up = (depth == 0) | (opens[:, t] & (depth < DEPTH))
    closing = BRACKETS + stack[row, np.maximum(depth - 1, 0)]
    examples.tokens[:, t] = np.where(up, kinds[:, t], closing)
    # Only rows that go up write; the place above the top is free for others.
    stack[row, np.minimum(depth, DEPTH)] = kinds[:, t]
    depth += np.where(up, 1, -1)
    examples.targets[:, t] = BRACKETS + stack[row, np.maximum(depth - 1, 0)]
    examples.weights[:, t] = ~up & (depth > 0)
  return examples


TASKS = (
  Task(
    "parity",
    "whether the ones so far are odd: needs negative eigenvalues (Grazzi et "
    "al., arXiv:2411.12537)",
    parity,
    lambda time: 1 / 2,
    least_time=2,
  ),
  Task(
    "permutations_s3",
    "the product of permutations of three things so far (Merrill et al., "
    "arXiv:2404.08819)",
    _permutations(3),
    lambda time: 1 / 6,
    least_time=2,
  ),
  Task(
    "permutations_s5",
    "the same for five things, beyond what fixed depth without true "
    "recurrence can do (Merrill et al.)",
    _permutations(5),
    lambda time: 1 / 120,
    least_time=2,
  ),
  Task(
    "dyck",
    "which bracket is innermost, of four kinds at most 6 deep (Hewitt et al., "
    "arXiv:2010.07515)",
    dyck,
    lambda time: 1 / BRACKETS,
    least_time=8,
  ),
)
