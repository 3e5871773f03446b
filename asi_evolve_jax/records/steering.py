"""What people have said to a run, folded in the order they said it.

Nothing of this is stored: a Steering is made anew from the Steer records, so
it is the same after a restart and in every role.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from asi_evolve_jax.records.schema import Steer

PAUSE = "pause"
RESUME = "resume"
STOP = "stop"
VETO = "veto"
PIN = "pin"
UNPIN = "unpin"
BUDGET = "budget"
GUIDE = "guide"
APPROVE = "approve"
WITHDRAW = "withdraw"
VERBS = (
  *(PAUSE, RESUME, STOP, VETO, PIN, UNPIN),
  *(BUDGET, GUIDE, APPROVE, WITHDRAW),
)
# What can be taken back; the others have an opposite, or are done.
WITHDRAWABLE = (VETO, GUIDE, APPROVE)


class Steering:
  """The words in force.

  Attributes:
    words: all Steers, in order.
    paused: the pause in force, or None.
    stopped: the first stop, or None; it lifts a pause.
    pinned: the pin in force, or None.
    budget: name -> limit, where somebody changed it.
    guidance: the guides in force, in order.
    approved: (Program id, rung) pairs.
    vetoes: Program id -> its veto.
    lines: Program id -> the veto of it and all its descendants.
    withdrawn: numbers of the words that were taken back.
  """

  def __init__(self, steers: Iterable[Steer] = ()):
    self.words = tuple(sorted(steers, key=lambda steer: steer.number))
    self.paused: Steer | None = None
    self.stopped: Steer | None = None
    self.pinned: Steer | None = None
    self.budget: dict[str, float] = {}
    self.guidance: list[Steer] = []
    self.approved: set[tuple[str, str]] = set()
    self.vetoes: dict[str, Steer] = {}
    self.lines: dict[str, Steer] = {}
    self._pauses: list[tuple[float, float]] = []
    self.withdrawn = {
      steer.arguments["number"]
      for steer in self.words
      if steer.verb == WITHDRAW
    }
    for steer in self.words:
      if steer.number not in self.withdrawn:
        self._hear(steer)
    if self.paused is not None:
      self._pauses.append((self.paused.created_at, math.inf))

  def _hear(self, steer: Steer) -> None:
    said = steer.arguments
    match steer.verb:
      case "pause":
        self.paused = self.paused or steer
      case "resume":
        self._go_on(steer)
      case "stop":
        self._go_on(steer)
        self.stopped = self.stopped or steer
      case "veto":
        kind = self.lines if said["descendants"] else self.vetoes
        kind[said["program"]] = steer
      case "pin":
        self.pinned = steer
      case "unpin":
        self.pinned = None
      case "budget":
        self.budget[said["name"]] = said["value"]
      case "guide":
        self.guidance.append(steer)
      case "approve":
        self.approved.add((said["program"], said["rung"]))

  def _go_on(self, steer: Steer) -> None:
    if self.paused is not None:
      self._pauses.append((self.paused.created_at, steer.created_at))
    self.paused = None

  def paused_between(self, start: float, end: float) -> float:
    """Returns how many seconds of [start, end] (unix time) were paused."""
    return math.fsum(
      max(0.0, min(end, until) - max(start, since))
      for since, until in self._pauses
    )

  def wanted(self) -> tuple[dict[str, Steer], dict[str, Steer]]:
    """Returns the features preferred and those to avoid, with who said so.

    A later word about a feature replaces an earlier one; preferring one value
    of a gene replaces the preference for another.
    """
    prefer: dict[str, Steer] = {}
    avoid: dict[str, Steer] = {}
    for steer in self.guidance:
      for name in steer.arguments["prefer"]:
        gene = name.partition("=")[0]
        for other in [n for n in prefer if n.partition("=")[0] == gene]:
          del prefer[other]
        avoid.pop(name, None)
        prefer[name] = steer
      for name in steer.arguments["avoid"]:
        prefer.pop(name, None)
        avoid[name] = steer
    return prefer, avoid
