"""The Track contract: what a research question brings, and nothing more.

Roles, search, records and evaluation know a track only through this file.
Nothing here imports jax; code that does is named by `Stage.entry` and runs in
worker processes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.programs.genome import Space
from asi_evolve_jax.records.schema import SEARCH, VERIFY
from asi_evolve_jax.settings import RungSettings, RunSettings

MINIMIZE = "minimize"
MAXIMIZE = "maximize"


@dataclasses.dataclass(frozen=True)
class Metric:
  """A number a stage reports for each seed."""

  name: str
  direction: str  # MINIMIZE or MAXIMIZE
  unit: str = ""
  timed: bool = False  # hangs on a clock: a repeat need not have its bits

  def better(self, a: float, b: float) -> bool:
    """Whether score `a` is strictly better than `b`."""
    return a < b if self.direction == MINIMIZE else a > b

  def gain(self, a: float, b: float) -> float:
    """How much better `a` is than `b`; positive is better."""
    return b - a if self.direction == MINIMIZE else a - b


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A published Program, evaluated first by the same code as candidates."""

  name: str
  source: str
  motivation: str
  genome: dict[str, Any] | None = None  # its place in the space, if it has one


@dataclasses.dataclass(frozen=True)
class Expectation:
  """What the literature says of two baselines: a rung that denies it misleads.

  Attributes:
    better, worse: names of baselines.
    metric: name of the metric that says so.
    source: who found it.
    level: `better` need only be no worse, within the spread of seeds.
  """

  better: str
  worse: str
  metric: str
  source: str
  level: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
  """One way in which Programs can be unlike each other (search/islands.py).

  Attributes:
    name: of a gene, whose values are the bins; or, where there are `edges`,
      of a number: a metric or an entry of the report of the stages.
    edges: bounds of a number's bins, ascending.
  """

  name: str
  edges: tuple[float, ...] = ()


class Track(Protocol):
  """One research question. Constructed as `Track(options: dict)`."""

  name: str
  metric: Metric  # the score of the search, on development data
  final_metric: Metric  # the score of verify, on held-out data
  brief: str  # the contract in words, for people and for language models
  # In the order they run; only the metrics of the last one that runs count.
  stages: tuple[Stage, ...]

  @property
  def space(self) -> Space:
    """The symbolic search space."""
    ...

  def baselines(self) -> tuple[Baseline, ...]:
    """Returns the Programs to evaluate before any candidate."""
    ...

  def shape_key(self, rung: RungSettings, purpose: str = SEARCH) -> str:
    """Names what an Artifact of this rung was traced at and judged by.

    Equal keys share Artifacts. "" means this track has no Artifacts.

    Args:
      rung: of the Task.
      purpose: of the Task: more gates may stand before some.
    """
    ...

  def stage_options(self, rung: RungSettings) -> dict[str, Any]:
    """Returns what the stages get as `StageRequest.options` (JSON)."""
    ...

  def work(self, rung: RungSettings, purpose: str = SEARCH) -> float:
    """Returns the work of one seed at `rung`, above 0 and in any unit.

    Only ratios count: a rung that has measured nothing is expected to cost what
    the one below does, times how much more work it is.
    """
    ...

  def manifest(self) -> dict[str, Any]:
    """Returns what the scores depend on outside the code (corpus), or {}.

    May fetch and build the data (progress on stderr); called by the supervisor
    before roles start and by an Engineer for its own machine.
    """
    ...

  def folders(self) -> dict[str, str]:
    """Returns the data folders on this machine that `Stage.reads` may name."""
    ...

  def metrics(self) -> tuple[Metric, ...]:
    """Returns every number that its stages may report for each seed.

    `metric` and `final_metric` among them. What is not listed here has no
    direction: it is kept, and never compared.
    """
    ...

  def expectations(self) -> tuple[Expectation, ...]:
    """Returns how the literature orders the baselines, for calibration."""
    ...

  def axes(self) -> tuple[Axis, ...]:
    """Returns the axes of the grid that keeps unlike Programs, or ()."""
    ...

  def columns(self) -> tuple[str, ...]:
    """Names of metrics and report entries that stand in the leaderboard."""
    ...


def rung_work(track: Track, settings: RunSettings) -> dict[str, float]:
  """Returns the work of one seed at each rung of a run, verify's among them."""
  found = {rung.name: track.work(rung) for rung in settings.ladder}
  verify = settings.verify.rung
  if verify is not None:
    found[verify.name] = track.work(verify, VERIFY)
  return found
