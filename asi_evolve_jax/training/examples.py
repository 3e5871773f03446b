"""What one train step or one evaluation reads: tokens, targets, weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
  """Sequences with a target at every position, some of which count.

  Attributes:
    tokens: uint8 [count, time].
    targets: uint8 [count, time], what is to be said after each token.
    weights: float32 [count, time], how much each target counts; 0: not at all.
  """

  tokens: np.ndarray
  targets: np.ndarray
  weights: np.ndarray


def text_examples(windows: np.ndarray) -> Examples:
  """Returns text as examples: each byte's target is the next, and all count.

  Args:
    windows: uint8 [count, time + 1].
  """
  tokens, targets = windows[:, :-1], windows[:, 1:]
  return Examples(tokens, targets, np.ones(tokens.shape, np.float32))
