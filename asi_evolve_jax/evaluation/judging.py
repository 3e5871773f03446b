"""From gains paired by seed to verdicts: one family, one correction.

The test is the paired t test, two-sided, and a Claim needs a positive gain
beside it. For 3 to 10 seeds: if a Program is the same as the baseline, the
difference at a seed is as likely as its negative, so differences are symmetric
and heavy tails make the t test err on the safe side. It can err on the other
where a seed falls into one of two separate outcomes, and it needs a spread.
The exact sign-flip test assumes no more than the symmetry, but cannot go below
2 / 2^n (0.25 with three seeds, 0.03 with six), so it stands beside. The
interval is that of the same t test: it leaves out 0 exactly where the p value,
before correction, is below 0.05.
The correction is Holm's (1979), over all that entered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from asi_evolve_jax.evaluation.statistics import (
  holm,
  paired_difference,
  sign_flip_p,
)

ALPHA = 0.05  # family-wise
# Differences that vary by less, relative to their size, do not vary.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Pairs:
  """What one comparison has to say.

  Attributes:
    gains: of the Program over the baseline, one a pair; positive is better.
    fault: why nothing may be claimed whatever the gains are; "" if nothing
      stands against it.
  """

  gains: tuple[float, ...]
  fault: str = ""


@dataclasses.dataclass(frozen=True)
class Judgement:
  """The verdict on one comparison.

  Attributes:
    effect: mean gain; None without pairs.
    low, high: its 95 % t interval; None with fewer than two pairs.
    p: two-sided, paired t test; 1 where it cannot be used.
    p_signs: two-sided, sign-flip test.
    p_corrected: Holm, over the family.
    claimed: better, and the corrected p is below ALPHA.
    why: one sentence.
  """

  effect: float | None
  low: float | None
  high: float | None
  p: float
  p_signs: float
  p_corrected: float
  claimed: bool
  why: str


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean gain, its 95 % t interval and p, where there are pairs enough."""

  effect: float | None = None
  low: float | None = None
  high: float | None = None
  p: float = 1.0

  @property
  def verdict(self) -> str:
    """ "held": above 0; "failed": below; "undecided": neither."""
    if self.low is None or self.high is None:
      return "undecided"
    if self.low > 0:
      return "held"
    return "failed" if self.high < 0 else "undecided"


def estimate(gains: Sequence[float]) -> Estimate:
  """Returns the mean of `gains`, its interval and two-sided p."""
  if not gains:
    return Estimate()
  found = paired_difference(gains)
  if len(gains) < 2:
    return Estimate(found.mean)
  return Estimate(*found)


def judge(family: Sequence[Pairs], min_seeds: int) -> list[Judgement]:
  """Returns a verdict for each comparison, corrected over all of them.

  Args:
    family: every comparison that was begun; what failed or was stopped is in
      it with its fault and counts with p 1.
    min_seeds: fewest pairs that can claim anything, at least 2.

  Raises:
    ValueError: if a gain is not finite or `min_seeds` is below 2.
  """
  if min_seeds < 2:
    raise ValueError(f"min_seeds must be at least 2, got {min_seeds}")
  faults = [_fault(pairs, min_seeds) for pairs in family]
  means = [estimate(pairs.gains) for pairs in family]
  p_values = [
    1.0 if fault else mean.p for mean, fault in zip(means, faults, strict=True)
  ]
  found = []
  for pairs, mean, fault, p, corrected in zip(
    family, means, faults, p_values, holm(p_values), strict=True
  ):
    gain = mean.effect or 0.0
    claimed = not fault and gain > 0 and corrected < ALPHA
    found.append(
      Judgement(
        mean.effect,
        mean.low,
        mean.high,
        p,
        sign_flip_p(pairs.gains) if pairs.gains else 1.0,
        corrected,
        claimed,
        fault or _reason(gain, p, corrected, len(pairs.gains), len(family)),
      )
    )
  return found


def _fault(pairs: Pairs, min_seeds: int) -> str:
  gains = pairs.gains
  if pairs.fault:
    return pairs.fault
  if len(gains) < min_seeds:
    return (
      f"{len(gains)} paired seed{'s' * (len(gains) != 1)}, "
      f"and at least {min_seeds} must speak"
    )
  if not any(gains):
    return "it measures the same as the baseline at every seed"
  if max(gains) - min(gains) <= _ROUNDING * max(map(abs, gains)):
    return "the gain is the same at every seed: no spread to judge it by"
  return ""


def _reason(
  gain: float, p: float, corrected: float, seeds: int, family: int
) -> str:
  figures = f"p {p:.2g} on {seeds} paired seeds"
  if family > 1:
    figures += f", {corrected:.2g} corrected for {family} comparisons"
  if corrected >= ALPHA:
    return f"inside the noise: {figures}"
  return f"{'better' if gain > 0 else 'worse'}: {figures}"
