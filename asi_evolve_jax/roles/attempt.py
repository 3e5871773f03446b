"""One leased Task on its way through the stages of its track."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from asi_evolve_jax.evaluation.limits import last_useful_lines
from asi_evolve_jax.evaluation.stages import Stage, StageRequest
from asi_evolve_jax.evaluation.workers import Job, Outcome
from asi_evolve_jax.records import Lease
from asi_evolve_jax.records.schema import (
  REPEAT,
  SEARCH,
  VERIFY,
  Result,
  Task,
  digest,
)
from asi_evolve_jax.settings import RungSettings, RunSettings

_REPORT_BYTES = 64 << 10
_ERROR_CHARS = 4000
_COUNTED = ("wall_seconds", "cpu_seconds", "flops", "tokens")
_CURVE_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclasses.dataclass(eq=False)
class Attempt:
  """The state of one evaluation between its stages.

  Attributes:
    task: what is measured.
    lease: on the Task.
    rung: of the Task.
    source: of the Program.
    author: of the Program.
    shape_key: what its Artifact is traced at; "": its track has none.
    measured_as: the purpose that the stages are told.
    scratch: its folder; the same for every attempt at the Task.
    slot: index of the worker slot that it holds; None while it waits.
    stages: those that run for its purpose.
    index: of the stage that runs, or that is to run next.
    payload: input of that stage.
    artifact: id of the Artifact, once there is one.
    measuring: lease on measuring that Artifact, held by one Task at a time.
    job: the stage that runs.
    report: of all stages so far; "confined_by" has the layers that held each,
      by its name (evaluation/jail.py).
    cost: of all stages so far.
    cpu_seconds: of each stage so far, by name, as measured from outside.
    curves: by name.
    printed: by each stage that printed anything, by name: its last lines.
  """

  task: Task
  lease: Lease
  rung: RungSettings
  source: str
  author: str
  shape_key: str
  measured_as: str
  scratch: Path
  slot: int | None
  stages: tuple[Stage, ...]
  index: int = 0
  payload: bytes = b""
  artifact: str = ""
  measuring: Lease | None = None
  job: Job | None = None
  report: dict[str, Any] = dataclasses.field(default_factory=dict)
  cost: dict[str, float] = dataclasses.field(default_factory=dict)
  cpu_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
  curves: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  printed: dict[str, str] = dataclasses.field(default_factory=dict)

  @property
  def measurement(self) -> str:
    """Names what is measured whatever Program the Artifact came from."""
    task = self.task
    return digest(
      "measurement", self.artifact, task.rung, list(task.seeds), task.purpose
    )

  def request(
    self,
    stage: Stage,
    options: dict[str, Any],
    folders: dict[str, str],
    cache: str,
  ) -> StageRequest:
    """Returns what `stage` gets.

    Args:
      stage: one that may run a candidate sees no shared folder; one that may
        not sees no source.
      options: of the track, for this rung.
      folders: of the track; the stage gets those that it declares.
      cache: folder shared by trusted stages.
    """
    # The deadline is that of the rung's own seeds.
    share = max(1.0, len(self.task.seeds) / max(1, len(self.rung.seeds)))
    # What an untrusted stage has reported is nested, and no number.
    facts = {
      name: float(value)
      for name, value in self.report.items()
      if isinstance(value, (int, float))
    }
    for name, seconds in self.cpu_seconds.items():
      facts[f"{name}_cpu_seconds"] = seconds
    return StageRequest(
      source="" if stage.trusted else self.source,
      payload=self.payload,
      seeds=self.task.seeds,
      options={
        **options,
        "rung": self.task.rung,
        "purpose": self.measured_as,
        "program": self.task.program,
      },
      scratch=str(self.scratch),
      cache=cache if stage.trusted else "",
      deadline_s=self.rung.deadline_s * stage.budget * share,
      folders={name: folders[name] for name in stage.reads},
      author="" if stage.trusted else self.author,
      facts=facts if stage.trusted else {},
    )

  def add(self, outcome: Outcome) -> None:
    """Takes in what a stage cost and reported, however it ended.

    What an untrusted stage says of itself stands under that stage's name, and
    no figure that budgets count is taken from it.
    """
    stage = self.stages[self.index]
    self.job = None
    if printed := last_useful_lines(outcome.log):
      self.printed[stage.name] = printed
    cost = self.cost
    for name, value in outcome.reply.cost.items():
      told = stage.trusted or name not in _COUNTED
      if told and math.isfinite(value):
        cost[name] = cost.get(name, 0.0) + value
    self.cpu_seconds[stage.name] = outcome.cpu_seconds
    for name in ("wall_seconds", "cpu_seconds"):
      cost[name] = cost.get(name, 0.0) + getattr(outcome, name)
    peak = "peak_memory_bytes"
    cost[peak] = max(cost.get(peak, 0.0), float(outcome.peak_memory_bytes))
    report = outcome.reply.report
    self.report.update(report if stage.trusted else {stage.name: report})
    held = self.report.get("confined_by", {})
    layers = list(outcome.confinement.layers)
    self.report["confined_by"] = {**held, stage.name: layers}
    self.curves.update(
      {
        name: array
        for name, array in outcome.reply.curves.items()
        if _CURVE_NAME.fullmatch(name)
      }
    )

  def result(self, status: str, worker: str, **fields: Any) -> Result:
    """Returns the Result of the Task."""
    task = self.task
    tokens = self.cost.get("tokens")
    per_token = self.report.get("flops_per_token")
    if tokens and isinstance(per_token, (int, float)):
      # Forward once, and backward twice as much.
      self.cost["flops"] = 3.0 * per_token * tokens
    error = fields.pop("error", "")
    if len(error) > _ERROR_CHARS:
      error = f"{error[:1000]}\n[...]\n{error[1000 - _ERROR_CHARS :]}"
    return Result(
      task=task.id,
      program=task.program,
      rung=task.rung,
      seeds=task.seeds,
      purpose=task.purpose,
      attempt=task.attempt,
      status=status,
      error=error,
      printed=dict(self.printed),
      artifact=self.artifact,
      report=recordable(self.report),
      cost=dict(self.cost),
      worker=worker,
      **fields,
    )


def measured_as(task: Task, settings: RunSettings) -> str:
  """Returns the purpose that the stages are told: a repeat has the original's.

  Held-out data is read for verify alone, so a repeat of it must say so.
  """
  if task.purpose != REPEAT:
    return task.purpose
  rung = settings.verify.rung
  return VERIFY if rung is not None and rung.name == task.rung else SEARCH


def recordable(report: dict[str, Any]) -> dict[str, Any]:
  """Returns `report` as a record can hold it: finite, and not huge."""
  try:
    plain = _finite(report)
    size = len(json.dumps(plain, allow_nan=False))
  except (TypeError, ValueError, RecursionError) as e:
    return {"dropped": f"the report was no JSON: {e}"[:300]}
  if size > _REPORT_BYTES:
    return {"dropped": f"the report had {size} bytes of JSON"}
  return plain


def metrics_fault(
  metrics: tuple[dict[str, float], ...], seeds: int, wanted: str
) -> str:
  """Returns what is wrong with the metrics of an ok reply, or "".

  Args:
    metrics: one dict a seed.
    seeds: number of seeds.
    wanted: the metric that each must have.
  """
  if len(metrics) != seeds:
    return f"it measured {len(metrics)} of {seeds} seeds"
  for i, values in enumerate(metrics):
    if wanted not in values:
      return f"metric {wanted} of seed {i} is missing"
    for name, value in values.items():
      if not math.isfinite(value):
        return f"metric {name} of seed {i} is {value}"
  return ""


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(k): _finite(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value
