"""How well cheap measurements predict the dearest rung of a ladder.

A proxy is anything that a run measured before the end: the score of a lower
rung, another metric of one, the development curve of the last rung part of the
way. Its rank correlation with the last rung is taken between different seeds,
so that what one seed's luck gives both does not count, and stands beside the
same figure for the last rung with itself: the test-retest ceiling, which no
proxy can beat but by chance. Every rung stands beside the next one too,
verify's included. Where two were measured at the same seeds alone, the
correlation at those is given and called optimistic.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from asi_evolve_jax.evaluation.statistics import Interval, seed_spread
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, SEARCH, VERIFY, Result
from asi_evolve_jax.records.spending import costs
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Metric

ENOUGH = 0.8  # share of the ceiling from which on a proxy will do
_MIN_PROGRAMS = 4  # fewer have no rank correlation worth a number
_DRAWS = 2000

# What an Agreement rests on, or lacks.
DIFFERENT_SEEDS = "different seeds"
SAME_SEED = "same seed, optimistic"
_NEEDS_SEED = "needs a second seed"
_TOO_FEW = "too few Programs"

# Program -> seed -> value, larger is better.
Values = Mapping[str, Mapping[int, float]]


@dataclasses.dataclass(frozen=True)
class Proxy:
  """A measurement that might stand for the last rung's.

  Attributes:
    name: "<rung>", "<rung>: <metric>" or "<rung>, <k> steps".
    values: larger is better.
    seconds: mean core-seconds of one Program and seed; NaN if not known.
  """

  name: str
  values: Values
  seconds: float


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How two measurements of the same Programs rank them.

  Attributes:
    correlation: Spearman, and its 95 % bootstrap interval over Programs; NaN
      where there is none.
    programs: that both measured.
    regret: what the second's best loses, in the metric's unit, if only the
      upper third of the first goes on; mean over pairs of seeds.
    basis: DIFFERENT_SEEDS, SAME_SEED, or what is lacking.
  """

  correlation: Interval
  programs: int
  regret: float
  basis: str

  @property
  def text(self) -> str:
    """The correlation with its interval, or what is lacking."""
    if self.basis in (DIFFERENT_SEEDS, SAME_SEED):
      value = self.correlation
      said = f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"
      return said if self.basis == DIFFERENT_SEEDS else f"{said} ({self.basis})"
    return self.basis


@dataclasses.dataclass(frozen=True)
class Row:
  """One proxy against the target.

  Attributes:
    agreement: with the target.
    share: correlation over the ceiling; NaN where it is between the same seeds
      or there is no ceiling.
    saved: the target's core-seconds over the proxy's.
    spread: standard deviation between seeds of one Program; NaN of one seed.
  """

  name: str
  agreement: Agreement
  share: float
  saved: float
  spread: float


@dataclasses.dataclass(frozen=True)
class Study:
  """What `study` found.

  Attributes:
    target: name of the last rung of the search.
    ceiling: of the target with itself.
    rows: a proxy each.
    cheapest: that reaches ENOUGH; None where none does.
    steps: (rung, the next, how they agree), verify's rung last.
  """

  target: str
  ceiling: Agreement
  rows: tuple[Row, ...]
  cheapest: Row | None
  steps: tuple[tuple[str, str, Agreement], ...]


def study(
  proxies: Sequence[Proxy], target: Proxy, rungs: Sequence[Proxy] = ()
) -> Study:
  """Compares proxies with the target, and each rung with the next.

  Args:
    proxies: in any order; those with too few Programs in common are left out.
    target: measured at two seeds at least, else there is no ceiling.
    rungs: the rungs' scores, from cheap to dear.
  """
  ceiling = _agreement(target.values, target.values)
  rows = []
  for proxy in proxies:
    agreement = _agreement(proxy.values, target.values)
    if agreement.programs < _MIN_PROGRAMS:
      continue
    spread, _ = seed_spread([list(v.values()) for v in proxy.values.values()])
    share = agreement.correlation.mean / ceiling.correlation.mean
    fair = agreement.basis == DIFFERENT_SEEDS
    rows.append(
      Row(
        name=proxy.name,
        agreement=agreement,
        share=share if fair else math.nan,
        saved=target.seconds / proxy.seconds,
        spread=spread,
      )
    )
  will_do = [row for row in rows if row.share >= ENOUGH and row.saved > 1]
  cheapest = max(will_do, key=lambda row: row.saved, default=None)
  steps = tuple(
    (lower.name, upper.name, _agreement(lower.values, upper.values))
    for lower, upper in itertools.pairwise(rungs)
  )
  return Study(target.name, ceiling, tuple(rows), cheapest, steps)


def read(
  view: View,
  records: Records,
  settings: RunSettings,
  metric: Metric,
  final: Metric,
) -> tuple[list[Proxy], Proxy, list[Proxy]]:
  """Returns the proxies that a run has measured, the last rung, all rungs.

  Args:
    view: of the run.
    records: for the development curves, arrays "dev" [seeds, points, 2] of
      (steps done, score).
    settings: of the run; its ladder.
    metric: of the search. Other metrics of a rung count as larger is better.
    final: of verify.
  """
  proxies = []
  for rung in settings.ladder:
    results = [
      r
      for r in view.results.values()
      if r.rung == rung.name and r.status == OK and r.purpose == SEARCH
    ]
    names = sorted({name for r in results for m in r.metrics for name in m})
    seconds = _seconds(results)
    for name in names:
      own = name == metric.name
      values = _values(results, name, metric if own else None)
      label = rung.name if own else f"{rung.name}: {name}"
      proxies.append(Proxy(label, values, seconds))
      if not own:
        scores = _values(results, metric.name, metric)
        both = _both(values, scores)
        proxies.append(Proxy(f"{label} and score", both, seconds))
    proxies += _curves(results, records, rung.name, metric, seconds)
  last = settings.ladder[-1].name
  target = next((p for p in proxies if p.name == last), None)
  names = [rung.name for rung in settings.ladder]
  scores = {p.name: p for p in proxies if p.name in names}
  rungs = [scores.get(name, Proxy(name, {}, math.nan)) for name in names]
  verify = settings.verify.rung
  if verify is not None:
    results = [
      r
      for r in view.results.values()
      if r.purpose == VERIFY and r.status == OK and r.seeds == verify.seeds
    ]
    values = _values(results, final.name, final)
    rungs.append(Proxy(verify.name, values, _seconds(results)))
  if target is None:
    return [], Proxy(last, {}, math.nan), rungs
  return [p for p in proxies if p is not target], target, rungs


def markdown(found: Study, metric: Metric) -> str:
  """Returns the study as a table and what follows from it."""
  ceiling = f"the test-retest ceiling is {found.ceiling.text}"
  if found.ceiling.basis != DIFFERENT_SEEDS:
    ceiling = f"there is no test-retest ceiling ({found.ceiling.text})"
  lines = [
    "Each rung and the next, over the Programs that both measured:\n",
    "| rung | next | Programs | Spearman |",
    "|---|---|---|---|",
    *(
      f"| {lower} | {upper} | {agreement.programs} | {agreement.text} |"
      for lower, upper, agreement in found.steps
    ),
    f"\nRank correlation with `{found.target}` between different seeds; "
    f"{ceiling}.\n",
    "| proxy | Programs | Spearman | share of the ceiling | cost saved | "
    f"regret [{metric.unit}] | spread over seeds |",
    "|---|---|---|---|---|---|---|",
  ]
  for row in found.rows:
    agreement = row.agreement
    lines.append(
      f"| {row.name} | {agreement.programs} | {agreement.text} | "
      f"{_figure(row.share, '.2f')} | {_figure(row.saved, '.1f')}x | "
      f"{_figure(agreement.regret, '.4f')} | {_figure(row.spread, '.4g')} |"
    )
  if found.cheapest is None:
    lines.append(f"\nNo proxy is known to reach {ENOUGH} of the ceiling.")
  else:
    lines.append(
      f"\nThe cheapest proxy at {ENOUGH} of the ceiling is "
      f"`{found.cheapest.name}`: {found.cheapest.saved:.1f} times cheaper."
    )
  return "\n".join(lines) + "\n"


def _figure(value: float, form: str) -> str:
  return format(value, form) if math.isfinite(value) else "-"


def _values(
  results: Sequence[Result], name: str, metric: Metric | None
) -> dict[str, dict[int, float]]:
  found: dict[str, dict[int, float]] = {}
  for result in results:
    for seed, metrics in zip(result.seeds, result.metrics, strict=False):
      value = metrics.get(name)
      if value is not None and math.isfinite(value):
        gain = metric.gain(value, 0.0) if metric else value
        found.setdefault(result.program, {})[seed] = gain
  return found


def _both(a: Values, b: Values) -> dict[str, dict[int, float]]:
  """Returns the sum of the two, each in deviations over Programs at a seed."""
  shared = sorted(set(a) & set(b))
  found: dict[str, dict[int, float]] = {program: {} for program in shared}
  if len(shared) < 2:
    return found
  for seed in sorted(set(_seeds(a, shared)) & set(_seeds(b, shared))):
    for values in (a, b):
      x = np.array([values[program][seed] for program in shared])
      x = (x - x.mean()) / max(float(x.std()), np.finfo(float).tiny)
      for program, value in zip(shared, x, strict=True):
        found[program][seed] = found[program].get(seed, 0.0) + float(value)
  return found


def _seconds(results: Sequence[Result]) -> float:
  each = [
    costs(r)["core_s"] / len(r.seeds)
    for r in results
    if r.cost and not r.copied_from
  ]
  return float(np.mean(each)) if each else math.nan


def _curves(
  results: Sequence[Result],
  records: Records,
  rung: str,
  metric: Metric,
  seconds: float,
) -> list[Proxy]:
  """Returns a proxy for each point of the development curve but the last."""
  points: dict[int, dict[str, dict[int, float]]] = {}
  length = 0
  for result in results:
    if "dev" not in result.report.get("curves", ()):
      continue
    curve = records.get_array(f"{result.curves}/dev")
    if curve is None:
      continue
    for seed, one in zip(result.seeds, curve, strict=False):
      length = max(length, int(one[-1, 0]))
      for steps, score in one:
        by_program = points.setdefault(int(steps), {})
        gain = metric.gain(float(score), 0.0)
        by_program.setdefault(result.program, {})[seed] = gain
  return [
    Proxy(f"{rung}, {steps} steps", values, seconds * steps / length)
    for steps, values in sorted(points.items())
    if steps < length
  ]


def _agreement(a: Values, b: Values) -> Agreement:
  """Returns how `a` ranks what `b` does: between different seeds if it can.

  Of a measurement with itself the same seed would say nothing.
  """
  shared = sorted(set(a) & set(b))
  every = list(itertools.product(_seeds(a, shared), _seeds(b, shared)))
  pairs, basis = [(s, t) for s, t in every if s != t], DIFFERENT_SEEDS
  if not pairs and a is not b:
    pairs, basis = every, SAME_SEED
  if len(shared) < _MIN_PROGRAMS or not pairs:
    lacks = _TOO_FEW if len(shared) < _MIN_PROGRAMS else _NEEDS_SEED
    nothing = Interval(math.nan, math.nan, math.nan)
    return Agreement(nothing, len(shared), math.nan, lacks)
  columns = [
    (
      np.array([a[p][s] for p in shared]),
      np.array([b[p][t] for p in shared]),
    )
    for s, t in pairs
  ]

  rng = np.random.default_rng(0)
  resamples = rng.integers(0, len(shared), (_DRAWS, len(shared)))
  index = np.concatenate([np.arange(len(shared))[None], resamples])
  each = np.mean([_spearman(x[index], y[index]) for x, y in columns], axis=0)
  low, high = np.nanquantile(each[1:], [0.025, 0.975])
  third = math.ceil(len(shared) / 3)
  regret = np.mean(
    [y.max() - y[np.argsort(-x)[:third]].max() for x, y in columns]
  )
  interval = Interval(float(each[0]), float(low), float(high))
  return Agreement(interval, len(shared), float(regret), basis)


def _seeds(values: Values, programs: Sequence[str]) -> list[int]:
  """Returns the seeds at which all of `programs` were measured."""
  common: set[int] | None = None
  for program in programs:
    seeds = set(values[program])
    common = seeds if common is None else common & seeds
  return sorted(common or ())


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns the rank correlations of rows, NaN where a side is constant.

  Constant it can be in a resample.
  """
  from scipy import stats

  a, b = stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1)
  a = a - a.mean(-1, keepdims=True)
  b = b - b.mean(-1, keepdims=True)
  scale = np.sqrt(np.sum(a * a, -1) * np.sum(b * b, -1))
  with np.errstate(invalid="ignore"):
    return np.sum(a * b, -1) / scale


def points(found: Study) -> dict[str, list[tuple[float, float]]]:
  """Returns (cost as a share of the target's, share of the ceiling)."""
  lines: dict[str, list[tuple[float, float]]] = {}
  for row in found.rows:
    if not math.isfinite(row.share):
      continue
    name = row.name.split(",")[0]  # a rung with its curve, or a metric of one
    lines.setdefault(name, []).append((1 / row.saved, row.share))
  return {name: sorted(line) for name, line in lines.items()}
