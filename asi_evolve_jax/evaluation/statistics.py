"""What may be said of scores: intervals, paired comparisons, effects.

All arithmetic is float64. "Gain" means that positive is better; who calls
turns a score around first where less is better (`Metric.gain`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

_EXACT_SIGNS = 14  # up to 2**14 sign patterns are counted one by one


class Interval(NamedTuple):
  """An estimate and its two-sided interval; infinite where n says nothing."""

  mean: float
  low: float
  high: float


class Paired(NamedTuple):
  """Mean of paired differences, its t interval, two-sided p of a t test."""

  mean: float
  low: float
  high: float
  p: float


@dataclasses.dataclass(frozen=True)
class Effect:
  """What having a feature does to the score, the others being equal.

  Attributes:
    feature: its name.
    effect: posterior mean, shrunk towards 0.
    low, high: posterior interval.
    n: rows that have the feature.
  """

  feature: str
  effect: float
  low: float
  high: float
  n: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
  """Returns the mean of `values` with its t interval.

  Raises:
    ValueError: if there are no values or one is not finite.
  """
  x = _finite(values)
  mean = float(x.mean())
  if x.size < 2:
    return Interval(mean, -math.inf, math.inf)
  half = half_width(float(x.std(ddof=1)), x.size, level)
  return Interval(mean, mean - half, mean + half)


def half_width(deviation: float, count: int, level: float = 0.95) -> float:
  """Returns half the width of the t interval of a mean.

  Args:
    deviation: standard deviation of one value.
    count: values; fewer than 2 give infinity.
    level: of the interval.
  """
  if count < 2:
    return math.inf
  return _t(level, count - 1) * deviation / math.sqrt(count)


def paired_difference(
  differences: Sequence[float], level: float = 0.95
) -> Paired:
  """Returns mean, t interval and p value of differences paired by seed.

  Args:
    differences: one gain for each seed that both sides were measured at.
    level: of the interval.

  Raises:
    ValueError: if there are none or one is not finite.
  """
  mean, low, high = mean_interval(differences, level)
  x = _finite(differences)
  if x.size < 2:
    return Paired(mean, low, high, 1.0)
  deviation = float(x.std(ddof=1))
  if deviation == 0.0:
    return Paired(mean, low, high, 1.0 if mean == 0.0 else 0.0)
  t = mean / (deviation / math.sqrt(x.size))
  return Paired(mean, low, high, float(2 * special.stdtr(x.size - 1, -abs(t))))


def mean_difference(
  one: Sequence[float], other: Sequence[float], level: float = 0.95
) -> Interval:
  """Returns the mean of `one` less that of `other`, unpaired.

  The interval is Welch's, which lets the two spread differently; infinite
  where either has fewer than two values.

  Raises:
    ValueError: if one is empty or holds a value that is not finite.
  """
  x, y = _finite(one), _finite(other)
  mean = float(x.mean() - y.mean())
  if min(x.size, y.size) < 2:
    return Interval(mean, -math.inf, math.inf)
  parts = [float(z.var(ddof=1)) / z.size for z in (x, y)]
  if not sum(parts):
    return Interval(mean, mean, mean)
  squares = sum(
    part**2 / (z.size - 1) for part, z in zip(parts, (x, y), strict=True)
  )
  half = _t(level, sum(parts) ** 2 / squares) * math.sqrt(sum(parts))
  return Interval(mean, mean - half, mean + half)


def sign_flip_p(differences: Sequence[float], draws: int = 20_000) -> float:
  """Returns the two-sided p value of the sign-flip test of a zero mean.

  Assumes only that a difference is as likely as its negative. Exact for up to
  14 differences, then by `draws` random patterns (seeded). With n differences
  it cannot be below 2 / 2**n.
  """
  x = _finite(differences)
  if x.size <= _EXACT_SIGNS:
    patterns = np.arange(2**x.size)[:, None] >> np.arange(x.size) & 1
    sums = np.abs((1 - 2 * patterns) @ x)
    extra = 0
  else:
    rng = np.random.default_rng(0)
    sums = np.abs(rng.choice([-1.0, 1.0], size=(draws, x.size)) @ x)
    extra = 1  # the observed pattern counts as one of them
  # Rounding must not make a pattern differ from itself.
  seen = abs(float(x.sum())) * (1 - 1e-12)
  return float((np.sum(sums >= seen) + extra) / (sums.size + extra))


def bootstrap_interval(
  values: Sequence[float],
  statistic: Callable[[np.ndarray], float] = lambda x: float(np.mean(x)),
  level: float = 0.95,
  draws: int = 2000,
) -> Interval:
  """Returns `statistic(values)` with its percentile bootstrap interval.

  Args:
    values: independent observations, at least 2.
    statistic: from a vector to a number.
    level: of the interval.
    draws: resamples (seeded).
  """
  x = _finite(values)
  if x.size < 2:
    return Interval(float(statistic(x)), -math.inf, math.inf)
  rng = np.random.default_rng(0)
  samples = [
    statistic(x[rng.integers(0, x.size, x.size)]) for _ in range(draws)
  ]
  tail = (1 - level) / 2
  low, high = np.quantile(samples, [tail, 1 - tail])
  return Interval(float(statistic(x)), float(low), float(high))


def spearman(
  a: Sequence[float], b: Sequence[float], level: float = 0.95
) -> Interval:
  """Returns the rank correlation of paired values with its interval.

  Fisher's z with the standard error of Bonett and Wright (2000), "Sample size
  requirements for estimating Pearson, Kendall and Spearman correlations",
  eq. 3: sqrt((1 + r^2 / 2) / (n - 3)). NaN where one side is constant.

  Raises:
    ValueError: if the two differ in length or have fewer than 2 values.
  """
  x, y = _finite(a), _finite(b)
  if x.size != y.size or x.size < 2:
    raise ValueError(f"{x.size} and {y.size} values cannot be rank-correlated")
  if np.ptp(x) == 0 or np.ptp(y) == 0:
    return Interval(math.nan, -1.0, 1.0)
  from scipy import stats  # a second of import, needed only here

  r = float(stats.spearmanr(x, y).statistic)
  if x.size <= 3:
    return Interval(r, -1.0, 1.0)
  if abs(r) >= 1 - 1e-12:
    # z is infinite there; the interval of the next smaller value will do.
    inner = math.copysign(1 - 6 / (x.size * (x.size**2 - 1)), r)
  else:
    inner = r
  half = float(special.ndtri((1 + level) / 2)) * math.sqrt(
    (1 + r * r / 2) / (x.size - 3)
  )
  z = math.atanh(inner)
  low, high = math.tanh(z - half), math.tanh(z + half)
  return Interval(r, min(low, r), max(high, r))


def seed_spread(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
  """Returns the standard deviation between seeds and its degrees of freedom.

  Args:
    groups: scores of one Program each, over its seeds; those with one seed
      say nothing. (NaN, 0) if none says anything.
  """
  squares, freedom = 0.0, 0
  for group in groups:
    x = _finite(group)
    squares += float(np.sum((x - x.mean()) ** 2))
    freedom += x.size - 1
  return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def holm(p_values: Sequence[float]) -> list[float]:
  """Returns p values corrected for being many (Holm, 1979), in their order."""
  count = len(p_values)
  corrected = [1.0] * count
  largest = 0.0
  for rank, i in enumerate(sorted(range(count), key=p_values.__getitem__)):
    largest = max(largest, min(1.0, (count - rank) * p_values[i]))
    corrected[i] = largest
  return corrected


def feature_effects(
  rows: Sequence[Collection[str]],
  scores: Sequence[float],
  weights: Sequence[float] | None = None,
  level: float = 0.95,
  choice: Callable[[str], str] | None = None,
) -> list[Effect]:
  """Attributes differences in score to features, by Bayesian ridge regression.

      score_i = c + sum of effects of the features in row i + noise / sqrt(w_i)

  Effects have a common normal prior around 0. Its width relative to the noise
  is not chosen but averaged over, on a grid, by the evidence (MacKay, 1992,
  "Bayesian interpolation") under Jeffreys' prior on the explained variance, so
  an interval holds the doubt about the shrinkage too. With fewer rows than
  features it says little, and says so.

  Args:
    rows: the features that each row has.
    scores: one a row; larger is better.
    weights: precision of each row relative to the others, e.g. its seeds.
    level: of the intervals.
    choice: names what a feature is one value of. Where each row has one value
      of a choice, only differences between its values are known; an effect is
      then the difference to the mean over the choice's values, so the gain of
      a change is the difference of two effects.

  Returns:
    One Effect for each feature that some rows have and some lack, largest
    absolute effect first. Empty for fewer than 3 rows.

  Raises:
    ValueError: if lengths differ, a score is not finite or a weight not
      positive.
  """
  y = _finite(scores) if len(scores) else np.zeros(0)
  w = np.ones(y.size) if weights is None else np.asarray(weights, np.float64)
  if len(rows) != y.size or w.shape != y.shape:
    raise ValueError(
      f"{len(rows)} rows, {y.size} scores and {w.size} weights do not match"
    )
  if not (np.isfinite(w).all() and (w > 0).all()):
    raise ValueError("weights must be positive and finite")
  names = sorted({name for row in rows for name in row})
  index = {name: j for j, name in enumerate(names)}
  x = np.zeros((y.size, len(names)))
  for i, row in enumerate(rows):
    for name in row:
      x[i, index[name]] = 1.0
  count = x.sum(0)
  varies = (count > 0) & (count < y.size)
  if y.size < 3 or not varies.any():
    return []
  kept = [names[j] for j in np.flatnonzero(varies)]
  contrasts = _contrasts([choice(name) if choice else name for name in kept])
  mean, deviation = _ridge(x[:, varies], y, w / w.mean(), contrasts)
  half = _t(level, y.size - 1) * deviation
  effects = [
    Effect(name, float(m), float(m - h), float(m + h), int(n))
    for name, m, h, n in zip(kept, mean, half, count[varies], strict=True)
  ]
  return sorted(effects, key=lambda e: (-abs(e.effect), e.feature))


def _contrasts(choices: Sequence[str]) -> np.ndarray:
  """Returns [features, features]: each against the mean of its choice."""
  same = np.asarray([[a == b for a in choices] for b in choices])
  # A feature without rivals is against its absence, as it stands.
  means = np.where(same.sum(1) > 1, same / same.sum(1), 0.0)
  return np.eye(len(choices)) - means


def _ridge(
  x: np.ndarray, y: np.ndarray, w: np.ndarray, contrasts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns posterior mean and standard deviation of the contrasts.

  Args:
    x: features, [rows, features].
    y: scores, [rows].
    w: precisions, [rows].
    contrasts: of coefficients, [contrasts, features].
  """
  # The constant has a flat prior: taking out weighted means integrates it.
  root = np.sqrt(w)[:, None]
  x = root * (x - np.average(x, axis=0, weights=w))
  y = root[:, 0] * (y - np.average(y, weights=w))
  freedom = y.size - 1
  u, s, vt = np.linalg.svd(x, full_matrices=False)
  keep = s > s[0] * max(x.shape) * np.finfo(np.float64).eps
  u, s, vt = u[:, keep], s[keep], vt[keep]
  uy = u.T @ y
  outside = max(float(y @ y - uy @ uy), 0.0)  # squares that no effect explains
  floor = 1e-12 * max(float(y @ y), np.finfo(np.float64).tiny)
  # Prior variance of an effect over noise variance, so chosen that the share of
  # the scores' variance that it explains (R^2) has Jeffreys' prior, Beta(1/2,
  # 1/2): the grid is its quantiles. A flat prior on the logarithm shrinks weak
  # signals away, and its intervals cover too seldom.
  explained = np.sin(np.pi / 2 * (np.arange(64) + 0.5) / 64) ** 2
  ratios = explained / (1 - explained) * y.size / float(np.sum(s**2))
  evidence, means, variances = [], [], []
  seen = contrasts @ vt.T
  prior = np.sum(contrasts**2, axis=1)
  for ratio in ratios:
    gain = 1 + ratio * s**2
    square = max(outside + float(np.sum(uy**2 / gain)), floor)
    evidence.append(
      -0.5 * (freedom * math.log(square) + float(np.sum(np.log(gain))))
    )
    means.append(seen @ (ratio * s * uy / gain))
    # ratio * (I + ratio X'X)^-1, on the span of the rows and beside it.
    shrunk = ratio * (prior - np.sum(seen**2 * (1 - 1 / gain), axis=1))
    variances.append(square / freedom * shrunk)
  p = np.exp(np.asarray(evidence) - max(evidence))
  p /= p.sum()
  mean = p @ np.stack(means)
  variance = p @ (np.stack(variances) + (np.stack(means) - mean) ** 2)
  return mean, np.sqrt(np.maximum(variance, 0.0))


def _finite(values: ArrayLike) -> np.ndarray:
  x = np.asarray(values, np.float64).ravel()
  if x.size == 0:
    raise ValueError("no values")
  if not np.isfinite(x).all():
    raise ValueError(f"values must be finite: {x[~np.isfinite(x)][0]}")
  return x


def _t(level: float, freedom: float) -> float:
  return float(special.stdtrit(freedom, (1 + level) / 2))
