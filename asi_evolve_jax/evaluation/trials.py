"""The Claims on made-up measurements whose truth is known.

A trial is a search and its verify in miniature: candidates of known true gain
are scored once with noise, the best go on, and these are judged on fresh
seeds. It says how often the pipeline claims what is not so, and how often it
sees what is; `python -m launch.bench claims` prints both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from asi_evolve_jax.evaluation.judging import Pairs, judge

_BATCH = 500  # runs drawn at once


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
  return rng.normal(size=shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
  return rng.standard_t(3, shape) / np.sqrt(3.0)


def _two_outcomes(
  rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
  side = rng.choice([-1.0, 1.0], size=shape)
  return 0.98 * side + 0.2 * rng.normal(size=shape)


# Each of variance 1: a bell, tails as of t with 3 degrees of freedom, and
# seeds that fall into one of two basins.
NOISE: dict[str, Callable[..., np.ndarray]] = {
  "normal": _normal,
  "heavy": _heavy,
  "two outcomes": _two_outcomes,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """One kind of run.

  Attributes:
    gains: true gain of each candidate over the reference.
    spread: standard deviation of a Program's score between seeds.
    finalists: how many of the best in the search are verified.
    seeds: of verify.
    noise: a name in NOISE.
    shared: share of the variance that all Programs have in common at a seed
      (its data), which pairing removes.
  """

  gains: tuple[float, ...]
  spread: float
  finalists: int
  seeds: int
  noise: str = "normal"
  shared: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rates:
  """What came of many runs.

  Attributes:
    runs: how many.
    false: runs with at least one Claim for a candidate that is no better.
    better: finalists that are better than the reference, over all runs.
    seen: those of them that were claimed.
  """

  runs: int
  false: int
  better: int
  seen: int

  @property
  def power(self) -> float:
    """Share of the better finalists that were claimed; NaN without any."""
    return self.seen / self.better if self.better else float("nan")


def run_trials(trial: Trial, runs: int, seed: int = 0) -> Rates:
  """Returns the rates of `runs` independent runs.

  Raises:
    ValueError: if there are fewer candidates than finalists.
  """
  gains = np.asarray(trial.gains, np.float64)
  if gains.size < trial.finalists:
    raise ValueError(
      f"{trial.finalists} finalists cannot come of {gains.size} candidates"
    )
  rng = np.random.default_rng(seed)
  draw = NOISE[trial.noise]
  common, own = np.sqrt(trial.shared), np.sqrt(1 - trial.shared)
  false = better = seen = 0
  for start in range(0, runs, _BATCH):
    count = min(_BATCH, runs - start)
    # Positive is better throughout. The search looks once.
    first = gains + trial.spread * draw(rng, (count, gains.size))
    best = np.argsort(-first, axis=1)[:, : trial.finalists]
    shape = (count, trial.finalists, trial.seeds)
    at_seed = common * draw(rng, (count, 1, trial.seeds))
    scores = gains[best][:, :, None] + trial.spread * (
      own * draw(rng, shape) + at_seed
    )
    reference = trial.spread * (
      own * draw(rng, (count, 1, trial.seeds)) + at_seed
    )
    for chosen, paired in zip(best, scores - reference, strict=True):
      family = [Pairs(tuple(row)) for row in paired]
      claimed = np.array([j.claimed for j in judge(family, trial.seeds)])
      real = gains[chosen] > 0
      false += bool((claimed & ~real).any())
      better += int(real.sum())
      seen += int((claimed & real).sum())
  return Rates(runs, false, better, seen)


def bench_claims(runs: int) -> list[dict[str, Any]]:
  """Returns false Claims and power over seeds, noise and effect.

  Twenty candidates, the best four verified. The spreads are the least and the
  most that was measured between seeds of one model (bits a byte); the effects
  are steps between published mixers.
  """
  rows: list[dict[str, Any]] = []
  for noise in NOISE:
    for seeds in (3, 6, 10):
      none = Trial(
        gains=(0.0,) * 20, spread=0.01, finalists=4, seeds=seeds, noise=noise
      )
      row: dict[str, Any] = {"noise": noise, "seeds": seeds}
      rates = run_trials(none, runs)
      row["false_rate"] = rates.false / rates.runs
      for spread, effect in ((0.001, 0.01), (0.018, 0.03), (0.018, 0.1)):
        one = dataclasses.replace(none, gains=(effect,) * 4, spread=spread)
        power = run_trials(one, runs // 4, seed=1).power
        row[f"power_{effect:g}_at_spread_{spread:g}"] = power
      rows.append(row)
  return rows
