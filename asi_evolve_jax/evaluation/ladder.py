"""Who climbs to the next rung: asynchronous successive halving.

Li et al. (2020), "A system for massively parallel hyperparameter tuning",
algorithm 2: a Program is promoted when it is among the best `share` of what
its rung has measured so far; nobody waits for a rung to fill up. Knows no
track, no store and no process.
"""

from __future__ import annotations

import bisect
import math

# Places of n * share that rounding could have moved below a whole number.
_SLACK = 1e-9


def places(count: int, share: float) -> int:
  """Returns how many of `count` measured Programs are to be promoted."""
  return min(count, math.floor(count * share + _SLACK))


class Standing:
  """The order of one rung, kept up to date one score at a time.

  Ties go to who was measured first, so a crowd of equal scores does not climb
  together. Baselines are always promoted; they count as measured and take
  their places like anybody else.

  Args:
    share: in [0, 1], of the measured Programs that are promoted.
    minimize: whether less is better.
  """

  def __init__(self, share: float, minimize: bool):
    if not 0 <= share <= 1:
      raise ValueError(f"promote must be a share in [0, 1], got {share}")
    self.share = share
    self._sign = 1.0 if minimize else -1.0
    self._order: list[tuple[float, int, str]] = []  # best first
    self._place: dict[str, tuple[float, int, str]] = {}
    self._promoted: set[str] = set()

  def add(self, program: str, score: float, always: bool = False) -> list[str]:
    """Takes a score in and returns who is promoted by it, best first.

    It can be another Program than the one measured: each score makes room for
    a larger number of places. A promotion is never taken back. A Program's
    second score is ignored.

    Args:
      program: its id.
      score: finite; failures have none and are not added.
      always: whether it is promoted whatever its place.

    Raises:
      ValueError: if the score is not finite.
    """
    if not math.isfinite(score):
      raise ValueError(f"{program} has the score {score}, which ranks nowhere")
    if program in self._place:
      return []
    place = (self._sign * score, len(self._place), program)
    self._place[program] = place
    bisect.insort(self._order, place)
    found = [program] if always else []
    last = places(len(self._order), self.share)
    # One entry more moves the boundary by one at most, so who is newly inside
    # is the new one itself or the last one inside.
    candidates = [program] if place < self._after(last) else []
    if last:
      candidates.append(self._order[last - 1][2])
    for candidate in candidates:
      if candidate not in self._promoted and candidate not in found:
        found.append(candidate)
    self._promoted.update(found)
    return sorted(found, key=self._place.__getitem__)

  def rank(self, program: str) -> int:
    """Returns the place of a measured Program, 0 for the best."""
    return bisect.bisect_left(self._order, self._place[program])

  def _after(self, last: int) -> tuple[float, int, str]:
    if last < len(self._order):
      return self._order[last]
    return (math.inf, 0, "")
