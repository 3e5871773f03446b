"""Circle packing: n circles in the unit square, the sum of radii maximal.

The benchmark that systems of this kind share, with 26 circles. Here a packing
is judged in exact arithmetic at margin 0, and a Program gets an amount of
work, not of time, so that its score is the same on every machine as far as
floating point is.
"""

from __future__ import annotations

from typing import Any

from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.records.schema import SEARCH
from asi_evolve_jax.settings import RungSettings, SettingsError
from asi_evolve_jax.tracks.base import (
  MAXIMIZE,
  Axis,
  Baseline,
  Expectation,
  Metric,
)
from asi_evolve_jax.tracks.circle_packing.space import CirclePackingSpace
from asi_evolve_jax.tracks.circle_packing.templates import CALLS_A_UNIT

_ROOM = "asi_evolve_jax.tracks.circle_packing"
_PRELOAD = ("numpy", "scipy.optimize", "scipy.sparse")
_FEWEST = 5  # the starting patterns need some circles to be patterns

BRIEF = """\
Pack {circles} circles into the unit square [0, 1] x [0, 1] so that the sum of
their radii is as large as possible. Radii may differ.

The Program is one Python module with

  def pack(n: int, seed: int, work: int) -> tuple[centers, radii]

centers is a float64 array [n, 2] (x, y), radii a float64 array [n].

- Every radius is positive, every circle lies inside the square, no two
  overlap; to touch is allowed. This is checked in exact rational arithmetic
  with margin 0: an overlap of 1e-16 counts. So shrink the radii a little at
  the end (a factor of 1 - 1e-14 covers the rounding of a square root).
- `work` is the budget: one unit is about one linear program over neighbouring
  circles, one SLSQP iteration or {calls} gradient evaluations, some 5 ms. Never
  read a clock. The same n, seed and work must give the same packing.
- Imports: math, itertools, functools, dataclasses, typing, numpy, scipy.
- Randomness comes from numpy.random.default_rng(seed) alone.

Score: sum of the radii, larger is better.
"""

# name, genome, motivation.
_BASELINES: tuple[tuple[str, dict[str, Any], str], ...] = (
  (
    "grid",
    {"pattern": "square"},
    "A square grid with the spare circles in its gaps; the radii are the best "
    "for these centres. What a person draws first.",
  ),
  (
    "hexagonal",
    {"pattern": "hexagonal", "optimiser": "alternate", "effort": 10},
    "Rows as in the densest packing of the plane, moved a few times towards "
    "where circles want room. The walls do not suit the rows.",
  ),
  (
    "rings",
    {"pattern": "rings", "noise": 0.01, "optimiser": "alternate"},
    "Rings around a middle circle, moved a few times towards where circles "
    "want room. The corners stay empty for long.",
  ),
  (
    "random-slsqp",
    {"optimiser": "slsqp", "effort": 50},
    "One random start and one run of SLSQP on centres and radii: the usual "
    "nonlinear program, without a search around it.",
  ),
)


class CirclePackingTrack:
  """See tracks.base.Track.

  Options: `circles`, 26 unless told otherwise; `baselines`, names, by default
  all of them.
  """

  name = "circle_packing"
  metric = Metric("sum_of_radii", MAXIMIZE)
  final_metric = metric  # a packing is valid or not: nothing is held out
  stages = (
    Stage(
      name="run",
      entry=f"{_ROOM}.run:run",
      trusted=False,
      preload=(*_PRELOAD, f"{_ROOM}.run"),
      budget=0.9,
    ),
    Stage(
      name="score",
      entry=f"{_ROOM}.score:run",
      trusted=True,
      preload=("numpy", f"{_ROOM}.score"),
      budget=0.1,
    ),
  )

  def __init__(self, options: dict[str, Any]):
    unknown = set(options) - {"circles", "baselines"}
    if unknown:
      raise SettingsError(
        f"track_options has {sorted(unknown)}; circle_packing knows `circles` "
        "and `baselines`."
      )
    names = tuple(name for name, _, _ in _BASELINES)
    self._wanted = tuple(options.get("baselines", names))
    if not self._wanted or not set(self._wanted) <= set(names):
      raise SettingsError(
        f"track_options.baselines must be some of {', '.join(names)}; got "
        f"{self._wanted}."
      )
    circles = options.get("circles", 26)
    if type(circles) is not int or circles < _FEWEST:
      raise SettingsError(
        f"track_options.circles must be an integer from {_FEWEST} on, got "
        f"{circles!r}."
      )
    self.circles = circles
    self.space = CirclePackingSpace()
    self.brief = BRIEF.format(circles=circles, calls=CALLS_A_UNIT)

  def baselines(self) -> tuple[Baseline, ...]:
    """Returns plain constructions, each with its place in the space."""
    made = []
    for name, genes, motivation in _BASELINES:
      if name not in self._wanted:
        continue
      genome = self.space.repair(genes)
      made.append(Baseline(name, self.space.render(genome), motivation, genome))
    return tuple(made)

  def shape_key(self, rung: RungSettings, purpose: str = SEARCH) -> str:
    """Returns "": nothing is traced here."""
    del rung
    return ""

  def stage_options(self, rung: RungSettings) -> dict[str, Any]:
    """Returns "circles", "work" and "cpu_seconds" (of one seed).

    Raises:
      SettingsError: if the rung's options are not `work` (units, at least 1)
        and, if wanted, `cpu_seconds`.
    """
    where = f"options of rung {rung.name!r}"
    unknown = set(rung.options) - {"work", "cpu_seconds"}
    if unknown:
      raise SettingsError(
        f"{where} have {sorted(unknown)}; known are work and cpu_seconds."
      )
    work = rung.options.get("work")
    if type(work) is not int or work < 1:
      raise SettingsError(
        f"{where} need work, an integer from 1 on (one unit takes some 5 ms), "
        f"got {work!r}."
      )
    # Ten times what a unit is meant to take: for slow machines, not for
    # Programs that ignore their budget.
    seconds = rung.options.get("cpu_seconds", 5.0 + 0.05 * work)
    if not isinstance(seconds, (int, float)) or seconds <= 0:
      raise SettingsError(f"{where}: cpu_seconds must be above 0.")
    return {
      "circles": self.circles,
      "work": work,
      "cpu_seconds": float(seconds),
    }

  def work(self, rung: RungSettings, purpose: str = SEARCH) -> float:
    """Returns the units of work that a Program gets."""
    del purpose
    return float(self.stage_options(rung)["work"])

  def manifest(self) -> dict[str, Any]:
    """Returns {}: the problem is its own data."""
    return {}

  def folders(self) -> dict[str, str]:
    """Returns {}: there is no data."""
    return {}

  def metrics(self) -> tuple[Metric, ...]:
    """Returns the sum of the radii, all that is measured."""
    return (self.metric,)

  def expectations(self) -> tuple[Expectation, ...]:
    """Returns (): nobody has published an order."""
    return ()

  def axes(self) -> tuple[Axis, ...]:
    """Returns how a packing is improved, and where it starts."""
    return (Axis("optimiser"), Axis("pattern"))

  def columns(self) -> tuple[str, ...]:
    """Returns the columns beside the score: the best packing of all seeds."""
    return ("best_of_seeds",)
