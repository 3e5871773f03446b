"""Figures: the best score so far against rounds and compute; plain lines."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, SEARCH
from asi_evolve_jax.records.spending import costs
from asi_evolve_jax.tracks.base import Metric


class Band(NamedTuple):
  """A curve with its interval: x, y and the ends of the interval there."""

  x: Sequence[float]
  mean: Sequence[float]
  low: Sequence[float]
  high: Sequence[float]


def progress_curve(
  view: View, rung: str, metric: Metric
) -> list[tuple[int, float, float]]:
  """Returns (rounds ended, device-seconds spent, best score) at each gain.

  Device-seconds (records/spending.py) count every Result of the search, failed
  ones and other rungs included: that is what the best score has cost.
  """
  points: list[tuple[int, float, float]] = []
  best: float | None = None
  spent, rounds = 0.0, 0
  for result in sorted(view.results.values(), key=lambda r: r.created_at):
    if result.purpose != SEARCH:
      continue
    spent += costs(result)["device_s"]
    proposal = view.proposal_of.get(result.program)
    if proposal is not None:
      rounds = max(rounds, proposal.round)
    if result.rung != rung or result.status != OK:
      continue
    values = [m[metric.name] for m in result.metrics if metric.name in m]
    score = sum(values) / len(values)
    if best is None or metric.better(score, best):
      best = score
      points.append((rounds, spent, best))
  if points:
    points.append((rounds, spent, points[-1][2]))
  return points


def draw_progress(
  view: View,
  rung: str,
  metric: Metric,
  baselines: dict[str, float],
  path: Path,
) -> None:
  """Writes the figure to `path` (PNG): rounds left, device-minutes right.

  Args:
    view: of the run.
    rung: whose scores are drawn; every score of a candidate is a dot.
    metric: of the search.
    baselines: name -> score, drawn as lines.
    path: to write.
  """
  curve = progress_curve(view, rung, metric)
  tried = []
  for program, proposal in view.proposal_of.items():
    score = view.score(program, rung)
    if program not in view.baselines and score is not None:
      tried.append((proposal.round, score))
  with _figure(path, ncols=2, figsize=(10, 4), sharey=True) as axes:
    if tried:
      axes[0].plot(
        *zip(*tried, strict=True), ".", color="0.6", label="candidates"
      )
    if curve:
      rounds, spent, best = zip(*curve, strict=True)
      axes[0].step(rounds, best, where="post", color="C0", label="best so far")
      axes[1].step([s / 60 for s in spent], best, where="post", color="C0")
    for i, (name, score) in enumerate(sorted(baselines.items())):
      for axis in axes:
        axis.axhline(score, color=f"C{i + 1}", linewidth=0.8, linestyle="--")
      axes[1].text(
        1.01,
        score,
        name,
        color=f"C{i + 1}",
        fontsize=7,
        va="center",
        transform=axes[1].get_yaxis_transform(),
      )
    axes[0].set_xlabel("round")
    axes[1].set_xlabel("compute [device-minutes]")
    axes[0].set_ylabel(f"{metric.name} at {rung}")
    if axes[0].get_legend_handles_labels()[0]:
      axes[0].legend(fontsize=8)


def draw_curves(
  curves: Mapping[str, Sequence[tuple[int, float, float]]], y: str, path: Path
) -> None:
  """Writes best-so-far curves of several runs to `path` (PNG).

  Args:
    curves: of `progress_curve`, by name.
    y: label of the score.
    path: to write.
  """
  with _lines(path, "compute [device-minutes]", y) as axis:
    for name, points in curves.items():
      _, spent, best = zip(*points, strict=True)
      axis.step([s / 60 for s in spent], best, where="post", label=name)


def draw_lines(
  lines: Mapping[str, Sequence[tuple[float, float]]],
  x: str,
  y: str,
  path: Path,
  *,
  log_y: bool = True,
) -> None:
  """Writes a plot with a logarithmic x axis to `path` (PNG).

  Args:
    lines: points (x, y) by name.
    x: label of the axis.
    y: label of the axis.
    path: to write.
    log_y: whether the other axis is logarithmic too.
  """
  with _lines(path, x, y) as axis:
    for name, points in lines.items():
      xs, ys = zip(*points, strict=True)
      axis.plot(xs, ys, marker="o", markersize=3, label=name)
    axis.set_xscale("log", base=2)
    if log_y:
      axis.set_yscale("log")


def draw_bands(
  bands: Mapping[str, Band], x: str, y: str, path: Path, columns: int = 3
) -> None:
  """Writes a panel for each band to `path` (PNG), the first one in all.

  The scale leaves out how far the curves are down in the first sixth of x:
  what comes later would be flat against it.

  Args:
    bands: by name.
    x: label of the axis.
    y: label of the axis.
    path: to write.
    columns: panels in a row.
  """
  first = next(iter(bands.values()))
  rows = math.ceil(len(bands) / columns)
  shown = [v for b in bands.values() for v in _late(b.x, b[1:])]
  with _figure(
    path,
    nrows=rows,
    ncols=columns,
    figsize=(3.4 * columns, 2.6 * rows),
    sharex=True,
    sharey=True,
    squeeze=False,
  ) as axes:
    panels = list(axes.flat)
    for panel, (name, band) in zip(panels, bands.items(), strict=False):
      panel.fill_between(band.x, band.low, band.high, alpha=0.3, step="post")
      panel.step(band.x, band.mean, where="post")
      panel.step(first.x, first.mean, where="post", color="0.5", linewidth=0.8)
      panel.set_title(name, fontsize=9)
      panel.grid(alpha=0.3)
    for panel in panels[len(bands) :]:
      panel.set_axis_off()
    room = 0.05 * (max(shown) - min(shown)) or 1.0
    panels[0].set_ylim(min(shown) - room, max(shown) + room)
    axes[-1][0].set_xlabel(x)
    axes[0][0].set_ylabel(y, fontsize=8)


def _late(x: Sequence[float], curves: Sequence[Sequence[float]]) -> list[float]:
  """Returns the values of curves behind the first sixth of x."""
  start = x[0] + (x[-1] - x[0]) / 6
  return [
    value
    for curve in curves
    for place, value in zip(x, curve, strict=True)
    if place >= start
  ]


@contextlib.contextmanager
def _lines(path: Path, x: str, y: str) -> Iterator[Any]:
  """Yields the one axis of a figure of named lines, written to `path`."""
  with _figure(path, figsize=(6, 4)) as axis:
    yield axis
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


@contextlib.contextmanager
def _figure(path: Path, **options: Any) -> Iterator[Any]:
  """Yields the axes of a new figure, which is then written to `path` (PNG)."""
  # A second of import, and only where something is drawn.
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(**options)
  try:
    yield axes
    figure.tight_layout()
    figure.savefig(path, dpi=120)
  finally:
    plt.close(figure)
