"""A Claim's gain over the windows of held-out data, beside that over seeds.

A track may keep, as a curve named like its final metric, the parts that this
is the mean of: float [seeds, windows], the same windows for every Program.
Seeds say how training varies; windows say how much the gain hangs on which data
was held out. No verdict rests on them.
"""

from __future__ import annotations

import numpy as np

from asi_evolve_jax.evaluation.statistics import Interval, bootstrap_interval
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, Claim
from asi_evolve_jax.tracks.base import MINIMIZE


def over_windows(
  view: View, records: Records, claim: Claim
) -> tuple[Interval, int] | None:
  """Returns the gain with its interval over windows, and their number.

  The gain of a window is the mean over the paired seeds; the interval is a 95 %
  percentile bootstrap, as if windows were independent.

  Args:
    view: of the run.
    records: of the run, for the curves.
    claim: whose two sides are compared.

  Returns:
    None where a side has no windows, or the two have not the same number.
  """
  mine = _rows(view, records, claim, claim.results)
  theirs = _rows(view, records, claim, claim.baseline_results)
  pairs = [
    (mine[a], theirs[b])
    for a, b in zip(claim.seeds, claim.baseline_seeds, strict=True)
    if a in mine and b in theirs
  ]
  sizes = {row.size for pair in pairs for row in pair}
  if len(sizes) != 1 or min(sizes) < 2:
    return None
  sign = -1.0 if claim.direction == MINIMIZE else 1.0
  gains = sign * np.mean([a - b for a, b in pairs], axis=0)
  return bootstrap_interval(gains.tolist()), sizes.pop()


def _rows(
  view: View, records: Records, claim: Claim, tasks: tuple[str, ...]
) -> dict[int, np.ndarray]:
  """Returns seed -> scores of the windows, float64."""
  found: dict[int, np.ndarray] = {}
  for task in tasks:
    result = view.results.get(task)
    if result is None or result.status != OK or not result.curves:
      continue
    curve = records.get_array(f"{result.curves}/{claim.metric}")
    if curve is not None and curve.ndim == 2:
      rows = zip(result.seeds, curve.astype(np.float64), strict=False)
      found.update(rows)
  return found
