"""Reads how long a Mosaic kernel takes off its final schedule.

The text of libtpu has a line a bundle of instructions, one a cycle when nothing
waits, marked with a ">" for each loop that it is in:

  0x28 LB: >> { ... %s7 = sphi %s5, %s6 ... }     the first bundle of a loop
  0x29   : >> { %p1 = scmp.ge.s32.totalorder %s6, 23 /* loop exit test */ }

%s7 counts from what %s5 was set to, by what is added to it to make %s6. The
loop over the grid says that its counter is an "iteration index"; with a
pipeline it runs two more, to fetch ahead and to write back. A grid of one step
has no such loop.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_BUNDLE = re.compile(
  r"^ *(?:0x)?[0-9a-f]+ +(?P<label>[A-Z]{2})? *: (?P<marks>>*) *(?P<text>\{.*)"
)
_IF = r"(?:\(!?%\w+\), )?"  # a predicate before the operands
_PHI = re.compile(r"(%\w+) = sphi (%\w+), (%\w+)")
_COPIED = re.compile(rf"(%\w+) = smov\.u32 {_IF}(%\w+)")
_SPILLED = re.compile(r"sst \[smem:\[(#\w+_spill)\]\] (%\w+)")
_LOADED = re.compile(r"(%\w+) = sld \[smem:\[(#\w+_spill)\]\]")
_SET = re.compile(rf"(%\w+) = smov\.u32 {_IF}(\d+)")
_ADDED = re.compile(rf"(%\w+) = sadd\.s32 {_IF}(\d+), (%\w+)")
_EXIT = re.compile(
  rf"scmp\.ge\.s32\.totalorder {_IF}(%\w+), (\d+) /\* loop exit test"
)
_GRID = "iteration index"
_PIPELINED = "iteration index, stage = 1"
_AHEAD = 2  # steps in which a pipeline fetches, or writes back, alone


class UnreadError(ValueError):
  """A schedule does not say how often a loop runs."""


class Kernel(NamedTuple):
  """The schedule of a Mosaic kernel.

  Attributes:
    cycles: of one step of its grid, waits for memory left out.
    steps: of its grid, times the trips of loops around it.
  """

  cycles: int
  steps: int


class _Bundle(NamedTuple):
  starts: bool
  depth: int
  text: str


class _Loop(NamedTuple):
  """Bundles first to last, and how often they run."""

  first: int
  last: int
  trips: int


def schedule(bundles: str) -> Kernel:
  """Reads a kernel's final schedule.

  A bundle of the loop over the grid counts as often as the loops inside it run,
  whichever of their branches are taken. Without a loop over the grid every
  bundle counts.

  Raises:
    UnreadError: if the trips of a loop are not a number in it: they depend on
      what the kernel computes, or on the step of its grid.
  """
  lines = [
    _Bundle(match["label"] == "LB", len(match["marks"]), match["text"])
    for match in map(_BUNDLE.match, bundles.splitlines())
    if match is not None
  ]
  facts = _Facts.of(lines)
  loops = []
  grid = None
  for first, line in enumerate(lines):
    if not line.starts:
      continue
    trips = facts.trips(line)
    if line.depth == 1 and _GRID in line.text:
      grid = max(1, trips - (_AHEAD if _PIPELINED in line.text else 0))
    else:
      loops.append(_Loop(first, _last(lines, first), trips))
  cycles = 0
  for n, line in enumerate(lines):
    empty = line.text.startswith("{}")
    if line.depth or (grid is None and not empty):
      around = [loop for loop in loops if loop.first <= n <= loop.last]
      cycles += math.prod(loop.trips for loop in around)
  return Kernel(cycles, grid or 1)


def _last(lines: Sequence[_Bundle], first: int) -> int:
  """Returns the last bundle that is marked as inside the loop.

  What the compiler put between, of code around the loop, takes a cycle of each
  trip too.
  """
  depth, last = lines[first].depth, first
  for n in range(first + 1, len(lines)):
    if lines[n].starts and lines[n].depth <= depth:
      break
    if lines[n].depth >= depth:
      last = n
  return last


class _Facts(NamedTuple):
  """What scalars are set to, copied from, made of, and compared with."""

  starts: Mapping[str, int]
  copies: Mapping[str, str]
  sums: Mapping[str, tuple[int, str]]
  bounds: Mapping[str, int]

  @classmethod
  def of(cls, lines: Sequence[_Bundle]) -> _Facts:
    text = "\n".join(line.text for line in lines)
    copies = dict(_COPIED.findall(text))
    # Where registers are short, a counter waits in memory of its own.
    spilled = _SPILLED.findall(text)
    places = collections.Counter(place for place, _ in spilled)
    kept = {place: name for place, name in spilled if places[place] == 1}
    for name, place in _LOADED.findall(text):
      if place in kept:
        copies[name] = kept[place]
    return cls(
      {name: _signed(int(n)) for name, n in _SET.findall(text)},
      copies,
      {name: (int(n), of) for name, n, of in _ADDED.findall(text)},
      {name: int(n) for name, n in _EXIT.findall(text)},
    )

  def trips(self, line: _Bundle) -> int:
    """Returns how often the loop that begins with the bundle runs.

    Raises:
      UnreadError: if it does not say so.
    """
    for counter, begin, after in _PHI.findall(line.text):
      for name, bound in self.bounds.items():
        step, before = self.sums.get(name, (0, ""))
        own = self._original(after) == name or self._original(before) == counter
        start = self.starts.get(self._original(begin))
        if own and step > 0 and start is not None:
          return max(1, -(-(bound - start) // step))
    raise UnreadError(
      "a loop of the kernel runs a number of times that its schedule does not "
      "say. Give its loops bounds that are Python numbers."
    )

  def _original(self, name: str) -> str:
    seen = {name}
    while name in self.copies and self.copies[name] not in seen:
      name = self.copies[name]
      seen.add(name)
    return name


def _signed(number: int) -> int:
  return number - (1 << 32) if number >> 31 else number
