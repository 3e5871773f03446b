"""The leaderboard: rows of measured Programs, as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from asi_evolve_jax.evaluation.statistics import mean_interval
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import CLAIMED, OK, Result
from asi_evolve_jax.tracks.base import Metric

_COST = ("wall_seconds", "peak_memory_bytes")
_UNITS = {
  "bytes": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
  "seconds": (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)),
  "": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """One Program at one rung.

  Attributes:
    score, low, high: mean over seeds and its 95 % t interval; the interval is
      None with one seed, where none can be had.
    seeds: the seeds measured.
    facts: the track's columns and the cost, where the Results hold them.
    beats: names of the baselines that it is claimed to beat.
    vetoed: whether a person wants no more of it.
  """

  rank: int
  program: str
  name: str
  author: str
  score: float
  low: float | None
  high: float | None
  seeds: tuple[int, ...]
  facts: dict[str, float]
  beats: tuple[str, ...] = ()
  vetoed: bool = False

  def json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def rows(
  view: View,
  rung: str,
  metric: Metric,
  columns: tuple[str, ...],
  purpose: str | None = None,
) -> list[Row]:
  """Returns a row for each Program with an ok Result at `rung`, best first.

  Args:
    view: of the run.
    rung: name.
    metric: that ranks.
    columns: names of further metrics and report entries.
    purpose: as in `View.measurements`.
  """
  found = []
  for program, proposal in view.proposal_of.items():
    values = view.measurements(program, rung, purpose, metric.name)
    if not values:
      continue
    results = [
      r for r in view.results_of[program] if r.rung == rung and r.status == OK
    ]
    mean, low, high = mean_interval(list(values.values()))
    alone = len(values) < 2
    found.append(
      Row(
        rank=0,
        program=program,
        name=proposal.name,
        author=proposal.author,
        vetoed=program in view.vetoed,
        score=mean,
        low=None if alone else low,
        high=None if alone else high,
        seeds=tuple(sorted(values)),
        facts=facts(results, columns),
      )
    )
  found.sort(key=lambda r: -r.score if metric.better(1.0, 0.0) else r.score)
  return [dataclasses.replace(r, rank=i + 1) for i, r in enumerate(found)]


def apart(view: View, table: list[Row]) -> tuple[list[Row], list[Row]]:
  """Returns the claimed rows, with what they beat, and all others."""
  beats: dict[str, list[str]] = {}
  for claim in view.standing_claims():
    if claim.verdict == CLAIMED and not claim.control:
      name = view.proposal_of[claim.baseline].name
      beats.setdefault(claim.program, []).append(name)
  claimed = [
    dataclasses.replace(row, beats=tuple(dict.fromkeys(beats[row.program])))
    for row in table
    if row.program in beats
  ]
  return claimed, [row for row in table if row.program not in beats]


def facts(
  results: Sequence[Result], columns: tuple[str, ...]
) -> dict[str, float]:
  """Returns means of metrics, report entries and the cost, by name."""
  found: dict[str, float] = {}
  for name in columns:
    measured = [m[name] for r in results for m in r.metrics if name in m]
    if measured:
      found[name] = sum(measured) / len(measured)
      continue
    for result in results:
      if isinstance(result.report.get(name), (int, float)):
        found[name] = float(result.report[name])
        break
  for name in _COST:
    spent = [r.cost[name] for r in results if name in r.cost]
    if spent:
      found.setdefault(name, max(spent))
  return found


def yardsticks(view: View, rung: str) -> dict[str, float]:
  """Returns scores that are no Program's, e.g. a counted byte trigram."""
  for result in view.results.values():
    if result.rung == rung and result.status == OK:
      found = result.report.get("yardsticks")
      if isinstance(found, dict) and found:
        return {str(k): float(v) for k, v in found.items()}
  return {}


def markdown(table: list[Row], metric: Metric, marks: dict[str, float]) -> str:
  """Returns the rows as a Markdown table, yardsticks in their place."""
  if not table:
    return "No Program has a score here yet.\n"
  names = sorted({name for row in table for name in row.facts})
  header = ["", "Program", "by", f"{metric.name} ({_arrow(metric)})", "seeds"]
  claimed = any(row.beats for row in table)
  header += ["claimed over"] * claimed
  header += [name.replace("_", " ") for name in names]
  lines = [
    "| " + " | ".join(header) + " |",
    "|" + "---|" * len(header),
  ]
  entries: list[tuple[float, list[str]]] = []
  for row in table:
    name = f"{row.name} (vetoed)" if row.vetoed else row.name
    cells = [str(row.rank), name, row.author, quality(row)]
    cells += [str(len(row.seeds))]
    cells += [", ".join(row.beats)] * claimed
    cells += [human(name, row.facts.get(name)) for name in names]
    entries.append((row.score, cells))
  for name, value in marks.items():
    cells = ["", f"*{name}*", "yardstick", f"{value:.4f}", ""]
    entries.append((value, cells + [""] * (len(names) + claimed)))
  entries.sort(key=lambda e: -e[0] if metric.better(1.0, 0.0) else e[0])
  lines += ["| " + " | ".join(cells) + " |" for _, cells in entries]
  return "\n".join(lines) + "\n"


def quality(row: Row) -> str:
  """Returns "2.1550 [2.1400, 2.1700]", or the score alone with one seed."""
  if row.low is None or row.high is None:
    return f"{row.score:.6g}"
  return f"{row.score:.4f} [{row.low:.4f}, {row.high:.4f}]"


def human(name: str, value: float | None) -> str:
  """Returns `value` with a unit that its name implies."""
  if value is None:
    return "-"
  kind = next((k for k in ("bytes", "seconds") if name.endswith(k)), "")
  if name.endswith("_s"):
    kind = "seconds"
  for unit, size in _UNITS[kind]:
    if abs(value) >= size and (kind or abs(value) >= 1000 or unit == ""):
      return f"{value / size:.3g} {unit}".strip()
  return f"{value:.3g}"


def _arrow(metric: Metric) -> str:
  return "higher is better" if metric.better(1.0, 0.0) else "lower is better"
