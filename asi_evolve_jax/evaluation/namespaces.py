"""Linux namespaces: a process that sees no others, no network, and few files.

A user namespace makes the others possible without privileges (clone(2),
user_namespaces(7)). The calling process becomes three: itself, which waits; the
first process of the new namespace, with which everything in it ends; and the
one that goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import signal
import struct
import traceback
from collections.abc import Iterable, Iterator
from typing import NoReturn

from asi_evolve_jax.evaluation import kernel

# <linux/sched.h>: control groups, host name, IPC, users, processes, network.
_NEW = (
  0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
)
_NEW_MOUNTS = 0x00020000
# <sys/mount.h>
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_BIND, _RECURSIVE, _PRIVATE = 1 << 12, 1 << 14, 1 << 18
_DETACH = 2
_READ_ONLY_ATTRIBUTE = 1
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_STATUS = struct.Struct("i")
# Files and folders that the scratch folder may hold.
_SCRATCH_ENTRIES = 10_000
_FEWEST_PROCESSES = 301  # the kernel reserves the first 300 numbers


class _MountAttributes(ctypes.Structure):
  _fields_ = (
    ("set", ctypes.c_uint64),
    ("clear", ctypes.c_uint64),
    ("propagation", ctypes.c_uint64),
    ("user_namespace", ctypes.c_uint64),
  )


def enter(
  readable: Iterable[str], scratch: str, scratch_bytes: int, processes: int
) -> tuple[list[str], dict[str, str]]:
  """Moves into namespaces of all kinds; returns in a process of its own.

  The caller's process stays and ends as that one does. Kill it, and everything
  in the namespaces dies.

  Args:
    readable: files and folders that make up the new root, read-only.
    scratch: folder that becomes a file system in memory.
    scratch_bytes: its size.
    processes: most processes and threads, where the kernel counts them a
      namespace (Linux 6.14); at least 301.

  Returns:
    What could be done: "namespaces"; "root" if the file system is the new one;
    "count" if processes are counted. And why the others could not, by name.

  Raises:
    OSError: if this machine does not let us; nothing has changed then.
  """
  user, group = os.getuid(), os.getgid()
  kernel.call("unshare", _NEW)
  _write("/proc/self/setgroups", "deny")
  _write("/proc/self/uid_map", f"{user} {user} 1")
  _write("/proc/self/gid_map", f"{group} {group} 1")
  reader, writer = os.pipe()
  first = os.fork()
  if first:
    _wait_for(first, reader)
  os.close(reader)
  kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
  watch = select.poll()
  watch.register(writer, 0)
  if watch.poll(0):  # it died before the line above
    os._exit(1)
  done, missing = ["namespaces"], {}
  try:
    done += _build_root(readable, scratch, scratch_bytes, processes)
  except OSError as error:
    # A container may forbid mounts; the others hold, and Landlock is to come.
    missing["root"] = str(error)
  stage = os.fork()
  if stage:
    _hold(stage, writer)
  os.close(writer)
  os.setsid()
  return done, missing


def close_descriptors(keep: Iterable[int]) -> None:
  """Closes every descriptor of this process but these."""
  for name in os.listdir("/proc/self/fd"):
    if int(name) not in keep:
      try:
        os.close(int(name))
      except OSError:  # the one that listed them
        continue


def _wait_for(first: int, reader: int) -> NoReturn:
  """Ends as the process in the namespace ended."""
  try:
    close_descriptors((2, reader))
    _, status = os.waitpid(first, 0)
    code = os.waitstatus_to_exitcode(status)
    told = os.read(reader, _STATUS.size)
    if len(told) == _STATUS.size:
      (code,) = _STATUS.unpack(told)
    if code < 0:
      if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
      os.kill(os.getpid(), -code)
    os._exit(abs(code))
  finally:  # an exception must not go on as a worker
    _fail()


def _hold(stage: int, writer: int) -> NoReturn:
  """Is the first process: takes in orphans until `stage` ends."""
  try:
    close_descriptors((2, writer))
    kernel.drop_capabilities()
    while True:
      pid, status = os.waitpid(-1, 0)
      if pid == stage:
        os.write(writer, _STATUS.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
  finally:
    _fail()


def _fail() -> NoReturn:
  os.write(2, traceback.format_exc().encode())
  os._exit(1)


def _build_root(
  readable: Iterable[str], scratch: str, scratch_bytes: int, processes: int
) -> list[str]:
  """Makes a root of nothing but `readable` and an empty scratch folder."""
  if platform.machine() not in _PIVOT_ROOT:
    raise OSError(errno.ENOSYS, f"no mounts on {platform.machine()}")
  # Here and not with the others: the process that waits keeps its root.
  kernel.call("unshare", _NEW_MOUNTS)
  root = scratch  # any folder will do to mount on
  _mount(None, "/", None, _RECURSIVE | _PRIVATE)
  _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=4m,mode=755")
  try:
    for path in readable:
      _show(root, path)
    proc = f"{root}/proc"
    os.makedirs(proc)
    _mount("proc", proc, "proc", _NOSUID | _NODEV | _NOEXEC)
    counted = _limit_processes(proc, processes)
    os.makedirs(root + scratch, exist_ok=True)
    attributes = _MountAttributes(_READ_ONLY_ATTRIBUTE | _NOSUID)
    kernel.syscall(
      "mount_setattr",
      _MOUNT_SETATTR,
      _AT_FDCWD,
      root.encode(),
      _AT_RECURSIVE,
      ctypes.byref(attributes),
      ctypes.sizeof(attributes),
    )
    _mount(
      "tmpfs",
      root + scratch,
      "tmpfs",
      _NOSUID | _NODEV | _NOEXEC,
      f"size={scratch_bytes},nr_inodes={_SCRATCH_ENTRIES},mode=700",
    )
  except OSError:
    kernel.call("umount2", root.encode(), _DETACH)
    raise
  os.chdir(root)
  number = _PIVOT_ROOT[platform.machine()]
  kernel.syscall("pivot_root", number, b".", b".")
  kernel.call("umount2", b".", _DETACH)
  os.chdir(scratch)
  return ["root", *(["count"] if counted else [])]


def _show(root: str, path: str) -> None:
  """Makes `path` visible below `root`, by its own name and links."""
  real = os.path.realpath(path)
  target = root + real
  if not os.path.exists(real) or os.path.lexists(target):
    return
  if os.path.isdir(real):
    os.makedirs(target)
  else:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
  _mount(real, target, None, _BIND | _RECURSIVE)
  for link, text in _links(path):
    if not os.path.lexists(root + link):
      os.makedirs(os.path.dirname(root + link), exist_ok=True)
      os.symlink(text, root + link)


def _links(path: str) -> Iterator[tuple[str, str]]:
  """Yields (place, text) of each symbolic link on the way to `path`."""
  here, todo = "/", path.split("/")
  while todo:
    name = todo.pop(0)
    step = os.path.normpath(os.path.join(here, name))
    if name and os.path.islink(step):
      text = os.readlink(step)
      yield step, text
      here = "/" if text.startswith("/") else here
      todo = text.split("/") + todo
    else:
      here = step


def _limit_processes(proc: str, processes: int) -> bool:
  try:
    _write(f"{proc}/sys/kernel/pid_max", str(max(processes, _FEWEST_PROCESSES)))
  except OSError:  # before Linux 6.14 the number is the machine's
    return False
  return True


def _mount(
  source: str | None,
  target: str,
  kind: str | None,
  flags: int,
  data: str | None = None,
) -> None:
  texts = [t.encode() if t else None for t in (source, target, kind, data)]
  kernel.call("mount", *texts[:3], flags, texts[3])


def _write(path: str, text: str) -> None:
  with open(path, "w") as file:
    file.write(text)
