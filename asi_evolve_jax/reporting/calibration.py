"""Does a rung order the published Programs as the literature does?

Each of the track's expectations is held against each rung that measured both
Programs, paired by seed. What a rung reverses it cannot rank: there it is a
pass/fail gate at most. Intervals are t intervals at 95 %, not corrected: every
row was predicted before it was measured.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from asi_evolve_jax.evaluation.statistics import (
  half_width,
  paired_difference,
  seed_spread,
)
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, SEARCH, Result
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Expectation, Metric, Track

HOLDS, OPEN, REVERSED = "holds", "not resolved", "reversed"


@dataclasses.dataclass(frozen=True)
class Row:
  """One expectation at one rung.

  Attributes:
    gain: mean paired difference; positive is as expected.
    low, high: its interval; None with fewer than 2 common seeds.
    seeds: that both were measured at.
    outcome: HOLDS, OPEN or REVERSED.
  """

  expectation: Expectation
  gain: float
  low: float | None
  high: float | None
  seeds: int
  outcome: str


@dataclasses.dataclass(frozen=True)
class Scale:
  """One metric at one rung, and what it can be used for.

  Attributes:
    values: baseline to its score a seed, best first.
    noise: standard deviation between seeds of one Program, pooled over all;
      NaN if none has two.
    visible: the difference that so many seeds would show, 95 %: half the width
      of an interval of paired differences if seeds had nothing in common.
    chance: what guessing gets, where that is known.
    edges: baselines that did best at an end of the grid of learning rates.
  """

  rung: str
  metric: Metric
  values: dict[str, dict[int, float]]
  noise: float
  visible: float
  chance: float | None
  edges: tuple[str, ...]
  rows: tuple[Row, ...]

  @property
  def verdict(self) -> str:
    """Says in words whether this may rank Programs."""
    outcomes = [row.outcome for row in self.rows]
    if REVERSED in outcomes:
      return (
        "a pass/fail gate, never a ranking: it reverses "
        f"{outcomes.count(REVERSED)} of {len(outcomes)}"
      )
    if OPEN in outcomes:
      return (
        f"not settled: {outcomes.count(OPEN)} of {len(outcomes)} are not "
        "resolved; more seeds or longer training would tell"
      )
    return "orders the baselines as published"


def calibrate(view: View, settings: RunSettings, track: Track) -> list[Scale]:
  """Returns every rung and metric that an expectation speaks of.

  Args:
    view: of a run that measured baselines, search purpose.
    settings: of the run; its ladder.
    track: its expectations and the directions of its metrics.
  """
  directions = {metric.name: metric for metric in track.metrics()}
  names = {name: program for program, name in view.baselines.items()}
  expectations = track.expectations()
  wanted = list(dict.fromkeys(e.metric for e in expectations))
  found = []
  for rung in settings.ladder:
    for name in wanted:
      values = {
        baseline: view.measurements(program, rung.name, SEARCH, name)
        for baseline, program in names.items()
      }
      values = {b: scores for b, scores in values.items() if scores}
      if values:
        results = {
          baseline: _results(view, names[baseline], rung.name)
          for baseline in values
        }
        rows = [e for e in expectations if e.metric == name]
        scale = _scale(rung.name, directions[name], values, results, rows)
        found.append(scale)
  return found


def headline(view: View, settings: RunSettings, track: Track) -> str:
  """Returns what the run itself says of the rungs that ranked, in one line.

  "" for a track of which nobody has published an order.
  """
  if not track.expectations():
    return ""
  said = [
    f"{scale.rung} {scale.verdict}"
    for scale in calibrate(view, settings, track)
    if scale.metric.name == track.metric.name
    and any(row.seeds > 1 for row in scale.rows)
  ]
  if said:
    return f"Calibration of {track.metric.name}: {'; '.join(said)}."
  return (
    "Not calibrated: no rung of the search has two baselines of a known order "
    "on two seeds (configs/calibrate.py measures that)."
  )


def _results(view: View, program: str, rung: str) -> list[Result]:
  return [
    r
    for r in view.results_of.get(program, ())
    if r.rung == rung and r.status == OK and r.purpose == SEARCH
  ]


def _scale(
  rung: str,
  metric: Metric,
  values: dict[str, dict[int, float]],
  results: dict[str, list[Result]],
  expectations: list[Expectation],
) -> Scale:
  noise, _ = seed_spread([list(v.values()) for v in values.values()])
  seeds = min(map(len, values.values()))
  rows = []
  for expectation in expectations:
    better = values.get(expectation.better, {})
    worse = values.get(expectation.worse, {})
    common = sorted(set(better) & set(worse))
    if common:
      gains = [metric.gain(better[s], worse[s]) for s in common]
      rows.append(_judge(expectation, gains, noise))
  order = sorted(
    values,
    key=lambda b: metric.gain(_mean(values[b]), 0.0),
    reverse=True,
  )
  return Scale(
    rung=rung,
    metric=metric,
    values={b: values[b] for b in order},
    noise=noise,
    visible=half_width(math.sqrt(2) * noise, seeds),
    chance=_chance(results, metric.name),
    edges=tuple(b for b in order if _at_edge(results[b], metric.name)),
    rows=tuple(rows),
  )


def _judge(expectation: Expectation, gains: list[float], noise: float) -> Row:
  gain, low, high, _ = paired_difference(gains)
  margin = noise if expectation.level and math.isfinite(noise) else 0.0
  if low > -margin:
    outcome = HOLDS
  elif high < 0:
    outcome = REVERSED
  else:
    outcome = OPEN
  alone = len(gains) < 2
  return Row(
    expectation,
    gain,
    None if alone else low,
    None if alone else high,
    len(gains),
    outcome,
  )


def _mean(scores: dict[int, float]) -> float:
  return math.fsum(scores.values()) / len(scores)


def _chance(results: dict[str, list[Result]], metric: str) -> float | None:
  for found in results.values():
    for result in found:
      chance = result.report.get("chance") or {}
      if metric in chance:
        return float(chance[metric])
  return None


def _at_edge(results: list[Result], metric: str) -> bool:
  """Whether the best rate is the lowest or highest of several."""
  for result in results:
    suites = result.report.get("suites") or []
    if "/" not in metric:
      chosen = [(result.report.get("lr"), result.report.get("by_lr") or {})]
    else:
      tasks = [suite[metric] for suite in suites if metric in suite]
      chosen = [(t["lr"], [rate for rate, _ in t["by_lr"]]) for t in tasks]
    for rate, tried in chosen:
      rates = sorted(map(float, tried))
      if len(rates) > 2 and rate in (rates[0], rates[-1]):
        return True
  return False


def markdown(scales: list[Scale], seconds: float) -> str:
  """Returns the calibration as Markdown.

  Args:
    scales: from `calibrate`.
    seconds: core-seconds that the run has cost (records/spending.py).
  """
  lines = [
    "# Calibration\n",
    f"{seconds / 3600:.2f} core-hours. Gains are paired by seed, positive is "
    "as published, with 95 % t intervals; the noise floor is the standard "
    "deviation between seeds of one Program.\n",
  ]
  if not scales:
    lines.append("No rung has measured two baselines that are compared.\n")
  for scale in scales:
    lines += _section(scale)
  return "\n".join(lines)


def _section(scale: Scale) -> list[str]:
  unit = f" {scale.metric.unit}" if scale.metric.unit else ""
  lines = [
    f"## {scale.metric.name} at {scale.rung}\n",
    f"**{scale.verdict[0].upper()}{scale.verdict[1:]}.** Noise floor "
    f"{scale.noise:.4f}{unit}; a difference of {scale.visible:.4f} would show."
    + ("" if scale.chance is None else f" Chance is {scale.chance:.4f}."),
  ]
  if scale.edges:
    lines.append(
      "Best at an end of the grid of learning rates, so perhaps not tuned: "
      f"{', '.join(scale.edges)}."
    )
  lines += [
    "\n| expected | gain | interval | seeds | outcome | source |",
    "|---|---|---|---|---|---|",
  ]
  for row in scale.rows:
    e = row.expectation
    said = f"{e.better} {'level with' if e.level else 'ahead of'} {e.worse}"
    interval = "none"
    if row.low is not None and row.high is not None:
      interval = f"[{row.low:+.4f}, {row.high:+.4f}]"
    lines.append(
      f"| {said} | {row.gain:+.4f} | {interval} | {row.seeds} | "
      f"{row.outcome} | {e.source} |"
    )
  measured = ", ".join(f"{b} {_mean(v):.4f}" for b, v in scale.values.items())
  lines.append(f"\nBest first: {measured}.\n")
  return lines


def as_json(scales: list[Scale]) -> list[dict[str, Any]]:
  """Returns the scales as JSON values, each with its verdict."""
  found = []
  for scale in scales:
    value = dataclasses.asdict(scale) | {"verdict": scale.verdict}
    # One seed has no spread, and JSON no infinity.
    for name in ("noise", "visible"):
      number = getattr(scale, name)
      value[name] = number if math.isfinite(number) else None
    found.append(value)
  return found
