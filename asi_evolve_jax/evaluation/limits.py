"""What a process that runs a candidate may use, see and outlive.

Linux does most of this without privileges: rlimits, a session of its own, a
subreaper that inherits every descendant, an environment made of an allow-list.
Where a call does not exist (macOS), it is left out and the rest still holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asi_evolve_jax.evaluation import kernel

# Names that may reach a candidate: what Python, XLA and a driver need.
_ALLOWED = frozenset(
  {
    "ALLOW_MULTIPLE_LIBTPU_LOAD",
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
  }
)
_ALLOWED_PREFIXES = (
  "JAX_",
  "LC_",
  "LIBTPU_",
  "NCCL_",
  "NVIDIA_",
  "TF_CPP_",
  "TPU_",
  "XLA_",
)
_SECRET_PARTS = (
  "KEY",
  "TOKEN",
  "SECRET",
  "PASSW",
  "CREDENTIAL",
  "AUTH",
  "COOKIE",
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of one worker process.

  Attributes:
    memory_bytes: address space beyond what the preloaded modules hold; 0: no
      limit (accelerator drivers reserve far more than they use).
    file_bytes: largest single file that it may write.
    processes: processes and threads of this user beyond those that it has when
      the fork server starts (root is exempt).
    threads: processes and threads of one candidate, where its jail can count
      them.
    scratch_bytes: what a candidate may keep in its scratch folder.
    reply_bytes: largest reply taken from it.
    log_bytes: most of its output kept on disk.
    silence_s: its processes are killed when the Engineer has not polled for
      so long: by then its lease is lost and another may have begun. 0: never.
  """

  memory_bytes: int = 6 << 30
  file_bytes: int = 8 << 30
  processes: int = 4096
  threads: int = 512
  scratch_bytes: int = 256 << 20
  reply_bytes: int = 256 << 20
  log_bytes: int = 1 << 20
  silence_s: float = 0.0


def is_secret(name: str) -> bool:
  """Whether an environment variable of this name may hold a secret."""
  upper = name.upper().replace("AUTHOR", "")  # GIT_AUTHOR_NAME
  return any(part in upper for part in _SECRET_PARTS)


def secret_values(environ: Mapping[str, str] | None = None) -> list[str]:
  """Returns the values to blank in logs, longest first."""
  environ = os.environ if environ is None else environ
  # A short value ("1", "true") is no secret, and blanking it garbles the log.
  values = {v for k, v in environ.items() if is_secret(k) and len(v) >= 6}
  return sorted(values, key=len, reverse=True)


def scrubbed_environment(
  environ: Mapping[str, str] | None = None, keep: Iterable[str] = ()
) -> dict[str, str]:
  """Returns the allowed part of an environment, without secrets.

  A child can read the environment that its ancestors were started with
  (/proc/<pid>/environ), so deleting a name from `os.environ` hides nothing: a
  process that starts candidates has to be executed with this.

  Args:
    environ: the environment to filter; this process's by default.
    keep: further names to let through.
  """
  environ = os.environ if environ is None else environ
  keep = frozenset(keep)
  return {
    name: value
    for name, value in environ.items()
    if name in keep
    or (
      (name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES))
      and not is_secret(name)
    )
  }


def worker_environment(
  environ: Mapping[str, str] | None = None, *, single_thread: bool
) -> dict[str, str]:
  """Returns the environment of worker processes.

  Args:
    environ: the environment to start from; this process's by default.
    single_thread: keep XLA and BLAS to one thread, for workers pinned to one
      core each.
  """
  result = scrubbed_environment(environ)
  # A machine with libtpu and no TPU fails to start without a platform; who
  # wants an accelerator says so.
  result.setdefault("JAX_PLATFORMS", "cpu")
  # Iteration order of sets of text must not depend on the process.
  result["PYTHONHASHSEED"] = "0"
  result["PYTHONDONTWRITEBYTECODE"] = "1"
  # Threads of BLAS would be lost at the fork, whatever the workers may use.
  for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    result[name] = "1"
  flag = "--xla_cpu_multi_thread_eigen"
  flags = result.get("XLA_FLAGS", "")
  if single_thread and result["JAX_PLATFORMS"] == "cpu" and flag not in flags:
    result["XLA_FLAGS"] = f"{flags} {flag}=false".strip()
  return result


def isolate() -> None:
  """Puts this process in a session of its own that dies with its parent."""
  os.setsid()
  kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
  kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper() -> None:
  """Makes orphans among this process's descendants its children."""
  kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def apply_limits(limits: Limits, core: int | None) -> None:
  """Limits this process, before any backend of JAX exists.

  Args:
    limits: what to apply.
    core: the processor to stay on; None leaves the affinity alone.
  """
  if core is not None and hasattr(os, "sched_setaffinity"):
    # A core may be gone (a changed cpuset): running anywhere beats failing.
    with contextlib.suppress(OSError):
      os.sched_setaffinity(0, {core})
  _lower(resource.RLIMIT_CORE, 0)
  _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
  _lower(resource.RLIMIT_NPROC, limits.processes)
  if limits.memory_bytes:
    _lower(resource.RLIMIT_AS, address_space() + limits.memory_bytes)


def address_space() -> int:
  """Returns the bytes of address space that this process has mapped."""
  try:
    with open("/proc/self/statm") as f:
      return int(f.read().split()[0]) * resource.getpagesize()
  except OSError:
    return 0


def _lower(what: int, value: int) -> None:
  hard = resource.getrlimit(what)[1]
  if hard != resource.RLIM_INFINITY:
    value = min(value, hard)
  # macOS refuses some of them.
  with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(what, (value, value))


def children_of(pid: int) -> list[int]:
  """Returns the ids of the processes whose parent is `pid`."""
  try:
    entries = os.listdir("/proc")
  except OSError:
    return []
  result = []
  for entry in entries:
    if not entry.isdigit():
      continue
    try:
      with open(f"/proc/{entry}/stat") as f:
        # "pid (name) state ppid ...": the name may hold spaces and brackets.
        parent = int(f.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
      continue
    if parent == pid:
      result.append(int(entry))
  return result


def usage_below(pid: int) -> tuple[float, int]:
  """Returns CPU seconds and largest resident set of the descendants of `pid`.

  Seconds are added up, those of processes that one of them has waited for
  included; the resident set [bytes] is that of the largest. It stops them all,
  for who is about to kill them: one that waited for another meanwhile would
  have it counted twice, or not at all.
  """
  seconds, peak = 0.0, 0
  ticks = os.sysconf("SC_CLK_TCK")
  for child in children_of(pid):
    with contextlib.suppress(OSError, LookupError, ValueError):
      os.kill(child, signal.SIGSTOP)
      with open(f"/proc/{child}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
      # utime, stime, cutime, cstime of proc(5).
      seconds += sum(map(int, fields[11:15])) / ticks
      with open(f"/proc/{child}/status") as f:
        lines = dict(line.split(":", 1) for line in f)
      peak = max(peak, int(lines["VmHWM"].split()[0]) * 1024)
    below, largest = usage_below(child)
    seconds, peak = seconds + below, max(peak, largest)
  return seconds, peak


def threads_of_user() -> int:
  """Returns how many threads this user's processes have now."""
  count = 0
  try:
    entries = os.listdir("/proc")
  except OSError:
    return 0
  for entry in entries:
    with contextlib.suppress(OSError):
      if entry.isdigit() and os.stat(f"/proc/{entry}").st_uid == os.getuid():
        count += len(os.listdir(f"/proc/{entry}/task"))
  return count


def kill_group(pid: int) -> None:
  """Kills process `pid` and the process group that it leads, if it is there."""
  for kill in (os.killpg, os.kill):
    with contextlib.suppress(ProcessLookupError, PermissionError):
      kill(pid, signal.SIGKILL)


def last_useful_lines(text: str, limit: int = 1500) -> str:
  """Returns the end of a log: its last traceback, or its last lines.

  Args:
    text: the log.
    limit: characters kept, in whole lines from the end.
  """
  # Lines without a letter are carets and rules.
  lines = [
    line.rstrip()[:400] for line in text.splitlines() if line.strip(" \t^~-=")
  ]
  starts = [
    i for i, line in enumerate(lines) if line.startswith("Traceback (most")
  ]
  tail = lines[starts[-1] :] if starts else lines[-12:]
  kept: list[str] = []
  size = 0
  for line in reversed(tail):
    size += len(line) + 1
    if kept and size > limit:
      break
    kept.append(line)
  return "\n".join(reversed(kept))


def default_cores(count: int, pin: bool) -> tuple[int | None, ...]:
  """Returns the processor of each worker; None where it is not pinned.

  Args:
    count: number of workers; 0: one for each processor of this process.
    pin: give each worker a processor of its own, as far as there are any.
  """
  cores: Sequence[Any]
  if hasattr(os, "sched_getaffinity"):
    cores = sorted(os.sched_getaffinity(0))
  else:
    cores = range(os.cpu_count() or 1)
  count = count or len(cores)
  if not pin or not sys.platform.startswith("linux"):
    return (None,) * count
  return tuple(cores[i % len(cores)] for i in range(count))
