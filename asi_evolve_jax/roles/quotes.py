"""Numbers that a text quotes, held against the facts it was written from.

A number is quoted if it stands free in the text: digits inside a name (conv4,
fp32, v1.2) are part of that name. Whole numbers up to `SMALL` are steps,
counts, seeds and list marks far more often than measurements, and are let
through. Every other number must stand among the facts, rounded as it is
printed: 0.031 quotes 0.03124, and 0.0312 does, but 0.0313 does not. A sign, if
there is one, must be the fact's; a percentage quotes a percentage.

Differences and ratios of facts are no quotes: with a hundred facts there is a
pair for almost any three digits, so checking them would pass what is made up.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import re
from decimal import Decimal

SMALL = 100
# Relative: what two significant digits leave open.
_TWO_DIGITS = Decimal("0.05")
_NUMBER = re.compile(
  r"(?<![A-Za-z0-9_.])"
  r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?"  # 12,800
  r"|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
  r"(?:[eE][+-]?[0-9]{1,3}(?![0-9]))?"
)
_PERCENT = re.compile(r"\s?(?:%|percent\b|per cent\b)")
# What stands before a sign that is one, and no hyphen or difference.
_AFTER = re.compile(r"[A-Za-z0-9_)\]}%.]")


@dataclasses.dataclass(frozen=True)
class Number:
  """A number as it is printed.

  Attributes:
    text: as it stands there.
    size: without its sign.
    sign: "+", "-" or "": none is printed.
    percent: whether it is a percentage.
  """

  text: str
  size: Decimal
  sign: str
  percent: bool

  @property
  def half_unit(self) -> Decimal:
    """Half of one unit in the last printed digit."""
    exponent = self.size.as_tuple().exponent
    return Decimal(5).scaleb(int(exponent) - 1)

  @property
  def small(self) -> bool:
    """Whether it is a count by its looks."""
    return (
      not self.percent
      and self.text.lstrip("+-").isdecimal()
      and self.size <= SMALL
    )


def numbers(text: str) -> list[Number]:
  """Returns the numbers that stand free in `text`, in their order."""
  text = text.replace("\N{MINUS SIGN}", "-")
  found = []
  for match in _NUMBER.finditer(text):
    start, end = match.span()
    sign = text[start - 1 : start]
    if sign not in ("+", "-") or _AFTER.match(text[start - 2 : start - 1]):
      sign = ""
    digits = match.group()
    found.append(
      Number(
        sign + digits,
        Decimal(digits.replace(",", "")),
        sign,
        _PERCENT.match(text, end) is not None,
      )
    )
  return found


class Facts:
  """The numbers of the material that a text was written from."""

  def __init__(self, material: str):
    """
    Args:
      material: as it was shown.
    """
    self._sizes: dict[tuple[bool, str], list[Decimal]] = {}
    for number in set(numbers(material)):
      kind = number.percent, number.sign
      self._sizes.setdefault(kind, []).append(number.size)
    for sizes in self._sizes.values():
      sizes.sort()

  def misquotes(self, text: str) -> list[str]:
    """Returns the numbers of `text` that quote no fact, as they stand there."""
    wrong = [
      number.text + "%" * number.percent
      for number in numbers(text)
      if not (number.small or self._holds(number))
    ]
    return list(dict.fromkeys(wrong))

  def _holds(self, number: Number) -> bool:
    # Words can say the sign of a number that is printed without.
    signs = {"": ("", "+", "-"), "-": ("-",), "+": ("+", "")}[number.sign]
    size, half_unit = number.size, number.half_unit
    # Sums round to 28 digits: a longer number must still quote itself.
    low, high = min(size, size - half_unit), max(size, size + half_unit)
    for sign in signs:
      sizes = self._sizes.get((number.percent, sign), ())
      place = bisect.bisect_left(sizes, low)
      if place < len(sizes) and sizes[place] <= high:
        return True
    return False


def quotes(quoted: float, fact: float) -> bool:
  """Whether `quoted` is `fact`, rounded to two significant digits or more."""
  if not (math.isfinite(quoted) and math.isfinite(fact)):
    return False
  number, exact = Decimal(repr(quoted)), Decimal(repr(fact))
  exponent = int(number.normalize().as_tuple().exponent)
  half_unit = Decimal(5).scaleb(exponent - 1)
  return abs(number - exact) <= min(half_unit, _TWO_DIGITS * abs(exact))
