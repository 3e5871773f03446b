"""What the whole history says about features, at a flat cost a Result.

Kept in memory only: everything here can be rebuilt from the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy import special

from asi_evolve_jax.evaluation.statistics import Effect, feature_effects
from asi_evolve_jax.programs.genome import Space, feature
from asi_evolve_jax.records.schema import Proposal

# Below this many Programs a regression over features says nothing.
LEAST_ROWS = 6
# A rung with fewer Programs does not take over from a lower one.
_TAKE_OVER = 12
# Programs a rung's regression looks at, the latest: bounds memory and time.
_MOST_ROWS = 2000


def features_of(space: Space, proposal: Proposal | None) -> frozenset[str]:
  """Returns the features of a Proposal's genome; none if it has no place."""
  genome = space.place(proposal.genome) if proposal is not None else None
  return frozenset(space.features(genome) if genome is not None else ())


def changed_features(proposal: Proposal) -> tuple[str, ...]:
  """Returns the features that a Proposal says it set, in its order."""
  return tuple(
    feature(change["gene"], change["new"])
    for change in proposal.changes
    if "gene" in change and "new" in change
  )


class SeedNoise:
  """Spread over seeds of one Program's score, pooled over Programs."""

  def __init__(self) -> None:
    self._parts: dict[str, tuple[float, int]] = {}
    self._squares = 0.0
    self.degrees = 0

  @property
  def programs(self) -> int:
    """How many Programs with at least two seeds were seen."""
    return len(self._parts)

  def observe(self, program: str, scores: Mapping[int, float]) -> None:
    """Takes the scores by seed of one Program in place of earlier ones."""
    if len(scores) < 2:
      return
    mean = math.fsum(scores.values()) / len(scores)
    squares = math.fsum((s - mean) ** 2 for s in scores.values())
    old = self._parts.get(program, (0.0, 0))
    self._parts[program] = squares, len(scores) - 1
    self._squares += squares - old[0]
    self.degrees += len(scores) - 1 - old[1]

  def margin(self) -> float | None:
    """Half width of a 95 % interval for the difference of two single seeds.

    Takes seeds as independent and all Programs as equally noisy. None with
    fewer than 2 degrees of freedom.
    """
    if self.degrees < 2:
      return None
    deviation = math.sqrt(max(self._squares, 0.0) / self.degrees)
    return float(
      special.stdtrit(self.degrees, 0.975) * deviation * math.sqrt(2.0)
    )


class EffectTable:
  """Effects of features, one regression a rung.

  A regression costs more the more Programs there are, so it is run again only
  when the Programs it would see have changed by a tenth, and by 4 at least:
  summed over a run the cost of a Result stays flat.

  Attributes:
    fits: regressions made so far, over all rungs.
  """

  def __init__(self, space: Space, gain_sign: float, rungs: tuple[str, ...]):
    """
    Args:
      space: gives the features of genomes.
      gain_sign: +1 where larger scores are better, -1 where smaller ones are.
      rungs: names, lowest first.
    """
    self._space = space
    self._sign = gain_sign
    self._order = {name: i for i, name in enumerate(rungs)}
    # rung -> Program -> features, gain, number of seeds
    self._rows: dict[str, dict[str, tuple[frozenset[str], float, int]]] = {}
    self._new: dict[str, int] = {}
    self.fits = 0
    self._tables: dict[str, dict[str, Effect]] = {}

  def observe(
    self, proposal: Proposal | None, rung: str, scores: Mapping[int, float]
  ) -> None:
    """Takes a Program's scores by seed at `rung`, in place of earlier ones."""
    features = features_of(self._space, proposal)
    if proposal is None or not features or not scores:
      return
    mean = math.fsum(scores.values()) / len(scores)
    rows = self._rows.setdefault(rung, {})
    self._new[rung] = self._new.get(rung, 0) + (proposal.program not in rows)
    rows[proposal.program] = features, self._sign * mean, len(scores)
    if len(rows) > _MOST_ROWS:
      del rows[next(iter(rows))]

  def rung(self) -> str:
    """Returns the highest rung with enough Programs, else the fullest one."""
    full = [r for r in self._rows if len(self._rows[r]) >= _TAKE_OVER]
    if full:
      return max(full, key=lambda r: (self._order.get(r, -1), r))
    return max(self._rows, key=lambda r: (len(self._rows[r]), r), default="")

  def effects(self, rung: str) -> dict[str, Effect]:
    """Returns feature -> effect at `rung`; an effect > 0 is better."""
    rows = self._rows.get(rung, {})
    if len(rows) < LEAST_ROWS:
      return {}
    if rung not in self._tables or self._new[rung] >= max(4, len(rows) // 10):
      # In the order of ids, so that two Analyzers sum in the same order.
      ordered = [rows[program] for program in sorted(rows)]
      found = feature_effects(
        [features for features, _, _ in ordered],
        [gain for _, gain, _ in ordered],
        [seeds for _, _, seeds in ordered],
        choice=_gene,
      )
      self._tables[rung] = {e.feature: e for e in found if _is_finite(e)}
      self._new[rung] = 0
      self.fits += 1
    return self._tables[rung]


def strength(effect: Effect) -> float:
  """Returns the effect in half widths of its interval; above 1 it counts."""
  half = (effect.high - effect.low) / 2
  if half > 0:
    return abs(effect.effect) / half
  return math.inf if effect.effect else 0.0


def as_dict(effect: Effect, rung: str) -> dict[str, Any]:
  """Returns the effect as an Analysis holds it."""
  return {
    "feature": effect.feature,
    "effect": float(effect.effect),
    "low": float(effect.low),
    "high": float(effect.high),
    "n": int(effect.n),
    "rung": rung,
  }


def _gene(feature_name: str) -> str:
  return feature_name.partition("=")[0]


def _is_finite(effect: Effect) -> bool:
  return all(map(math.isfinite, (effect.effect, effect.low, effect.high)))
