"""What a pool of workers is, and one that runs stages in this process."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Protocol

from asi_evolve_jax.evaluation import worker as worker_lib
from asi_evolve_jax.evaluation.jail import Confinement
from asi_evolve_jax.evaluation.limits import Limits
from asi_evolve_jax.evaluation.stages import Stage, StageReply, StageRequest


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How one stage ended.

  Attributes:
    status: "ok", "rejected", "stopped", "failed" (its own doing), "timeout",
      or "lost" (the machine's doing: worth another attempt).
    reply: what the stage returned, whole even if it is a refusal; empty unless
      the stage returned.
    error: what went wrong, in lines a person can use; "" if ok.
    wall_seconds: from start to end.
    cpu_seconds: user and system time, of the children it waited for too.
    peak_memory_bytes: largest resident set.
    log: the end of its output.
    confinement: what held it.
  """

  status: str
  reply: StageReply = dataclasses.field(default_factory=StageReply)
  error: str = ""
  wall_seconds: float = 0.0
  cpu_seconds: float = 0.0
  peak_memory_bytes: int = 0
  log: str = ""
  confinement: Confinement = dataclasses.field(default_factory=Confinement)


class Job(Protocol):
  """One running stage."""

  def poll(self) -> Outcome | None:
    """Returns how it ended, or None while it runs. Never blocks."""
    ...

  def kill(self) -> None:
    """Kills everything that it started; returns when that is done."""
    ...


class Pool(Protocol):
  """What the Engineer needs: `WorkerPool`, or `InlinePool` for tests.

  Attributes:
    cores: one entry for each stage that is meant to run at a time.
  """

  cores: tuple[int | None, ...]

  def start(
    self, stage: Stage, request: StageRequest, core: int | None = None
  ) -> Job: ...

  def wait(self, timeout: float) -> None: ...

  def close(self) -> None: ...


class InlinePool:
  """Runs stages in this process: no isolation, no deadline, no cost.

  For tests and for measuring what the framework itself costs.
  """

  def __init__(self, slots: int = 1):
    self.cores: tuple[int | None, ...] = (None,) * slots

  def start(
    self, stage: Stage, request: StageRequest, core: int | None = None
  ) -> _Done:
    del core  # this process stays where it is
    os.makedirs(request.scratch, exist_ok=True)
    started, cpu = time.monotonic(), time.process_time()
    reply = worker_lib.run_stage(stage.entry, request, Limits())
    return _Done(
      Outcome(
        status=reply.status,
        reply=reply,
        error=reply.error,
        wall_seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu,
      )
    )

  def wait(self, timeout: float) -> None:
    time.sleep(timeout)

  def close(self) -> None:
    """Nothing outlives `start`."""


@dataclasses.dataclass(frozen=True)
class _Done:
  outcome: Outcome

  def poll(self) -> Outcome | None:
    return self.outcome

  def kill(self) -> None:
    """It has ended."""
