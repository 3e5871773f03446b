"""What a worker must be able to read to run Python and JAX, and no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

# Libraries, and what the loader and the C library look up.
_LIBRARIES = (
  *("/lib", "/lib32", "/lib64", "/libx32"),
  *("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"),
  *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"),
)
# About this process and the processors.
PROC_FILES = (
  *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
  "/proc/sys/vm/overcommit_memory",
)
SYS_FILES = (
  *("/sys/devices/system/cpu", "/sys/devices/system/node"),
  "/sys/kernel/mm/transparent_hugepage",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# What trusted stages see beside it: programs and settings of the machine.
SYSTEM = (
  *("/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32"),
  *("/proc", "/sbin", "/sys", "/usr"),
)
# Drivers of accelerators keep their own files in many places.
DRIVERS = ("/opt", "/run", "/tmp", "/var")


def python_files(*, importable: bool = False) -> list[str]:
  """Returns the files and folders that this Python imports from.

  The interpreter and installed packages are returned whole. Of a source
  checkout, which may hold a person's other files, only packages are.

  Args:
    importable: whether to return all those packages, for a process that may
      start another Python, or those that have been imported already.
  """
  prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
  found = [p for p in prefixes if _specific(p)]
  for entry in filter(None, sys.path):
    name = os.path.basename(os.path.normpath(entry))
    installed = name in ("site-packages", "dist-packages", "lib-dynload")
    if (installed or os.path.isfile(entry)) and os.path.exists(entry):
      found.append(os.path.abspath(entry))
  more = _importable() if importable else _imported(found)
  return without_nested([*found, *_LIBRARIES, *more])


def without_nested(paths: Iterable[str]) -> list[str]:
  """Returns those of `paths` that exist and lie in no other."""
  kept: list[str] = []
  known = sorted({p for p in paths if os.path.exists(p)}, key=len)
  for path in known:
    if not any(path.startswith(k.rstrip("/") + "/") for k in kept):
      kept.append(path)
  return kept


def _specific(path: str) -> bool:
  """Whether a folder holds an interpreter and not somebody's files."""
  path = os.path.realpath(path)
  home = os.path.realpath(os.path.expanduser("~"))
  return path != "/" and not (home + "/").startswith(path.rstrip("/") + "/")


def _importable() -> Iterator[str]:
  """Yields the packages and modules in the folders on the path."""
  for folder in filter(os.path.isdir, sys.path):
    for entry in os.scandir(folder):
      package = os.path.join(entry.path, "__init__.py")
      if entry.name.endswith((".py", ".so")) or os.path.exists(package):
        yield os.path.abspath(entry.path)


def _imported(known: Iterable[str]) -> Iterator[str]:
  """Yields the top-level packages and modules that lie nowhere in `known`."""
  known = tuple(k.rstrip("/") + "/" for k in known)
  for name, module in list(sys.modules.items()):
    if "." in name or name == "__main__":
      continue
    places = list(getattr(module, "__path__", None) or ())
    file = getattr(module, "__file__", None)
    if not places and isinstance(file, str):
      places = [file]
    for place in places:
      if isinstance(place, str) and not place.startswith(known):
        yield os.path.abspath(place)
