"""A byte trigram: what counting alone gets out of the same training bytes."""

from __future__ import annotations

import math

import numpy as np

_BYTES = 256
_ROWS = 4096  # windows counted at a time


class Trigram:
  """Interpolated trigram with Witten-Bell weights.

  p(c | ab) = (n(abc) + d(ab) p(c | b)) / (n(ab) + d(ab)), where d(ab) is the
  number of distinct bytes seen after ab; the same one level down, with the
  uniform distribution at the bottom (Witten and Bell 1991, method C, in the
  interpolated form of Chen and Goodman 1999, section 2.4). No free parameter.
  """

  def __init__(self, windows: np.ndarray):
    """Counts windows, uint8 [count, length], each on its own."""
    three = np.zeros(_BYTES**3, np.int64)
    two = np.zeros(_BYTES**2, np.int64)
    one = np.bincount(windows.reshape(-1), minlength=_BYTES)
    for start in range(0, len(windows), _ROWS):
      w = windows[start : start + _ROWS].astype(np.int64)
      pairs = w[:, :-1] * _BYTES + w[:, 1:]
      two += np.bincount(pairs.reshape(-1), minlength=_BYTES**2)
      triples = (pairs[:, :-1] * _BYTES + w[:, 2:]).reshape(-1)
      values, counts = np.unique(triples, return_counts=True)
      three[values] += counts
    self._one = one
    self._two = two.reshape(_BYTES, _BYTES)
    self._three = three.reshape(_BYTES, _BYTES, _BYTES)

  def bits_per_byte(self, windows: np.ndarray) -> float:
    """Returns the mean code length of all but each window's first byte.

    Args:
      windows: uint8 [count, length], length at least 2; the second byte has a
        context of one byte, as it has for the language model.

    Returns:
      Bits a byte.
    """
    a, b, c = (windows[:, i : windows.shape[1] - 2 + i] for i in range(3))
    first = self._bigram(windows[:, 0], windows[:, 1])
    counts = self._three[a, b]
    lower = self._bigram(b, c)
    rest = _interpolate(self._three[a, b, c], counts, lower)
    nats = -np.log(first).sum() - np.log(rest).sum()
    return float(nats / math.log(2) / (first.size + rest.size))

  def _bigram(self, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    uniform = np.full(c.shape, 1 / _BYTES)
    lower = _interpolate(self._one[c], self._one, uniform)
    return _interpolate(self._two[b, c], self._two[b], lower)


def _interpolate(
  hits: np.ndarray, counts: np.ndarray, lower: np.ndarray
) -> np.ndarray:
  """Mixes n(context, byte) of counts [..., 256] with the shorter context."""
  total = counts.sum(-1)
  distinct = (counts > 0).sum(-1)
  weight = total + distinct
  mixed = (hits + distinct * lower) / np.maximum(weight, 1)
  return np.where(weight > 0, mixed, lower)
