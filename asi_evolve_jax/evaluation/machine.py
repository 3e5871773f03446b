"""What a Result must be read with: machine, versions and commit."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "tensorstore",
  "numpy",
  "scipy",
)


def machine() -> dict[str, Any]:
  """Returns processor, cores, memory [bytes] and platform."""
  # Where it is not Linux the platform's word has to do.
  model = _cpuinfo("model name") or platform.processor() or platform.machine()
  memory = 0
  if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  return {
    "processor": model,
    "cores": os.cpu_count() or 1,
    "memory_bytes": memory,
    "platform": platform.platform(),
    "python": platform.python_version(),
  }


def versions() -> dict[str, str]:
  """Returns the versions of the packages that decide numbers."""
  found = {}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def kind(threads: int) -> str:
  """Names what decides a measurement's last bits, parts split by "; ".

  Two measurements of one Artifact and seed are equal bit for bit where this
  is equal (docs/claims.md); where it differs they may differ.

  Args:
    threads: that a worker computes with; 0: as many as it likes.
  """
  found = versions()
  return "; ".join(
    (
      f"{machine()['processor']} ({platform.machine()})",
      f"instructions {_instructions()}",
      f"{threads or 'many'} thread{'' if threads == 1 else 's'} a worker",
      f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', 'cpu')}",
      f"XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}",
      *(f"{p} {found[p]}" for p in ("jax", "jaxlib", "numpy") if p in found),
    )
  )


def _instructions() -> str:
  """Names the processor's instruction sets: XLA compiles for just these."""
  flags = " ".join(sorted(_cpuinfo("flags", "Features").split()))
  return hashlib.sha256(flags.encode()).hexdigest()[:8] if flags else "unknown"


def _cpuinfo(*names: str) -> str:
  """Returns the first entry of /proc/cpuinfo with one of `names`, or ""."""
  with contextlib.suppress(OSError):
    for line in Path("/proc/cpuinfo").read_text().splitlines():
      if line.startswith(names):
        return line.split(":", 1)[1].strip()
  return ""


def commit() -> str:
  """Returns the checkout's commit, with `+changes` if it has any."""
  root = Path(__file__).resolve().parents[2]

  def git(*arguments: str) -> str:
    done = subprocess.run(
      ["git", "-C", str(root), *arguments],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    )
    return done.stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+changes" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return "unknown"
