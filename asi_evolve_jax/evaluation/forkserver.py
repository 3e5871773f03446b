"""The process that has everything imported and forks workers.

It holds JAX preloaded but no backend, no thread and no secret, so a fork of it
is a worker within milliseconds. It is the one parent of all workers, and their
subreaper: whatever a worker starts, in whatever session, becomes a child of
this process when its own parent dies, and is killed. When the Engineer dies,
the control socket closes and everything here dies with it.

multiprocessing's own forkserver does not fit: it reaps its children without
their resource usage, hands each of them the pipe that keeps it alive, swallows
failed imports, and inherits the environment.

Control messages are JSON lines. To here: `fork` (with one descriptor), `start`,
`kill`, `alive`. From here: `ready`, `broken`, `ended`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from typing import Any, BinaryIO

from asi_evolve_jax.evaluation import limits as limits_lib
from asi_evolve_jax.evaluation import worker

TAIL_BYTES = 8 << 10  # of a worker's output, sent with its end
_BOOT = (
  "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
  "from asi_evolve_jax.evaluation.forkserver import main; "
  "main(int(sys.argv[2]), json.loads(sys.argv[3]))"
)


def command(control: int, config: dict[str, Any]) -> list[str]:
  """Returns the command line of a fork server.

  Args:
    control: descriptor of its end of the control socket.
    config: {"preload": names of modules, "limits": fields of Limits}.
  """
  # Relative entries would mean another folder there.
  path = [os.path.abspath(p) for p in sys.path]
  return [
    *(sys.executable, "-c", _BOOT),
    *(json.dumps(path), str(control), json.dumps(config)),
  ]


def main(control: int, config: dict[str, Any]) -> None:
  """Serves until the other end of `control` closes."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  limits_lib.become_subreaper()
  limits = limits_lib.Limits(**config["limits"])
  limits = dataclasses.replace(
    limits, processes=limits.processes + limits_lib.threads_of_user()
  )
  server = _Server(socket.socket(fileno=control), limits)
  try:
    for name in config["preload"]:
      importlib.import_module(name)
  except BaseException:
    server.send({"event": "broken", "error": traceback.format_exc()})
    return
  # Keeps the collector of each worker from copying these pages.
  gc.collect()
  gc.freeze()
  server.send({"event": "ready"})
  server.serve()


@dataclasses.dataclass(eq=False)
class _Child:
  job: int
  pid: int
  output: int  # our end of its stdout and stderr
  log: BinaryIO | None = None
  logged: int = 0
  tail: bytearray = dataclasses.field(default_factory=bytearray)
  deadline: float | None = None  # monotonic; None: waits for work
  reason: str = ""  # why we killed it
  lost_s: float = 0.0  # CPU time of its descendants then
  lost_bytes: int = 0  # largest resident set of one of them


class _Server:
  def __init__(self, control: socket.socket, limits: limits_lib.Limits):
    self.control = control
    self.limits = limits
    self.children: dict[int, _Child] = {}  # by pid
    self.received = b""
    self.descriptors: collections.deque[int] = collections.deque()
    self.heard = time.monotonic()
    self.open = True
    self.wake, wake = os.pipe()
    for fd in (self.wake, wake):
      os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    self.wake_write = wake
    self.selector = selectors.DefaultSelector()
    self.selector.register(control, selectors.EVENT_READ, self.on_control)
    self.selector.register(self.wake, selectors.EVENT_READ, self.on_wake)

  def send(self, message: dict[str, Any]) -> None:
    try:
      self.control.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
      self.open = False

  def serve(self) -> None:
    while self.open:
      for key, _ in self.selector.select(self.patience()):
        if isinstance(key.data, _Child):
          self.drain(key.data)
        else:
          key.data()
      self.reap()
      self.expire()
    for child in self.children.values():
      limits_lib.kill_group(child.pid)
    while self.children:
      self.reap(block=True)
    self.sweep()

  def patience(self) -> float | None:
    """Returns the seconds until something has to be killed."""
    at = [c.deadline for c in self.children.values() if c.deadline is not None]
    if at and self.limits.silence_s:
      at.append(self.heard + self.limits.silence_s)
    return max(0.0, min(at) - time.monotonic()) if at else None

  def expire(self) -> None:
    now = time.monotonic()
    silence = self.limits.silence_s
    silent = bool(silence) and now - self.heard > silence
    for child in self.children.values():
      if child.deadline is None or child.reason:
        continue
      if silent:
        self.kill(child, "silence")
      elif now >= child.deadline:
        self.kill(child, "deadline")

  def kill(self, child: _Child, reason: str) -> None:
    child.reason = reason
    # A jail that is killed does not add up what its processes used. Stopped, it
    # waits for none of them while they are looked at.
    with contextlib.suppress(ProcessLookupError):
      os.kill(child.pid, signal.SIGSTOP)
    child.lost_s, child.lost_bytes = limits_lib.usage_below(child.pid)
    child.deadline = None
    limits_lib.kill_group(child.pid)

  def on_wake(self) -> None:
    with contextlib.suppress(BlockingIOError):
      os.read(self.wake, 4096)

  def on_control(self) -> None:
    try:
      data, fds, _, _ = socket.recv_fds(self.control, 1 << 16, 64)
    except OSError:
      data, fds = b"", []
    self.descriptors.extend(fds)
    if not data:
      self.open = False
      return
    self.heard = time.monotonic()
    *lines, self.received = (self.received + data).split(b"\n")
    for line in lines:
      message = json.loads(line)
      if message["op"] == "fork":
        self.fork(message["job"], self.descriptors.popleft())
        continue
      for child in self.children.values():
        if child.job != message.get("job"):
          continue
        if message["op"] == "start":
          self.start(child, message)
        elif message["op"] == "kill":
          self.kill(child, "killed")

  def fork(self, job: int, data: int) -> None:
    output, output_write = os.pipe()
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
      try:
        limits_lib.isolate()
        if os.getppid() != server:  # it died before the line above
          os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
          signal.signal(number, signal.SIG_DFL)
        self.forget(output)
        worker.main(data, output_write, self.limits)
      except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
      finally:
        os._exit(1)
    os.close(output_write)
    os.close(data)
    os.set_blocking(output, False)
    child = _Child(job, pid, output)
    self.children[pid] = child
    self.selector.register(output, selectors.EVENT_READ, child)

  def forget(self, output: int) -> None:
    """Closes, in a worker, what belongs to the server."""
    self.selector.close()
    self.control.close()
    for fd in (self.wake, self.wake_write, output):
      os.close(fd)
    for child in self.children.values():
      os.close(child.output)
      if child.log is not None:
        child.log.close()

  def start(self, child: _Child, message: dict[str, Any]) -> None:
    child.deadline = time.monotonic() + message["deadline_s"]
    with contextlib.suppress(OSError):
      child.log = open(message["log"], "ab", buffering=0)  # noqa: SIM115

  def drain(self, child: _Child) -> None:
    """Takes what a worker has printed; keeps the beginning and the end."""
    while True:
      try:
        data = os.read(child.output, 1 << 16)
      except BlockingIOError:
        return
      if not data:
        self.selector.unregister(child.output)
        return
      child.tail += data
      if len(child.tail) > 4 * TAIL_BYTES:
        del child.tail[:-TAIL_BYTES]
      if child.log is not None and child.logged < self.limits.log_bytes:
        with contextlib.suppress(OSError):
          child.log.write(data[: self.limits.log_bytes - child.logged])
      child.logged += len(data)

  def reap(self, block: bool = False) -> None:
    flags = os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG)
    while True:
      try:
        # Looks without reaping: while it is a zombie its id, and so the id of
        # the group that is to be killed, cannot belong to anybody else.
        found = os.waitid(os.P_ALL, 0, flags)
      except ChildProcessError:
        return
      if found is None:
        return
      flags |= os.WNOHANG
      child = self.children.get(found.si_pid)
      if child is not None:
        limits_lib.kill_group(child.pid)
      _, status, usage = os.wait4(found.si_pid, 0)
      if child is not None:
        del self.children[child.pid]
        self.sweep()
        self.finish(child, status, usage)

  def sweep(self) -> None:
    """Kills and reaps descendants of workers that have lost their parent.

    One of a worker that still runs is killed too: nothing that a stage may do
    needs a process that has left it.
    """
    for _ in range(100):
      strays = set(limits_lib.children_of(os.getpid())) - set(self.children)
      if not strays:
        return
      for pid in strays:
        limits_lib.kill_group(pid)
      for pid in strays:
        with contextlib.suppress(ChildProcessError):
          os.waitpid(pid, 0)

  def finish(self, child: _Child, status: int, usage: Any) -> None:
    if child.output in self.selector.get_map():
      self.drain(child)
    if child.output in self.selector.get_map():
      self.selector.unregister(child.output)
    os.close(child.output)
    tail = bytes(child.tail[-TAIL_BYTES:])
    if child.log is not None:
      left_out = child.logged - self.limits.log_bytes
      if left_out > 0:
        with contextlib.suppress(OSError):
          child.log.write(b"\n[%d bytes cut; the end:]\n%s" % (left_out, tail))
      child.log.close()
    self.send(
      {
        "event": "ended",
        "job": child.job,
        "code": os.waitstatus_to_exitcode(status),
        "reason": child.reason,
        "cpu_seconds": usage.ru_utime + usage.ru_stime + child.lost_s,
        # Linux counts in KiB, macOS in bytes.
        "peak_memory_bytes": max(
          usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
          child.lost_bytes,
        ),
        "log": tail.decode(errors="replace"),
      }
    )
