"""Hostile stages: each tries one way out and reports how far it came.

What they are aimed at comes in `options`; all of it belongs to the test.
"""

import ctypes
import os
import pathlib
import signal
import socket
import sys
import threading
import time

import worker_stages

from asi_evolve_jax.evaluation import seccomp, wire
from asi_evolve_jax.evaluation.stages import StageReply

_libc = ctypes.CDLL(None, use_errno=True)


def _attempts(**attacks):
  """Runs each attack; "" in the report means that it succeeded."""
  report = {}
  for name, attack in attacks.items():
    try:
      attack()
      report[name] = ""
    except Exception as e:
      report[name] = f"{type(e).__name__}: {e}"
  return StageReply(report=report)


def _raise_on_error(result):
  if result == -1:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def status(request):
  """What this process is, in the kernel's words."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return StageReply(
    report={
      **dict(line.split(":\t", 1) for line in lines),
      "descriptors": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
      "cwd": os.getcwd(),
      "home": os.environ["HOME"],
    }
  )


def environments(request):
  """Looks for a secret in the environment of every process there is."""
  found = []
  for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
      if b"PLANTED" in path.read_bytes():
        found.append(str(path))
    except OSError:
      continue
  return StageReply(report={"found": found})


def reads(request):
  files = request.options["files"]
  return _attempts(**{p: lambda p=p: open(p).read() for p in files})


def lists(request):
  files = request.options["files"]
  return _attempts(**{p: lambda p=p: os.listdir(p) for p in files})


def writes(request):
  """Creates, changes, renames, removes and re-times files of others."""
  victim = pathlib.Path(request.options["victim"])
  return _attempts(
    create=lambda: victim.with_suffix(".new").write_text("x"),
    append=lambda: open(victim, "a").close(),
    truncate=lambda: os.truncate(victim, 3),
    emptied=lambda: os.close(os.open(victim, os.O_RDONLY | os.O_TRUNC)),
    chmod=lambda: os.chmod(victim, 0o777),
    times=lambda: os.utime(victim),
    link=lambda: os.link(victim, victim.with_suffix(".link")),
    rename=lambda: os.rename(victim, victim.with_suffix(".moved")),
    # What every worker can read: this module, and the engine's own.
    own=lambda: os.chmod(__file__, os.stat(__file__).st_mode),
    code=lambda: os.close(os.open(wire.__file__, os.O_RDWR)),
  )


def scratch(request):
  path = pathlib.Path(request.scratch, "notes")
  return _attempts(write=lambda: path.write_text("seen nowhere else"))


def disk_bomb(request):
  """Fills its scratch folder with files that have no name any more."""
  size, files = 0, []
  try:
    while size < request.options["bytes"]:
      files.append(open(f"{request.scratch}/bomb", "wb", 0))  # noqa: SIM115
      os.unlink(f"{request.scratch}/bomb")
      for _ in range(4):
        size += files[-1].write(b"\0" * (1 << 20))
  except OSError as e:
    return StageReply(report={"bytes": size, "error": e.strerror})
  return StageReply(report={"bytes": size, "error": ""})


def sockets(request):
  options = request.options
  loopback = ("127.0.0.1", options["port"])

  def connect(family, kind, address):
    with socket.socket(family, kind) as s:
      s.settimeout(2)
      s.connect(address)

  def send_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
      s.sendto(b"x", loopback)

  return _attempts(
    tcp=lambda: connect(socket.AF_INET, socket.SOCK_STREAM, loopback),
    udp=send_datagram,
    unix=lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, options["unix"]),
    abstract=lambda: connect(
      socket.AF_UNIX, socket.SOCK_STREAM, "\0" + options["abstract"]
    ),
    pair=lambda: socket.socketpair(),
    listen=lambda: socket.create_server(("127.0.0.1", 0)),
  )


def fork_bomb(request):
  count = 0
  try:
    while count < request.options["most"]:
      if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
      count += 1
  except OSError as e:
    return StageReply(report={"count": count, "error": type(e).__name__})
  return StageReply(report={"count": count, "error": ""})


def thread_bomb(request):
  threading.stack_size(64 << 10)
  count = 0
  try:
    while count < request.options["most"]:
      threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
      count += 1
  except RuntimeError:
    pass
  return StageReply(report={"count": count})


def memory_bomb(request):
  """Memory that the limit of the address space does not count."""

  def anonymous_file():
    fd = os.memfd_create("bomb")
    os.write(fd, b"\0" * (1 << 20))

  shared = (0, 1 << 20, 0o1600)  # private key, size, create
  return _attempts(
    memfd=anonymous_file,
    shared=lambda: _raise_on_error(_libc.shmget(*shared)),
  )


def kills(request):
  server, victim = request.options["server"], request.options["victim"]
  own = {"usr1": 0}
  signal.signal(signal.SIGUSR1, lambda *_: own.update(usr1=1))
  reply = _attempts(
    parent=lambda: os.kill(os.getppid(), signal.SIGKILL),
    server=lambda: os.kill(server, 0),
    group=lambda: os.killpg(os.getpgid(server), 0),
    victim=lambda: os.kill(victim, signal.SIGKILL),
    everyone=lambda: os.kill(-1, 0),
    itself=lambda: os.kill(os.getpid(), signal.SIGUSR1),
  )
  reply.report["delivered"] = own["usr1"]
  return reply


def meddles(request):
  """Attaches to, reads and writes another process."""
  pid = request.options["victim"]
  buffer = ctypes.create_string_buffer(8)

  class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

  ours = Vector(ctypes.addressof(buffer), 8)

  def vector(call):
    start = int(request.options["address"])
    theirs = Vector(start, 8)
    _raise_on_error(
      call(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    )

  def attach():
    _raise_on_error(_libc.ptrace(16, pid, None, None))
    _libc.ptrace(17, pid, None, None)  # detach

  return _attempts(
    ptrace=attach,
    read=lambda: vector(_libc.process_vm_readv),
    write=lambda: vector(_libc.process_vm_writev),
    maps=lambda: pathlib.Path(f"/proc/{pid}/maps").read_text(),
    memory=lambda: open(f"/proc/{pid}/mem", "rb").close(),
    descriptors=lambda: os.listdir(f"/proc/{pid}/fd"),
  )


def denied_calls(request):
  """Makes each call of the filter's list with arguments that mean nothing."""
  column = 0 if os.uname().machine == "x86_64" else 1
  errors = {}
  for name, numbers in seccomp._DENIED.items():
    # These two would return twice; the fork bomb is for them.
    if numbers[column] is not None and "fork" not in name:
      result = _libc.syscall(numbers[column], -1, -1, -1, -1, -1)
      errors[name] = ctypes.get_errno() if result == -1 else 0
  errors["clone3"] = -_libc.syscall(435, None, 0) * ctypes.get_errno()
  errors["new"] = -_libc.syscall(9_999) * ctypes.get_errno()
  errors["x32"] = -_libc.syscall(0x40000000 | 39) * ctypes.get_errno()
  return StageReply(report=errors)


def daemon(request):
  """Leaves a process behind that has left session, group and parent."""
  try:
    if os.fork() == 0:
      os.setsid()
      if os.fork() == 0:
        name = request.options["name"].encode()
        _libc.prctl(15, name, 0, 0, 0)  # PR_SET_NAME
        for fd in range(3, 64):
          try:
            os.close(fd)
          except OSError:
            continue
        time.sleep(60)
      os._exit(0)
  except OSError as e:
    return StageReply(report={"error": type(e).__name__})
  time.sleep(0.2)  # until it is what it wants to be
  return StageReply(report={"error": ""})


def two_replies(request):
  """Says two things, so that a reader could take the wrong one."""
  good = wire.encode_reply(StageReply(metrics=({"score": 1e9},)))
  worker_stages._own_socket().sendall(good + good)
  time.sleep(30)


def forged_confinement(request):
  """Claims to be in a jail of its own invention."""
  lie = wire.frame({"layers": ["all of them"], "missing": {}})
  worker_stages._own_socket().sendall(lie)
  time.sleep(30)


def forged_files(request):
  """Leaves what a trusted stage might take for its own earlier work."""
  for name in ("seed-0.json", "result.json", "params-0.npz"):
    try:
      pathlib.Path(request.scratch, name).write_text('{"score": 1e9}')
    except OSError:
      continue
  return StageReply()


def scratch_listing(request):
  """Trusted: what the stage after a hostile one finds."""
  return StageReply(report={"files": sorted(os.listdir(request.scratch))})


def patches(request):
  """Changes the judge, in every module of its process."""
  from asi_evolve_jax.tracks.circle_packing import packing, score

  packing.fault = lambda *_: ""
  packing.sum_of_radii = lambda _: 1e9
  score.run = lambda _: StageReply(metrics=({"sum_of_radii": 1e9},))
  for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("numpy"):
      module.array = None
  return StageReply(payload=request.payload)


def reads_declared(request):
  """Trusted: reads what it declares and what it does not."""
  files = {**request.folders, "other": request.options["other"]}
  reply = _attempts(
    **{n: lambda p=p: os.listdir(p) for n, p in files.items()},
    scratch=lambda: pathlib.Path(request.scratch, "x").write_text("x"),
    outside=lambda: pathlib.Path(request.options["other"], "x").write_text(""),
  )
  return reply


huge = worker_stages.huge


def kills_victim(request):
  os.kill(request.options["victim"], signal.SIGKILL)
  return StageReply()


def busy(request):
  while True:
    pass
