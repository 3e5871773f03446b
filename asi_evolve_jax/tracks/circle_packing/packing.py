"""Packings as data: how they travel from a Program to the judge, and the judge.

Everything here is exact: a float is a rational number, and sums, differences
and products of rational numbers have no rounding.
"""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np

# A packing of some hundred circles; anything larger is not an honest answer.
MOST_NUMBERS = 4096
MOST_BYTES = 1 << 20


class PackingError(ValueError):
  """Data that is no packing; the message says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Array:
  """An array as it was returned: its shape and its numbers, in C order."""

  shape: tuple[int, ...]
  values: tuple[float, ...]


def as_array(value: Any, name: str) -> Array:
  """Returns what a Program returned as `name`, unchanged in value.

  Raises:
    PackingError: unless it is an array of real numbers of sane size.
  """
  try:
    array = np.asarray(value)
  except Exception as e:  # the value may be any object of the candidate's
    raise PackingError(f"{name} cannot become an array: {e}") from None
  if array.dtype.kind not in "iuf":
    raise PackingError(
      f"{name} must be real numbers, got dtype {array.dtype}: "
      "return float64 arrays."
    )
  if array.size > MOST_NUMBERS:
    raise PackingError(f"{name} has {array.size} numbers")
  array = array.astype(np.float64)
  return Array(array.shape, tuple(array.ravel().tolist()))


def encode(packings: list[tuple[Array, Array]]) -> bytes:
  """Returns packings, one a seed, as JSON; numbers are hexadecimal floats."""
  return json.dumps(
    [
      {
        name: {"shape": a.shape, "values": [v.hex() for v in a.values]}
        for name, a in (("centers", centers), ("radii", radii))
      }
      for centers, radii in packings
    ]
  ).encode()


def decode(data: bytes) -> list[tuple[Array, Array]]:
  """Inverse of `encode`, for bytes that nobody vouches for.

  Raises:
    PackingError: if they are anything else.
  """
  if len(data) > MOST_BYTES:
    raise PackingError(f"the output has {len(data)} bytes")
  try:
    content = json.loads(data)
  except (ValueError, RecursionError) as e:
    raise PackingError(f"the output is no JSON: {e}") from None
  if not isinstance(content, list):
    raise PackingError("the output is no list of packings")
  packings = []
  for entry in content:
    if not isinstance(entry, dict) or set(entry) != {"centers", "radii"}:
      raise PackingError("a packing is centres and radii, nothing else")
    packings.append(
      (_array(entry["centers"], "centers"), _array(entry["radii"], "radii"))
    )
  return packings


def _array(value: Any, name: str) -> Array:
  wrong = PackingError(f"{name} must be a shape and hexadecimal floats")
  if not isinstance(value, dict) or set(value) != {"shape", "values"}:
    raise wrong
  shape, values = value["shape"], value["values"]
  if not isinstance(shape, list) or not isinstance(values, list):
    raise wrong
  if not all(type(n) is int and n >= 0 for n in shape):
    raise wrong
  if not all(isinstance(v, str) for v in values):
    raise wrong
  if len(shape) > 8 or math.prod(shape) != len(values):
    raise wrong
  try:
    return Array(tuple(shape), tuple(float.fromhex(v) for v in values))
  except (ValueError, OverflowError):
    raise wrong from None


def fault(centers: Array, radii: Array, n: int) -> str:
  """Returns what makes this no packing of `n` circles, "" if it is one.

  The circles must lie in the unit square and must not overlap; to touch is
  allowed. Margin 0, without rounding: (x_i - x_j)^2 + (y_i - y_j)^2 >=
  (r_i + r_j)^2 over the rational numbers.
  """
  if centers.shape != (n, 2) or radii.shape != (n,):
    return (
      f"centers must be [{n}, 2] and radii [{n}], got "
      f"{list(centers.shape)} and {list(radii.shape)}."
    )
  for name, array in (("centers", centers), ("radii", radii)):
    for k, value in enumerate(array.values):
      if not math.isfinite(value):
        return f"{name} holds {value} (circle {k * n // len(array.values)})."
  x = [Fraction(v) for v in centers.values[0::2]]
  y = [Fraction(v) for v in centers.values[1::2]]
  r = [Fraction(v) for v in radii.values]
  for i in range(n):
    if r[i] <= 0:
      return f"circle {i} has radius {float(r[i])!r}: it must be positive."
    out = max(r[i] - x[i], r[i] - y[i], x[i] + r[i] - 1, y[i] + r[i] - 1)
    if out > 0:
      return f"circle {i} leaves the unit square by {_length(out)}."
  for i in range(n):
    for j in range(i):
      square = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2
      over = (r[i] + r[j]) ** 2 - square
      if over > 0:
        # a^2 - b^2 = (a - b) (a + b): from squares back to a length.
        amount = over / (r[i] + r[j] + Fraction(math.sqrt(square)))
        return f"circles {j} and {i} overlap by {_length(amount)}."
  return ""


def _length(value: Fraction) -> str:
  try:
    return f"{float(value):.3g}"
  except OverflowError:
    return "more than any float"


def sum_of_radii(radii: Array) -> float:
  """Returns the largest float that is not above the exact sum."""
  exact = sum((Fraction(v) for v in radii.values), Fraction(0))
  nearest = float(exact)
  if Fraction(nearest) > exact:
    return math.nextafter(nearest, -math.inf)
  return nearest
