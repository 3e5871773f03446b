"""What one worker process does: waits for one request, runs it, ends."""

from __future__ import annotations

import dataclasses
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

from asi_evolve_jax.evaluation import jail, wire
from asi_evolve_jax.evaluation import limits as limits_lib
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest

# How XLA and C++ say that an allocation failed.
OUT_OF_MEMORY = (
  "RESOURCE_EXHAUSTED",
  "bad_alloc",
  "Cannot allocate memory",
  "Unable to allocate",
  "Out of memory",
  "Can't allocate",
)


def load_entry(entry: str) -> Callable[[StageRequest], StageReply]:
  """Imports "package.module:function"."""
  module, _, name = entry.partition(":")
  return getattr(importlib.import_module(module), name)


def memory_message(limits: limits_lib.Limits) -> str:
  """Returns what a person is told who ran into the memory limit."""
  return (
    f"Out of memory: a worker may use {limits.memory_bytes / 2**30:.2g} GiB "
    "(config.workers.memory_gb)."
  )


def run_stage(
  entry: str,
  request: StageRequest,
  limits: limits_lib.Limits,
  confine: Callable[[], None] | None = None,
) -> StageReply:
  """Runs a stage; whatever it raises becomes a failed reply.

  Args:
    entry: "package.module:function".
    request: what it gets.
    limits: for messages.
    confine: called between the import of the stage and its run.
  """
  try:
    run = load_entry(entry)
    if confine is not None:
      confine()
    reply = run(request)
    if not isinstance(reply, StageReply):
      return StageReply(
        status="failed",
        error=f"{entry} returned {type(reply).__name__}, not a StageReply.",
      )
    return reply
  except jail.JailError as e:
    return StageReply(status="failed", error=str(e))
  except BaseException as e:
    text = traceback.format_exc()
    # Not through sys.stderr: a candidate may have replaced it.
    os.write(2, text.encode(errors="replace"))
    error = limits_lib.last_useful_lines(text)
    if isinstance(e, MemoryError) or any(m in str(e) for m in OUT_OF_MEMORY):
      error = f"{memory_message(limits)}\n{error}"
    return StageReply(status="failed", error=error)


def main(data: int, output: int, limits: limits_lib.Limits) -> None:
  """Serves one request on descriptor `data` and ends the process.

  Args:
    data: socket that the request comes from and the reply goes to.
    output: pipe that takes stdout and stderr.
    limits: applied before any code of the stage runs.
  """
  null = os.open(os.devnull, os.O_RDONLY)
  for fd, to in ((null, 0), (output, 1), (output, 2)):
    os.dup2(fd, to)
  for fd in (null, output):
    os.close(fd)
  connection = socket.socket(fileno=data)
  received = _receive(connection)
  if received is None:  # never needed
    os._exit(0)
  request, extra = wire.decode_request(received)
  os.chdir(request.scratch)
  os.environ["HOME"] = os.environ["TMPDIR"] = request.scratch
  # The old ones were made for other files.
  sys.stdout = open(1, "w", 1, errors="replace", closefd=False)  # noqa: SIM115
  sys.stderr = open(2, "w", 1, errors="replace", closefd=False)  # noqa: SIM115
  limits_lib.apply_limits(limits, extra["core"])
  told = False

  def confine() -> None:
    nonlocal told
    held = _confine(request, extra, limits, connection.fileno())
    # Before the stage's first line, so nobody else can have said it.
    connection.sendall(wire.frame(dataclasses.asdict(held)))
    told = True

  reply = run_stage(extra["entry"], request, limits, confine)
  if not told:
    nothing = dataclasses.asdict(jail.Confinement())
    connection.sendall(wire.frame(nothing))
  try:
    answer = wire.encode_reply(reply)
  except (TypeError, ValueError, AttributeError, RecursionError) as e:
    answer = wire.encode_reply(
      StageReply(
        status="failed", error=f"{extra['entry']}: cannot send its reply: {e}"
      )
    )
  connection.sendall(answer)
  # Single use: nothing that the stage left behind may run now.
  os._exit(0)


def _confine(
  request: StageRequest,
  extra: dict[str, Any],
  limits: limits_lib.Limits,
  connection: int,
) -> jail.Confinement:
  sandbox = jail.Sandbox(extra["sandbox"], tuple(extra["layers"]))
  if extra["trusted"]:
    own = [p for p in (request.scratch, request.cache) if p]
    cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    folders = list(request.folders.values())
    return jail.confine(sandbox, folders, own, cpu=cpu)
  return jail.enter(
    sandbox,
    request.scratch,
    limits,
    deadline_s=request.deadline_s,
    pinned=extra["core"] is not None,
    keep=connection,
    author=request.author,
  )


def _receive(connection: socket.socket) -> bytes | None:
  """Reads one frame; None if the other end closed first."""
  data = bytearray()
  size = wire.PREFIX_BYTES
  while len(data) < size:
    part = connection.recv(min(size - len(data), 1 << 20))
    if not part:
      return None
    data += part
    if len(data) == size == wire.PREFIX_BYTES:
      size = wire.frame_bytes(bytes(data))
  return bytes(data)
