"""Stages that behave well and badly, run by worker processes in tests."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from asi_evolve_jax.evaluation import wire
from asi_evolve_jax.evaluation.stages import StageReply


def echo(request):
  print("hello from the stage")
  return StageReply(
    payload=request.payload[::-1],
    metrics=tuple({"score": float(s)} for s in request.seeds),
    report={"pid": os.getpid(), "options": request.options},
    curves={"loss": np.arange(6, dtype=np.float32).reshape(2, 3)},
    cost={"flops": 12.0},
  )


def facts(request):
  import resource

  return StageReply(
    report={
      "pid": os.getpid(),
      "parent": os.getppid(),
      "session": os.getsid(0),
      "cwd": os.getcwd(),
      "affinity": sorted(os.sched_getaffinity(0)),
      "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
      "processes": resource.getrlimit(resource.RLIMIT_NPROC)[1],
      "stdin": os.readlink("/proc/self/fd/0"),
      "descriptors": {
        fd: os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
      },
      "environ": dict(os.environ),
      "proc_environ": pathlib.Path("/proc/self/environ").read_text(),
      "parent_environ": pathlib.Path(
        f"/proc/{os.getppid()}/environ"
      ).read_text(),
      "modules": sorted(m for m in sys.modules if "." not in m),
    }
  )


def raises(request):
  print("about to fail")
  raise ValueError("the width must divide 64")


def exits(request):
  raise SystemExit(3)


def hard_exit(request):
  sys.stderr.write("gone without a word\n")
  os._exit(7)


def wrong_type(request):
  return {"score": 1.0}


def unsendable(request):
  return StageReply(report={"x": object()})


def hungry(request):
  blocks = []
  while True:
    blocks.append(bytearray(64 << 20))


def chatty(request):
  line = "x" * 999 + "\n"
  for _ in range(100_000):
    sys.stdout.write(line)
  print("the last line")
  return StageReply(metrics=({"score": 1.0},))


def crash(request):
  os.kill(os.getpid(), signal.SIGSEGV)
  time.sleep(30)


def killed(request):
  os.kill(os.getpid(), signal.SIGKILL)
  time.sleep(30)


def family(request):
  """Starts a child, one in another session, and an orphan; then sleeps."""
  program = (
    "import os, sys, time\n"
    "if sys.argv[1] != 'child': os.setsid()\n"
    "if sys.argv[1] == 'orphan' and os.fork(): os._exit(0)\n"
    "open(sys.argv[2] + '/' + sys.argv[1], 'w').write(str(os.getpid()))\n"
    "time.sleep(60)\n"
  )
  for name in ("child", "session", "orphan"):
    subprocess.Popen([sys.executable, "-c", program, name, request.scratch])
  while len(list(pathlib.Path(request.scratch).glob("[cso]*[!g]"))) < 3:
    time.sleep(0.01)
  if request.options.get("return"):
    return StageReply()
  pathlib.Path(request.scratch, "self").write_text(str(os.getpid()))
  time.sleep(60)
  return StageReply()


def sleeps(request):
  pathlib.Path(request.scratch, "self").write_text(str(os.getpid()))
  time.sleep(float(request.options.get("seconds", 60.0)))
  return StageReply(metrics=({"score": 1.0},))


def _own_socket():
  """The descriptor that replies go through, as hostile code would find it."""
  for fd in map(int, os.listdir("/proc/self/fd")):
    try:
      if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
        return socket.socket(fileno=fd)
    except OSError:
      continue
  raise AssertionError("no socket")


def garbage(request):
  _own_socket().sendall(b"GET / HTTP/1.1\r\n\r\n" + b"?" * 1000)
  time.sleep(60)


def huge(request):
  connection = _own_socket()
  block = b"\0" * (1 << 20)
  connection.sendall(wire._PREFIX.pack(b"AEJ1", 2, 1 << 40))
  while True:
    connection.sendall(block)


def forged(request):
  """A well-formed reply with a lie about the size of an array."""
  _own_socket().sendall(
    wire.frame(
      {
        "status": "ok",
        "gate": "",
        "error": "",
        "payload": 0,
        "metrics": [],
        "report": {},
        "curves": [["loss", "float64", [1 << 40]]],
        "cost": {},
      }
    )
  )
  time.sleep(60)


def large(request):
  return StageReply(payload=os.urandom(1 << 20) * 48)
