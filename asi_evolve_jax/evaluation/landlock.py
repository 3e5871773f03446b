"""Landlock: a process gives up files that it does not need, without root.

System calls, structures and rights are those of <linux/landlock.h>; numbers
are the same on every architecture. What a newer ABI adds is used where the
kernel has it: moving files (2), truncation (3), TCP (4), device ioctls (5),
abstract sockets and signals (6).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable

from asi_evolve_jax.evaluation import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag: return the ABI
_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
_IOCTL_DEVICE = 1 << 15
# Rights on file systems that each ABI knows, as a number of bits.
_KNOWN_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_BITS = 16
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_TCP = 0b11  # to bind, to connect
_SCOPES = 0b11  # abstract sockets, signals


class _Ruleset(ctypes.Structure):
  _fields_ = (
    ("files", ctypes.c_uint64),
    ("network", ctypes.c_uint64),
    ("scoped", ctypes.c_uint64),
  )


class _Beneath(ctypes.Structure):
  _pack_ = 1
  _layout_ = "ms"
  _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def abi() -> int:
  """Returns the version that this kernel has; 0: none, or switched off."""
  try:
    return kernel.syscall("landlock", _CREATE_RULESET, None, 0, _VERSION)
  except OSError:
    return 0


def restrict(
  read: Iterable[str],
  write: Iterable[str] = (),
  *,
  devices: Iterable[str] = (),
  list_only: Iterable[str] = (),
  execute: bool = False,
  reach_out: bool = False,
) -> int:
  """Takes from this process, and its children, all files but these.

  Call it while there is one thread: others would keep their rights.

  Args:
    read: files and folders that may be read; those that are missing are left
      out.
    write: the same, to read, write and change in every way.
    devices: device files to read and write, or folders of them.
    list_only: folders whose entries may be listed, at any depth.
    execute: whether what may be read may also be executed.
    reach_out: whether TCP, abstract sockets of other processes and signals to
      them are left as they are.

  Returns:
    The ABI that was used.

  Raises:
    OSError: if the kernel refuses; nothing has changed then.
  """
  version = abi()
  known = (1 << _KNOWN_BITS.get(version, _ALL_BITS)) - 1
  inward = not reach_out
  ruleset = _Ruleset(
    known,
    _TCP if inward and version >= 4 else 0,
    _SCOPES if inward and version >= 6 else 0,
  )
  rules = kernel.syscall(
    "landlock_create_ruleset",
    _CREATE_RULESET,
    ctypes.byref(ruleset),
    ctypes.sizeof(ruleset),
    0,
  )
  try:
    reading = _READ_FILE | _READ_DIR | (_EXECUTE if execute else 0)
    using = _READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEVICE
    for paths, access in (
      (read, reading),
      (write, known),
      (devices, using),
      (list_only, _READ_DIR),
    ):
      for path in paths:
        _allow(rules, path, access & known)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.syscall("landlock_restrict_self", _RESTRICT_SELF, rules, 0)
  finally:
    os.close(rules)
  return version


def _allow(rules: int, path: str, access: int) -> None:
  with contextlib.suppress(FileNotFoundError, PermissionError):
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
      if not stat.S_ISDIR(os.fstat(folder).st_mode):
        access &= _ON_FILES
      kernel.syscall(
        f"landlock_add_rule({path})",
        _ADD_RULE,
        rules,
        _PATH_BENEATH,
        ctypes.byref(_Beneath(access, folder)),
        0,
      )
    finally:
      os.close(folder)
