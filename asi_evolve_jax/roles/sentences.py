"""Comparisons, measurements and effects, and how they are told."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from asi_evolve_jax.records.schema import (
  OK,
  REJECTED,
  STOPPED,
  TIMEOUT,
  Proposal,
  Result,
)
from asi_evolve_jax.roles.effects import changed_features


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A child against one parent at one rung; `effect` > 0 is better.

  Attributes:
    basis: "paired" (interval over paired seeds), "seed noise" (one seed; the
      interval takes the noise from Programs with several) or "" (no interval).
  """

  parent: str
  rung: str
  effect: float
  low: float | None
  high: float | None
  seeds: tuple[int, ...]
  basis: str

  @property
  def better(self) -> bool | None:
    """True or False where the interval excludes 0, else None."""
    if self.low is None or self.high is None:
      return None
    return True if self.low > 0 else False if self.high < 0 else None

  def as_dict(self) -> dict[str, Any]:
    """Returns the comparison as an Analysis holds it."""
    return {
      **dataclasses.asdict(self),
      "seeds": list(self.seeds),
      "better": self.better,
    }


def change(proposal: Proposal) -> str:
  """Returns what a Proposal says it set, or how it came about."""
  features = changed_features(proposal)
  if features:
    return ", ".join(features)
  return f"{proposal.operator} {proposal.name}"


def measured(result: Result) -> str:
  """Returns the mean of each metric, or why there is none."""
  if result.status == OK:
    names = dict.fromkeys(name for m in result.metrics for name in m)
    means = []
    for name in names:
      values = [m[name] for m in result.metrics if name in m]
      means.append(f"{name} {math.fsum(values) / len(values):.4g}")
    seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) != 1)}"
    return f"{result.rung}: {', '.join(means) or 'no metrics'} ({seeds})"
  why = {
    REJECTED: f"rejected by gate {result.gate or 'unnamed'}",
    TIMEOUT: "killed at the deadline (timeout)",
    STOPPED: "stopped early, too far behind a baseline",
  }.get(result.status, "failed with an error")
  error = " ".join(result.error.split())
  return f"{result.rung}: {why}" + (f": {error[:300]}" if error else "")


def effect_line(effect: dict[str, Any], unit: str) -> str:
  """Returns an entry of Analysis.effects as a sentence; `unit` of its size."""
  if effect["low"] > 0:
    word = "helps"
  elif effect["high"] < 0:
    word = "hurts"
  else:
    word = "is undecided"
  return (
    f"{effect['feature']} {word}: {effect['effect']:+.4g} {unit} "
    f"(+ is better; {effect['low']:+.4g} to {effect['high']:+.4g}) "
    f"over {effect['n']} programs at {effect['rung']}"
  )
