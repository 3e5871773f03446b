"""How long a run has worked: its sessions, by the times of its records."""

from __future__ import annotations

import math

from asi_evolve_jax.records.ordered import Ordered
from asi_evolve_jax.records.schema import Milestone, Record
from asi_evolve_jax.records.steering import Steering

_SESSION = "session/"  # and an id: what a session's Milestone is called


class Sessions:
  """When sessions began and when anything was written [unix time]."""

  def __init__(self) -> None:
    self._written = Ordered()
    self._begun: list[float] = []

  def add(self, record: Record) -> None:
    """Takes in a record of any kind, once."""
    self._written.add(record.created_at)
    if isinstance(record, Milestone) and record.name.startswith(_SESSION):
      self._begun.append(record.created_at)

  def elapsed(
    self,
    steering: Steering,
    end: float = math.inf,
    *,
    lasting: bool = False,
  ) -> float:
    """Returns seconds of all sessions, without pauses.

    A session lasts until the last record before the next one began.

    Args:
      steering: knows the pauses.
      end: unix time; what came later does not count.
      lasting: whether the last session goes on to `end`, whatever is written.
    """
    starts = sorted(self._begun)
    total = 0.0
    for start, following in zip(starts, [*starts, math.inf][1:], strict=True):
      if lasting and following == math.inf:
        last = end
      else:
        last = self._written.last_before(
          min(following, math.nextafter(end, math.inf))
        )
      if last is not None and last > start:
        total += last - start - steering.paused_between(start, last)
    return total
