"""Calls to the Linux kernel that Python's standard library does not have."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from typing import Any

# <sys/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522


def syscall(what: str, number: int, *args: Any) -> int:
  """Makes a system call.

  Args:
    what: its name, for the error.
    number: of the call on this machine.
    *args: integers, bytes, None, or what ctypes takes as a pointer.

  Raises:
    OSError: with the kernel's reason; ENOSYS where this is not Linux.
  """
  if not sys.platform.startswith("linux"):
    raise OSError(errno.ENOSYS, f"{what}: this is not Linux")
  # A bare int would be passed as 32 bits.
  words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
  return _checked(what, _libc().syscall(ctypes.c_long(number), *words))


def call(name: str, *args: Any) -> int:
  """Calls a function of the C library that returns -1 for an error.

  Raises:
    OSError: with the kernel's reason; ENOSYS where there is no such function.
  """
  function = getattr(_libc(), name, None)
  if function is None or not sys.platform.startswith("linux"):
    raise OSError(errno.ENOSYS, f"{name}: this machine does not have it")
  words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in args]
  return _checked(name, function(*words))


def prctl(option: int, *args: Any) -> None:
  """Calls prctl(2); does nothing where this is not Linux."""
  if not sys.platform.startswith("linux"):
    return
  padded = [*args, *(0,) * (4 - len(args))]
  words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded]
  _checked(f"prctl({option})", _libc().prctl(option, *words))


def drop_capabilities() -> None:
  """Gives up every capability, and the chance to get one back."""
  for capability in range(64):
    try:
      prctl(PR_CAPBSET_DROP, capability)
    except OSError:  # beyond the last one, or there was none to begin with
      break
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
  header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
  call("capset", header, (ctypes.c_uint32 * 6)())


@functools.cache
def _libc() -> ctypes.CDLL:
  return ctypes.CDLL(None, use_errno=True)


def _checked(what: str, result: int) -> int:
  if result == -1:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")
  return result
