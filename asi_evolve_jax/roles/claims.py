"""Claims: what the records of verify support, and nothing else.

A pure function of a View, so that any number of verifiers come to the same
Claims.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from asi_evolve_jax.evaluation.judging import (
  Judgement,
  Pairs,
  estimate,
  judge,
)
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  CLAIMED,
  NOT_CLAIMED,
  OK,
  REJECTED,
  VERIFY,
  Claim,
  Result,
)
from asi_evolve_jax.roles.waves import Wave, is_open, waves
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track

# Figures of a budget, and what Results call them.
_COSTS = {"tokens": "tokens", "flops": "flops", "core_seconds": "cpu_seconds"}


@dataclasses.dataclass(frozen=True)
class _Side:
  """What verify measured of one Program on the seeds of a wave.

  Attributes:
    results: that speak for it, failed ones included.
    values: seed -> metrics.
    fault: why it has no value at some seed, or "".
    costs: of measuring; a Result copied from an equal Artifact's cost what
      that one did.
  """

  results: tuple[Result, ...]
  values: dict[int, dict[str, float]]
  fault: str
  costs: tuple[dict[str, float], ...]


@dataclasses.dataclass(frozen=True)
class _Comparison:
  wave: Wave
  program: str
  baseline: str
  seeds: tuple[int, ...]
  baseline_seeds: tuple[int, ...]
  mine: _Side
  theirs: _Side

  def gains(self, metric: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Returns the Program's seeds that are paired, and the gain at each."""
    seeds, gains = [], []
    for a, b in zip(self.seeds, self.baseline_seeds, strict=True):
      ours = self.mine.values.get(a, {}).get(metric.name)
      other = self.theirs.values.get(b, {}).get(metric.name)
      if ours is not None and other is not None:
        seeds.append(a)
        gains.append(metric.gain(ours, other))
    return tuple(seeds), tuple(gains)


def claims(view: View, settings: RunSettings, track: Track) -> list[Claim]:
  """Returns a Claim for each comparison of verify, claimed or not.

  Every Program that entered verify, in whichever wave, is compared with every
  reference, and all these comparisons are one family. A control (a Program
  against itself) is a family of its own: it tests the pipeline.

  Returns:
    Empty while something that was asked for is not measured.
  """
  asked = waves(view, settings)
  if not asked or any(is_open(view, wave) for wave in asked):
    return []
  found = []
  family = [
    comparison
    for wave in asked
    if not wave.control_seeds
    for comparison in _comparisons(view, wave, settings)
  ]
  controls = [_control(view, wave) for wave in asked if wave.control_seeds]
  entered = len({p for w in asked if not w.control_seeds for p in w.programs})
  proposed = max(wave.proposed for wave in asked)
  for group in (family, *([control] for control in controls)):
    pairs = [_pairs(c, track) for c in group]
    judged = judge(pairs, settings.verify.min_seeds)
    measured = len(
      {r.task for c in group for r in (*c.mine.results, *c.theirs.results)}
    )
    for comparison, judgement in zip(group, judged, strict=True):
      claim = _claim(comparison, judgement, track, len(group))
      claim = dataclasses.replace(
        claim, measured=measured, entered=entered, proposed=proposed
      )
      commands = _commands(claim, settings)
      found.append(dataclasses.replace(claim, commands=commands))
  return found


def pairings(
  view: View, wave: Wave, settings: RunSettings
) -> list[tuple[str, str]]:
  """Returns (Program, reference) of every comparison of a wave, by id.

  Each Program meets each reference, in the config's order; two references
  meet once, the later one as the Program.
  """
  references = map(view.baseline, settings.verify.references)
  against = [p for p in references if p is not None and p in wave.baselines]
  return [
    (program, reference)
    for program in wave.programs
    for reference in against[
      : against.index(program) if program in against else None
    ]
  ]


def _comparisons(
  view: View, wave: Wave, settings: RunSettings
) -> list[_Comparison]:
  sides = {p: _side(view, wave, p, wave.seeds) for p in wave.programs}
  return [
    _Comparison(
      wave,
      program,
      baseline,
      wave.seeds,
      wave.seeds,
      sides[program],
      sides[baseline],
    )
    for program, baseline in pairings(view, wave, settings)
  ]


def _control(view: View, wave: Wave) -> _Comparison:
  """Returns a Program against itself: the i-th seed of one set and the other.

  No two runs share a seed, so nothing but chance can tell them apart.
  """
  (program,) = wave.finalists
  return _Comparison(
    wave,
    program,
    program,
    wave.seeds,
    wave.control_seeds,
    _side(view, wave, program, wave.seeds),
    _side(view, wave, program, wave.control_seeds),
  )


def _side(
  view: View, wave: Wave, program: str, seeds: tuple[int, ...]
) -> _Side:
  results = [
    r
    for r in view.results_of.get(program, ())
    if r.purpose == VERIFY and r.rung == wave.rung and set(r.seeds) <= {*seeds}
  ]
  values: dict[int, dict[str, float]] = {}
  for result in results:
    if result.status == OK:
      for seed, metrics in zip(result.seeds, result.metrics, strict=False):
        values.setdefault(seed, metrics)
  missing = [seed for seed in seeds if seed not in values]
  fault = f"no measurement at seeds {missing}" if missing else ""
  failed = [r for r in results if r.status != OK]
  if missing and failed:
    fault = _ended(failed[-1])
  elif missing and program in view.vetoed:
    fault = "stopped: a person has vetoed it"
  paid = [view.results.get(r.copied_from, r) for r in results]
  return _Side(tuple(results), values, fault, tuple(r.cost for r in paid))


def _ended(result: Result) -> str:
  said = " ".join(result.error.split())[:200]
  how = f"{result.status} at {result.rung}"
  if result.status == REJECTED:
    how = f"rejected by gate {result.gate or 'unnamed'}"
  return f"{how}: {said}" if said else how


def _pairs(comparison: _Comparison, track: Track) -> Pairs:
  seeds, gains = comparison.gains(track.final_metric)
  fault = comparison.mine.fault
  if not fault and comparison.theirs.fault:
    fault = f"the baseline: {comparison.theirs.fault}"
  unpaired = [s for s in comparison.seeds if s not in seeds]
  if not fault and unpaired:
    fault = f"no pair at seeds {unpaired}"
  return Pairs(gains, fault)


def _claim(
  comparison: _Comparison, judgement: Judgement, track: Track, family: int
) -> Claim:
  metric = track.final_metric
  mine, theirs = comparison.mine, comparison.theirs
  evidence = (*mine.results, *theirs.results)
  return Claim(
    program=comparison.program,
    baseline=comparison.baseline,
    verdict=CLAIMED if judgement.claimed else NOT_CLAIMED,
    why=judgement.why,
    asked_by=comparison.wave.name,
    rung=comparison.wave.rung,
    metric=metric.name,
    direction=metric.direction,
    seeds=comparison.seeds,
    baseline_seeds=comparison.baseline_seeds,
    effect=judgement.effect,
    low=judgement.low,
    high=judgement.high,
    p=judgement.p,
    p_signs=judgement.p_signs,
    p_corrected=judgement.p_corrected,
    family=family,
    held=tuple(_held(comparison, track)),
    budget=_budget(mine),
    baseline_budget=_budget(theirs),
    results=tuple(r.task for r in mine.results),
    baseline_results=tuple(r.task for r in theirs.results),
    commit=comparison.wave.commit,
    machines=tuple(sorted({r.machine for r in evidence if r.machine})),
  )


def _held(comparison: _Comparison, track: Track) -> list[dict[str, Any]]:
  rows = []
  for metric in track.metrics():
    seeds, gains = comparison.gains(metric)
    if not gains:
      continue
    found = estimate(gains)
    rows.append(
      {
        "metric": metric.name,
        "direction": metric.direction,
        "unit": metric.unit,
        "effect": found.effect,
        "low": found.low,
        "high": found.high,
        "seeds": list(seeds),
        "verdict": found.verdict,
      }
    )
  return rows


def _budget(side: _Side) -> dict[str, float]:
  """Returns tokens, flops and core_seconds, as far as they were reported."""
  spent: dict[str, list[float]] = {}
  for cost in side.costs:
    for name, key in _COSTS.items():
      value = cost.get(key)
      if value is not None and math.isfinite(value):
        spent.setdefault(name, []).append(value)
  return {name: math.fsum(values) for name, values in spent.items()}


def _commands(claim: Claim, settings: RunSettings) -> tuple[str, ...]:
  return (
    f"git checkout {claim.commit.removesuffix('+changes')}",
    f"python -m launch.verify --records={records_of(settings)} "
    f"--replay={claim.id}",
  )


def records_of(settings: RunSettings) -> str:
  """Returns the folder that the records of a run are in, for commands."""
  return f"{settings.run_dir or f'runs/{settings.name}'}/records"
