"""Two runs side by side: configs, cost, best-so-far curves, Claims."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation.budget import NAMES, Budget, limits, rounds
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import VERIFY, Claim
from asi_evolve_jax.reporting import leaderboard, verdict
from asi_evolve_jax.reporting.figures import draw_curves, progress_curve
from asi_evolve_jax.settings import (
  RunSettings,
  SettingsError,
  difference,
  plain,
)
from asi_evolve_jax.tracks.base import Track

_POINTS = 10  # rows of the table of curves
# Where a run lives and what it runs on: no difference in what it computes.
_LOCAL = ("name", "run_dir", "workers", "durable")

Curve = list[tuple[int, float, float]]  # rounds, device-seconds, best


@dataclasses.dataclass(frozen=True)
class Side:
  """One of the runs."""

  view: View
  settings: RunSettings
  track: Track

  @property
  def name(self) -> str:
    return self.settings.name


def write(a: Side, b: Side, out: Path) -> str:
  """Writes compare.md and compare.png to `out`; returns the text.

  Raises:
    SettingsError: if the runs are of different tracks or metrics.
  """
  if a.settings.track != b.settings.track or a.track.metric != b.track.metric:
    raise SettingsError(
      f"{a.name} is a run of {a.settings.track} and {b.name} of "
      f"{b.settings.track}: their scores measure different things."
    )
  labels = (a.name, b.name) if a.name != b.name else ("A", "B")
  sections = [
    f"# {labels[0]} and {labels[1]}\n",
    _budgets((a, b), labels),
    _configs(a, b),
  ]
  rung, doubt = shared_rung(a, b)
  sections.append(f"## Best so far at rung {rung}\n")
  if doubt:
    sections.append(f"Not to be compared as they stand: {doubt}.\n")
  metric = a.track.metric
  curves = [progress_curve(side.view, rung, metric) for side in (a, b)]
  sections.append(_table(curves, labels, metric.name))
  sections += [
    _finals(side, label) for side, label in zip((a, b), labels, strict=True)
  ]
  text = "\n".join(sections)
  (out / "compare.md").write_text(text)
  if all(curves):
    draw_curves(
      dict(zip(labels, curves, strict=True)),
      f"best {metric.name} at {rung}",
      out / "compare.png",
    )
  return text


def shared_rung(a: Side, b: Side) -> tuple[str, str]:
  """Returns the highest rung of both with scores, and what speaks against it.

  Raises:
    SettingsError: if there is none.
  """
  theirs = {rung.name: rung for rung in b.settings.ladder}
  for rung in reversed(a.settings.ladder):
    other = theirs.get(rung.name)
    if other is None or not (
      a.view.ranked(rung.name, 1) and b.view.ranked(rung.name, 1)
    ):
      continue
    doubts = []
    if (rung.options, rung.seeds) != (other.options, other.seeds):
      doubts.append("the rung has other options or seeds in the two runs")
    if plain(a.settings.track_options) != plain(b.settings.track_options):
      doubts.append("track_options differ")
    runs = (a.view.run, b.view.run)
    if all(runs) and runs[0].manifest != runs[1].manifest:  # type: ignore[union-attr]
      doubts.append("they were measured on other data")
    return rung.name, "; ".join(doubts)
  raise SettingsError("the runs have no rung in common where both have scores.")


def best_at(curve: Curve, spent: float) -> tuple[int, float] | None:
  """Returns rounds and best score of `curve` once `spent` was spent."""
  place = bisect.bisect_right([s for _, s, _ in curve], spent)
  if not place:
    return None
  rounds_then, _, best = curve[place - 1]
  return rounds_then, best


def _budgets(sides: Sequence[Side], labels: Sequence[str]) -> str:
  rows: list[tuple[str, list[str]]] = []
  allowed = [limits(side.view, side.settings) for side in sides]
  wanted = [rounds(side.view, side.settings) for side in sides]
  for name in NAMES:
    if any(name in limit for limit in allowed):
      rows.append(
        (f"budget {name}", [_number(limit.get(name)) for limit in allowed])
      )
  rows.append(("rounds allowed", [str(count) for count in wanted]))
  rows.append(("rounds done", [str(side.view.rounds()) for side in sides]))
  rows.append(("results", [str(len(side.view.results)) for side in sides]))
  spent = [
    {line.name: line.spent for line in Budget(s.view, s.settings).lines()}
    for s in sides
  ]
  for name in NAMES:
    if any(entry.get(name) for entry in spent):
      rows.append(
        (f"spent {name}", [_number(entry.get(name, 0.0)) for entry in spent])
      )
  rows.append(("ended", [_ended(side.view) for side in sides]))
  rows.append(("machine", [_machine(side.view) for side in sides]))
  equal = allowed[0] == allowed[1] and wanted[0] == wanted[1]
  said = "The budgets are equal." if equal else "The budgets are not equal."
  return "\n".join(
    [f"## Budgets and cost\n\n{said}\n", *_markdown(["", *labels], rows)]
  )


def _configs(a: Side, b: Side) -> str:
  def shown(side: Side) -> dict[str, Any]:
    config = plain(side.settings)
    return {k: v for k, v in config.items() if k not in _LOCAL}

  lines = difference(shown(a), shown(b)) or ["none"]
  return "\n".join(
    ["## What the configs differ in\n", *(f"- {line}" for line in lines), ""]
  )


def _table(curves: Sequence[Curve], labels: Sequence[str], metric: str) -> str:
  """Returns both curves at equal device-seconds."""
  if not all(curves):
    return "One of the runs has no score here.\n"
  end = max(curve[-1][1] for curve in curves)
  rows = []
  for step in range(1, _POINTS + 1):
    spent = end * step / _POINTS
    cells = []
    for curve in curves:
      at = best_at(curve, spent)
      over = " (it had ended)" if spent > curve[-1][1] else ""
      cells.append(f"{at[1]:.6g}{over}" if at else "")
      cells.append(str(at[0]) if at else "")
    rows.append((_number(spent), cells))
  header = ["device-seconds"]
  for label in labels:
    header += [f"best {metric}, {label}", "rounds"]
  return "\n".join(_markdown(header, rows))


def _finals(side: Side, label: str) -> str:
  """Returns the Claims of a run and its scores on fresh seeds."""
  lines = [f"## On fresh seeds: {label}\n"]
  rows = [
    (side.view.name_of(c.program), _claim(side.view, c))
    for c in verdict.comparisons(side.view)
  ]
  if rows:
    header = ["Program", "against", "gain [95 %]", "p corrected", "verdict"]
    lines += _markdown(header, rows)
  verify = side.settings.verify.rung
  metric = side.track.final_metric
  table = (
    leaderboard.rows(side.view, verify.name, metric, (), VERIFY)
    if verify is not None
    else []
  )
  if not table:
    return "\n".join([*lines, "Nothing was verified.\n"])
  return "\n".join([*lines, leaderboard.markdown(table, metric, {})])


def _claim(view: View, claim: Claim) -> list[str]:
  return [
    view.name_of(claim.baseline),
    verdict.interval(claim.effect, claim.low, claim.high),
    f"{claim.p_corrected:.3g}",
    claim.verdict,
  ]


def _ended(view: View) -> str:
  ended = view.milestones.get("search-ended")
  return ended.detail.get("reason", "") if ended else "goes on"


def _machine(view: View) -> str:
  if view.run is None:
    return ""
  machine = view.run.machine
  return f"{machine.get('processor')}, {machine.get('cores')} cores"


def _number(value: float | None) -> str:
  return "none" if value is None else f"{value:.4g}"


def _markdown(
  header: Sequence[str], rows: Sequence[tuple[str, list[str]]]
) -> list[str]:
  lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
  lines += ["| " + " | ".join([first, *rest]) + " |" for first, rest in rows]
  return [*lines, ""]
