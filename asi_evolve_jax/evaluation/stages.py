"""Stages: the steps of one evaluation, each in a process of its own.

A stage is a function `run(request: StageRequest) -> StageReply`, named by its
import path, so that the Engineer never imports what the stage imports. Only a
stage with `trusted=False` may run a candidate's Python; what it returns is
data, never believed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Stage:
  """One step of an evaluation.

  Attributes:
    name: for logs and error messages.
    entry: "package.module:function", imported in the worker process.
    trusted: False where the stage runs a candidate's Python.
    makes_artifact: its payload is an Artifact, kept and shared by all Tasks
      with the same Program and shape key. The reply's report must then hold
      "artifact_hash", the hash of the computation; so it must be trusted.
    preload: modules that the warm process imports ahead of need.
    budget: share of the rung's deadline, in (0, 1].
    purposes: of the Tasks that it runs for; (): all. For the others it is
      left out, as if the track did not have it.
    reads: names in `Track.folders()` that it may read; it is kept from other
      data where the kernel allows (jail.py).
  """

  name: str
  entry: str
  trusted: bool
  makes_artifact: bool = False
  preload: tuple[str, ...] = ()
  budget: float = 1.0
  purposes: tuple[str, ...] = ()
  reads: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    if self.makes_artifact and not self.trusted:
      raise ValueError(
        f"stage {self.name} runs candidates and names their Artifacts: leave "
        "the naming to a trusted stage behind it."
      )


@dataclasses.dataclass(frozen=True)
class StageRequest:
  """What a stage gets; all of it can be pickled.

  Attributes:
    source: the Program's source; "" for a trusted stage.
    payload: what the stage before returned; b"" for the first.
    seeds: the Task's seeds.
    options: Track.stage_options(rung), plus "rung" (name), "purpose"
      and "program" (id).
    scratch: folder of this Task, kept over a retry: checkpoints go here. In a
      jail it is a file system of its own, which goes with the process.
    cache: folder shared by trusted stages of a run; "" for untrusted ones.
    deadline_s: wall-clock seconds that the stage has.
    folders: those that `Stage.reads` names.
    author: who wrote the source, as in its Proposal.
    facts: the numbers that trusted stages before have reported, by name, and
      "<stage>_cpu_seconds" of every stage before, as measured from outside;
      none for an untrusted stage.
  """

  source: str
  payload: bytes
  seeds: tuple[int, ...]
  options: dict[str, Any]
  scratch: str
  cache: str
  deadline_s: float
  folders: dict[str, str] = dataclasses.field(default_factory=dict)
  author: str = ""
  facts: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StageReply:
  """What a stage returns.

  Attributes:
    status: "ok", "rejected" (a gate said no), "stopped" (too far behind to go
      on) or "failed".
    gate: the gate that rejected.
    error: what went wrong and what to change.
    payload: input of the next stage.
    metrics: one dict a seed, in the order of the seeds (last stage).
    report: facts about the Program, not per seed (parameters, FLOPs ...).
    curves: arrays to keep beside the Result, e.g. "loss" [seeds, steps].
    cost: extra cost figures (flops ...); time and memory are added outside.
  """

  status: str = "ok"
  gate: str = ""
  error: str = ""
  payload: bytes = b""
  metrics: tuple[dict[str, float], ...] = ()
  report: dict[str, Any] = dataclasses.field(default_factory=dict)
  curves: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  cost: dict[str, float] = dataclasses.field(default_factory=dict)
