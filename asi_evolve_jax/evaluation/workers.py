"""Runs stages, each in a process of its own, without importing what they do.

    pool = WorkerPool(preload, Limits(), warm=1)
    job = pool.start(stage, request, core)
    while (outcome := job.poll()) is None:
      pool.wait(0.2)

A worker is forked ahead of need by a fork server that has the stages' modules
imported (forkserver.py), serves one request (worker.py) and ends. Its deadline
and its death with the Engineer are kept by the fork server, so they hold while
the Engineer is busy, stopped or dead.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asi_evolve_jax.evaluation import forkserver, wire
from asi_evolve_jax.evaluation import limits as limits_lib
from asi_evolve_jax.evaluation import worker as worker_lib
from asi_evolve_jax.evaluation.jail import Confinement, Sandbox
from asi_evolve_jax.evaluation.limits import Limits
from asi_evolve_jax.evaluation.pool import InlinePool, Job, Outcome, Pool
from asi_evolve_jax.evaluation.stages import Stage, StageReply, StageRequest

FAILED = "failed"
TIMEOUT = "timeout"
LOST = "lost"

# Signals that a process brings on itself; any other came from the machine.
_OWN_SIGNALS = frozenset(
  {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGXCPU,
    signal.SIGXFSZ,
  }
)


__all__ = ["InlinePool", "Job", "Outcome", "Pool", "WorkerError", "WorkerPool"]


class WorkerError(RuntimeError):
  """Workers cannot be started at all."""


class WorkerPool:
  """Pre-warmed single-use worker processes.

  Args:
    preload: modules that the fork server imports; no import may start a thread
      or a backend.
    limits: of every worker.
    cores: the processor of each slot, None where it is not pinned: as many
      stages as there are slots are meant to run at a time. XLA keeps to one
      thread if all are pinned.
    warm: idle workers kept ready.
    sandbox: how they are confined.
    environ: environment to take the allowed part of; this process's by default.
  """

  def __init__(
    self,
    preload: Iterable[str] = (),
    limits: Limits | None = None,
    cores: Sequence[int | None] = (None,),
    *,
    warm: int = 1,
    sandbox: Sandbox | None = None,
    environ: Mapping[str, str] | None = None,
  ):
    self.preload = tuple(dict.fromkeys(preload))
    self.limits = limits or Limits()
    self.cores = tuple(cores)
    self.warm = warm
    self.sandbox = sandbox or Sandbox()
    self.environment = limits_lib.worker_environment(
      environ, single_thread=None not in self.cores
    )
    self._numbers = 0
    self._spoke = 0.0
    self._idle: collections.deque[_ProcessJob] = collections.deque()
    self._running: dict[int, _ProcessJob] = {}
    self._received = b""
    self._server: subprocess.Popen[bytes] | None = None
    self._launch()

  def start(
    self, stage: Stage, request: StageRequest, core: int | None = None
  ) -> _ProcessJob:
    """Starts a stage in a worker process.

    Args:
      stage: what to run.
      request: `scratch` is created; the output goes to `<stage>.log` in it.
      core: processor to pin the worker to; None: any.

    Raises:
      WorkerError: if the modules to preload cannot be imported.
    """
    if self._server is None:
      self._launch()
    job = self._idle.popleft() if self._idle else self._fork()
    os.makedirs(request.scratch, exist_ok=True)
    self._running[job.number] = job
    self._send(
      {
        "op": "start",
        "job": job.number,
        "deadline_s": request.deadline_s,
        "log": os.path.join(request.scratch, f"{stage.name}.log"),
      }
    )
    job.begin(stage, request, core)
    while len(self._idle) < self.warm:
      self._idle.append(self._fork())
    return job

  def wait(self, timeout: float) -> None:
    """Returns when a job may have something to say, at the latest after
    `timeout` seconds."""
    if self._server is None:
      time.sleep(timeout)
      return
    reads, writes = [self._control], []
    for job in self._running.values():
      if job.socket is not None:
        reads.append(job.socket)
        if job.outgoing:
          writes.append(job.socket)
    select.select(reads, writes, [], timeout)

  def close(self) -> None:
    """Kills all workers and the fork server."""
    if self._server is not None:
      self._drop("the Engineer stopped")

  def pump(self) -> None:
    """Takes in what the fork server has said.

    Raises:
      WorkerError: if the modules to preload cannot be imported.
    """
    if self._server is None:
      return
    if time.monotonic() - self._spoke > self.limits.silence_s / 8:
      self._send({"op": "alive"})
    while self._server is not None:
      try:
        data = self._control.recv(1 << 16, socket.MSG_DONTWAIT)
      except BlockingIOError:
        return
      except OSError:
        data = b""
      if not data:
        self._drop("the fork server ended")
        return
      *lines, self._received = (self._received + data).split(b"\n")
      for line in lines:
        self._on_message(json.loads(line))

  def _on_message(self, message: dict[str, Any]) -> None:
    if message["event"] == "broken":
      self._drop("the fork server could not start")
      raise WorkerError(
        f"a worker cannot import {', '.join(self.preload)}:\n{message['error']}"
      )
    if message["event"] == "ended":
      job = self._running.pop(message["job"], None)
      if job is not None:
        job.on_end(message)
      else:
        self._idle = collections.deque(
          j for j in self._idle if j.number != message["job"]
        )

  def _launch(self) -> None:
    self._control, theirs = socket.socketpair()
    self._received = b""
    config = {
      "preload": self.preload,
      "limits": dataclasses.asdict(self.limits),
    }
    with theirs:
      self._server = subprocess.Popen(
        forkserver.command(theirs.fileno(), config),
        pass_fds=[theirs.fileno()],
        env=self.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # A terminal's Ctrl-C is for the Engineer to act on.
        start_new_session=True,
      )
    while len(self._idle) < self.warm:
      self._idle.append(self._fork())

  def _fork(self) -> _ProcessJob:
    self._numbers += 1
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
      self._send({"op": "fork", "job": self._numbers}, [theirs.fileno()])
    return _ProcessJob(self, self._numbers, ours)

  def _send(self, message: dict[str, Any], fds: Iterable[int] = ()) -> None:
    self._spoke = time.monotonic()
    data = json.dumps(message).encode() + b"\n"
    # A dead server is noticed, and its jobs given up, by `pump`.
    with contextlib.suppress(OSError):
      socket.send_fds(self._control, [data], list(fds))

  def _drop(self, why: str) -> None:
    """Ends the fork server and gives up its jobs."""
    server, self._server = self._server, None
    self._control.close()
    for job in self._idle:
      job.close()
    self._idle.clear()
    if server is not None:
      try:
        server.wait(10.0)
      except subprocess.TimeoutExpired:
        # Workers die with it; so do, by group, those that it leaves behind.
        server.kill()
        server.wait()
    running, self._running = list(self._running.values()), {}
    for job in running:
      job.on_end({"code": -signal.SIGKILL, "reason": why})

  def _kill(self, job: _ProcessJob) -> None:
    self._send({"op": "kill", "job": job.number})
    until = time.monotonic() + 10.0
    while job.number in self._running and time.monotonic() < until:
      if self._server is not None:
        select.select([self._control], [], [], 0.1)
      self.pump()


class _ProcessJob:
  """A worker process: idle until `begin`, then the Job of one stage."""

  def __init__(self, pool: WorkerPool, number: int, connection: socket.socket):
    self.pool = pool
    self.number = number
    self.socket: socket.socket | None = connection
    self.outgoing = memoryview(b"")
    self._incoming = bytearray()
    self._confinement: Confinement | None = None  # the first frame
    self._size = 0  # of the frame that is coming, once known
    self._fault = ""  # what is wrong with the reply
    self._ended: dict[str, Any] | None = None
    self._outcome: Outcome | None = None

  def begin(
    self, stage: Stage, request: StageRequest, core: int | None
  ) -> None:
    self._stage = stage
    self._deadline_s = request.deadline_s
    self._started = time.monotonic()
    sandbox = self.pool.sandbox
    extra = {
      "entry": stage.entry,
      "core": core,
      "trusted": stage.trusted,
      "sandbox": sandbox.mode,
      "layers": sandbox.layers,
    }
    self.outgoing = memoryview(wire.encode_request(request, extra))
    self._exchange()

  def poll(self) -> Outcome | None:
    if self._outcome is None:
      self.pool.pump()
      self._exchange()
      if self._ended is not None:
        self._wall = time.monotonic() - self._started
        self._outcome = self._conclude(self._ended)
        self.close()
    return self._outcome

  def kill(self) -> None:
    if self._ended is None:
      self.pool._kill(self)
    self.close()

  def close(self) -> None:
    if self.socket is not None:
      self.socket.close()
      self.socket = None

  def on_end(self, message: dict[str, Any]) -> None:
    self._ended = message

  def _exchange(self) -> None:
    """Sends and receives as much as goes without waiting."""
    if self.socket is None:
      return
    try:
      while self.outgoing:
        self.outgoing = self.outgoing[self.socket.send(self.outgoing) :]
    except BlockingIOError:
      pass
    except OSError:  # it died; its end will be told
      self.outgoing = memoryview(b"")
    try:
      while not self._fault:
        data = self.socket.recv(1 << 20)
        if not data:
          self.close()
          return
        self._incoming += data
        self._check()
    except BlockingIOError:
      return
    except OSError:
      self.close()

  def _check(self) -> None:
    """Stops a worker whose reply is wrong or too large already."""
    self._measure()
    if self._confinement is None and len(self._incoming) >= self._size > 0:
      self._take_confinement()
      self._measure()
    if self._confinement is None and not self._fault:
      return
    limit = self.pool.limits.reply_bytes
    if self._size > limit or len(self._incoming) > limit:
      self._fault = f"the reply is larger than {limit} bytes"
    elif self._size and len(self._incoming) > self._size:
      self._fault = "the reply goes on after its end"
    if self._fault:
      self._incoming.clear()
    if self._fault or len(self._incoming) == self._size > 0:
      # It has nothing more to say, whatever it still wants to do.
      self.pool._send({"op": "kill", "job": self.number})

  def _take_confinement(self) -> None:
    """Takes the frame that is sent before any code of the stage runs."""
    data = bytes(self._incoming[: self._size])
    del self._incoming[: self._size]
    self._size = 0
    header, _ = wire.unframe(data)
    layers = tuple(header["layers"])
    self._confinement = Confinement(layers, header["missing"])

  def _measure(self) -> None:
    if not self._size and len(self._incoming) >= wire.PREFIX_BYTES:
      try:
        self._size = wire.frame_bytes(
          bytes(self._incoming[: wire.PREFIX_BYTES])
        )
      except wire.WireError as e:
        self._fault = str(e)

  def _conclude(self, end: dict[str, Any]) -> Outcome:
    log = end.get("log", "")
    reason, code = end["reason"], end["code"]
    reply = StageReply()
    if not self._fault and self._size and len(self._incoming) == self._size:
      try:
        reply = wire.decode_reply(bytes(self._incoming))
        # A whole reply counts, whatever became of the process after it.
        return self._outcome_of(end, reply.status, reply.error, reply)
      except wire.WireError as e:
        self._fault = str(e)
    name = self._stage.name
    tail = limits_lib.last_useful_lines(log)
    if self._fault:
      status, error = FAILED, f"Stage {name}: {self._fault}."
    elif reason == "deadline":
      status = TIMEOUT
      error = f"Stage {name} was killed after its {self._deadline_s:.3g} s."
    elif reason:
      status, error = LOST, f"Stage {name} was killed: {reason}."
    elif code < 0 and -code not in _OWN_SIGNALS:
      status = LOST
      error = (
        f"Stage {name} was killed by {_signal(-code)} from outside; "
        "the machine may be out of memory."
      )
    elif code < 0:
      status, error = FAILED, f"Stage {name} crashed with {_signal(-code)}."
    else:
      status = FAILED
      error = f"Stage {name} ended with exit code {code} and no reply."
    if status == FAILED and any(m in tail for m in worker_lib.OUT_OF_MEMORY):
      error += f" {worker_lib.memory_message(self.pool.limits)}"
    return self._outcome_of(end, status, f"{error}\n{tail}".strip(), reply)

  def _outcome_of(
    self, end: dict[str, Any], status: str, error: str, reply: StageReply
  ) -> Outcome:
    return Outcome(
      status=status,
      reply=reply,
      error=error,
      wall_seconds=self._wall,
      cpu_seconds=end.get("cpu_seconds", 0.0),
      peak_memory_bytes=end.get("peak_memory_bytes", 0),
      log=end.get("log", ""),
      confinement=self._confinement or Confinement(),
    )


def _signal(number: int) -> str:
  try:
    return signal.Signals(number).name
  except ValueError:
    return f"signal {number}"
