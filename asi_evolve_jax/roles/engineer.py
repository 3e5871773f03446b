"""The Engineer: measures what Tasks ask for, in worker processes.

It knows a track only as a list of stages, and a stage only by name: it never
imports JAX. Everything that it must remember is in the records; killed at any
moment, another one (or itself, started again) takes its Tasks over.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

from asi_evolve_jax.evaluation import machine
from asi_evolve_jax.evaluation.budget import Budget
from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.evaluation.workers import Outcome, Pool
from asi_evolve_jax.records import (
  Cursor,
  Lease,
  Records,
  StoreError,
  View,
)
from asi_evolve_jax.records.schema import (
  FAILED,
  LOST,
  OK,
  REPEAT,
  UNSEEN,
  VERIFY,
  Record,
  Result,
  Task,
)
from asi_evolve_jax.roles import early_stopping, reuse
from asi_evolve_jax.roles.attempt import (
  Attempt,
  measured_as,
  metrics_fault,
)
from asi_evolve_jax.roles.pools import make_pool
from asi_evolve_jax.roles.promotion import Promotions
from asi_evolve_jax.roles.scratch import Scratch
from asi_evolve_jax.settings import RungSettings, RunSettings
from asi_evolve_jax.tracks.base import Track, rung_work

log = logging.getLogger(__name__)

# What it acts on; lessons are not for it.
_KINDS = (
  "run",
  "program",
  "proposal",
  "task",
  "result",
  "artifact",
  "milestone",
  "call",
  "steer",
)


class Engineer:
  """Leases Tasks, runs the track's stages, writes Results and next Tasks.

  Args:
    records: of the run.
    settings: of the run.
    track: its stages are run; nothing of it is imported here.
    run_dir: `scratch/` and `cache/` are made in it.
    worker_name: in Results; by default the name that leases have.
    pool: where stages run; by default processes on this machine.
  """

  name = "engineer"

  def __init__(
    self,
    records: Records,
    settings: RunSettings,
    track: Track,
    *,
    run_dir: str | Path,
    worker_name: str = "",
    pool: Pool | None = None,
  ):
    self._records = records
    self._settings = settings
    self._track = track
    self._run_dir = Path(run_dir).absolute()
    self._worker_name = worker_name or records.writer
    self._pool = pool or make_pool(settings, track)
    self.view = View(track.metric.name, track.metric.direction)
    self._cursor: Cursor | None = None
    rungs = [*settings.ladder, settings.verify.rung]
    self._rungs = {rung.name: rung for rung in rungs if rung is not None}
    self._work = rung_work(track, settings)
    self._promotions = Promotions(settings, track, self.view)
    self._attempts: dict[str, Attempt] = {}  # by Task id
    self._output: list[Record] = []
    self._scratch = Scratch(
      self._run_dir / "scratch", settings.workers.keep_scratch_s
    )
    self._own: set[str] = set()  # keys written here and not yet read back
    self._ended: list[tuple[Attempt, Result]] = []
    self._renewed = time.monotonic()
    self._machine = machine.kind(0 if None in self._pool.cores else 1)
    self._warned = False

  @property
  def finished(self) -> bool:
    """Whether the run has nothing more to measure."""
    return "finished" in self.view.milestones and not any(
      self._wanted(task) for task in self.view.pending()
    )

  def step(self) -> bool:
    """Takes in what has ended, writes it, and starts what can be started.

    Returns:
      Whether it did anything.
    """
    # First: after a long pause others may have taken over what runs here.
    self._renew()
    did = self._follow()
    busy = {attempt.scratch for attempt in self._attempts.values()}
    self._scratch.sweep_now_and_then(self.view, busy)
    did |= self._advance()
    if self._start_waiting() | self._take():
      self._advance()
      did = True
    return did

  def wait(self, timeout: float) -> None:
    """Returns when a worker has something to say, or after `timeout` [s]."""
    self._pool.wait(timeout)

  def close(self) -> None:
    """Kills what runs and hands its Tasks back; checkpoints stay."""
    self._pool.close()
    for attempt in self._attempts.values():
      attempt.lease.release()
      if attempt.measuring is not None:
        attempt.measuring.release()
    self._attempts.clear()

  # What others wrote.

  def _follow(self) -> bool:
    records, self._cursor = self._records.follow(self._cursor, _KINDS)
    news = [r for r in records if r.key not in self._own]
    self._own.difference_update(r.key for r in records)
    if not news:
      return False
    self.view.update(news)
    tasks: list[Record] = []
    for record in news:
      if isinstance(record, Result):
        tasks += self._promotions.after(record)
    # A person's word, or the first cost of a rung, may let others climb.
    tasks += self._promotions.released()
    if tasks:
      self._put(tasks)
    for attempt in list(self._attempts.values()):
      if attempt.task.id in self.view.results:
        self._drop(attempt, "another has measured it")
      elif not self._wanted(attempt.task):
        attempt.lease.release()
        self._drop(attempt, "the search has ended, or it is vetoed")
    return True

  def _wanted(self, task: Task) -> bool:
    if task.program in self.view.vetoed:
      return False
    return task.purpose in UNSEEN or (
      "search-ended" not in self.view.milestones
    )

  # What runs here.

  def _advance(self) -> bool:
    """Polls all jobs, goes on with those that ended, commits once."""
    did = False
    for attempt in list(self._attempts.values()):
      while attempt.job is not None:
        outcome = attempt.job.poll()
        if outcome is None:
          break
        did = True
        self._on_outcome(attempt, outcome)
    self._commit()
    return did

  def _on_outcome(self, attempt: Attempt, outcome: Outcome) -> None:
    stage = attempt.stages[attempt.index]
    self._warn_of(stage, outcome)
    attempt.add(outcome)
    reply = outcome.reply
    if outcome.status == LOST and not attempt.lease.renew():
      self._drop(attempt, "its lease was taken over")
      return
    if outcome.status != OK:
      self._finish(
        attempt, outcome.status, gate=reply.gate, error=outcome.error
      )
      return
    attempt.payload = reply.payload
    if stage.makes_artifact and attempt.shape_key:
      fault = reuse.artifact_fault(attempt)
      if fault:
        self._finish(attempt, FAILED, error=f"Stage {stage.name}: {fault}.")
        return
      track = self._settings.track
      artifact = reuse.keep_artifact(attempt, self._records, track)
      if artifact.hash not in self.view.artifact_users:
        self._output.append(artifact)
    attempt.index += 1
    if attempt.index < len(attempt.stages):
      self._proceed(attempt)
      return
    verify = attempt.measured_as == VERIFY
    metric = self._track.final_metric if verify else self._track.metric
    fault = metrics_fault(reply.metrics, len(attempt.task.seeds), metric.name)
    if fault:
      self._finish(attempt, FAILED, error=f"Stage {stage.name}: {fault}.")
    else:
      curves = self._keep_curves(attempt)
      self._finish(attempt, OK, metrics=reply.metrics, curves=curves)

  def _warn_of(self, stage: Stage, outcome: Outcome) -> None:
    """Says once that a Program ran in a jail that does not hold."""
    held = outcome.confinement
    if not stage.trusted and held.missing and not held.holds:
      if not self._warned:
        log.warning(
          "no jail on this machine holds a hostile Program (%s); those of the "
          "symbolic proposer run all the same, see docs/security.md",
          held.reason,
        )
      self._warned = True

  def _proceed(self, attempt: Attempt) -> None:
    """Starts the next stage, unless its outcome is known already."""
    if not attempt.artifact and attempt.shape_key:
      reuse.take_artifact(attempt, self._records, self.view)
    if attempt.artifact and not self._may_measure(attempt):
      return
    stage = attempt.stages[attempt.index]
    request = attempt.request(
      stage,
      self._track.stage_options(attempt.rung)
      | early_stopping.options(
        self.view, self._records, attempt.rung, attempt.task
      ),
      self._track.folders() if stage.reads else {},
      str(self._run_dir / "cache"),
    )
    assert attempt.slot is not None
    core = self._pool.cores[attempt.slot]
    attempt.job = self._pool.start(stage, request, core)

  def _may_measure(self, attempt: Attempt) -> bool:
    """Whether to measure the Artifact: nobody has, and nobody else does."""
    if attempt.task.purpose == REPEAT or attempt.measuring is not None:
      return True
    if self._copy(attempt):
      return False
    ttl_s = self._settings.workers.lease_ttl_s
    attempt.measuring = self._records.acquire(attempt.measurement, ttl_s)
    if attempt.measuring is None:
      attempt.slot = None  # for others, while it waits for its equal
      return False
    # Whoever held it may have written the Result just before.
    self._follow()
    gone = self._attempts.get(attempt.task.id) is not attempt
    return not gone and not self._copy(attempt)

  def _copy(self, attempt: Attempt) -> bool:
    """Ends the attempt with the Result of an equal Artifact, if there is."""
    known = reuse.measured(attempt, self.view)
    if known is None:
      return False
    attempt.report = {**known.report, **attempt.report}
    self._finish(
      attempt,
      OK,
      metrics=known.metrics,
      curves=known.curves,
      copied_from=known.copied_from or known.task,
      machine=known.machine,
    )
    return True

  def _keep_curves(self, attempt: Attempt) -> str:
    """Stores the curves as arrays `<name returned>/<curve>`."""
    if not attempt.curves:
      return ""
    for name, array in attempt.curves.items():
      self._records.put_array(f"{attempt.task.id}/{name}", array)
    attempt.report["curves"] = sorted(attempt.curves)
    return attempt.task.id

  def _finish(self, attempt: Attempt, status: str, **fields: object) -> None:
    """Makes the Result and the Tasks that follow from it."""
    slot = attempt.slot if attempt.slot is not None else "-"
    fields.setdefault("machine", self._machine)
    result = attempt.result(status, f"{self._worker_name}/{slot}", **fields)
    self._output.append(result)
    self._output += self._promotions.after(result)
    task = attempt.task
    if status == LOST and task.attempt + 1 < self._settings.workers.attempts:
      self._output.append(
        dataclasses.replace(task, attempt=task.attempt + 1, created_at=0.0)
      )
    if status != OK:
      log.info("%s of %s: %s", task.rung, task.program[:12], status)
    del self._attempts[task.id]
    self._ended.append((attempt, result))

  def _commit(self) -> None:
    """Writes all that this step has to say, in one commit."""
    if not self._output:
      return
    output, self._output = self._output, []
    ended, self._ended = self._ended, []
    self._put(output)
    for attempt, result in ended:
      # The Task's own lease stays: it keeps those away who lag behind.
      if attempt.measuring is not None:
        attempt.measuring.release()
      if not self._comes_again(attempt.task, result):
        self._scratch.finished(attempt.task, result)

  def _put(self, records: list[Record]) -> None:
    flags = self._records.put(*records)
    # One that existed is not ours to believe: `follow` brings what was first.
    new = [r for r, is_new in zip(records, flags, strict=True) if is_new]
    self.view.update(new)
    self._own.update(r.key for r in new)

  def _comes_again(self, task: Task, result: Result) -> bool:
    again = dataclasses.replace(task, attempt=task.attempt + 1)
    return result.status == LOST and again.id in self.view.tasks

  # What is to run here.

  def _free_slots(self) -> list[int]:
    used = {a.slot for a in self._attempts.values()}
    return [i for i in range(len(self._pool.cores)) if i not in used]

  def _start_waiting(self) -> bool:
    """Goes on with attempts whose equal Artifact is measured no longer."""
    did = False
    for attempt in list(self._attempts.values()):
      if attempt.slot is not None:
        continue
      if self._copy(attempt):
        did = True
        continue
      free = self._free_slots()
      if free:
        attempt.slot = free[0]
        self._proceed(attempt)
        did |= attempt.slot is not None
    return did

  def _take(self) -> bool:
    """Leases as many Tasks as there are free slots."""
    free = self._free_slots()
    did = False
    if not free or self.view.steering.paused:
      return did
    budget = Budget(self.view, self._settings, time.time(), self._work)
    affordable = budget.affordable()
    for task in self.view.pending():
      if not free:
        break
      if task.id in self._attempts or not self._wanted(task):
        continue
      if affordable is not None and task.id not in affordable:
        continue
      rung = self._rungs.get(task.rung)
      if rung is None:
        continue  # of another config; nobody here knows how to measure it
      lease = self._records.acquire(task.id, self._settings.workers.lease_ttl_s)
      if lease is None:
        continue
      did = True
      self._begin(task, lease, rung, free[0])
      free = self._free_slots()
    return did

  def _begin(
    self, task: Task, lease: Lease, rung: RungSettings, slot: int
  ) -> None:
    program = self.view.programs.get(task.program)
    purpose = measured_as(task, self._settings)
    proposal = self.view.proposal_of.get(task.program)
    attempt = Attempt(
      task=task,
      lease=lease,
      rung=rung,
      source=program.source if program is not None else "",
      author=proposal.author if proposal is not None else "",
      shape_key=self._track.shape_key(rung, purpose),
      measured_as=purpose,
      scratch=self._scratch.of(task),
      slot=slot,
      stages=tuple(
        stage
        for stage in self._track.stages
        if not stage.purposes or purpose in stage.purposes
      ),
    )
    self._attempts[task.id] = attempt
    if program is None:
      error = f"The record program/{task.program} is missing or set aside."
      self._finish(attempt, FAILED, error=error)
    else:
      self._proceed(attempt)

  # Leases.

  def _renew(self) -> None:
    now = time.monotonic()
    if now - self._renewed < self._settings.workers.lease_ttl_s / 3:
      return
    self._renewed = now
    for attempt in list(self._attempts.values()):
      try:
        held = attempt.lease.renew()
        if attempt.measuring is not None:
          attempt.measuring.renew()
      except StoreError as e:
        # If it lasts, the lease is lost, and so is this attempt; not before.
        log.warning("a lease could not be renewed: %s", e)
        continue
      if not held:
        self._drop(attempt, "its lease was taken over")

  def _drop(self, attempt: Attempt, why: str) -> None:
    """Stops an attempt without a Result."""
    task = attempt.task
    log.info("%s of %s: dropped, %s", task.rung, task.program[:12], why)
    del self._attempts[task.id]
    if attempt.job is not None:
      attempt.job.kill()
    if attempt.measuring is not None:
      attempt.measuring.release()
