"""The jail: what keeps a candidate's Python from everything but its answer.

A forked worker goes in before any of a candidate's code runs, through as many
layers as the kernel has, none of which needs a package or root:

- "namespaces": no other process, network or IPC object exists for it, and
  whatever it starts dies with it; "root": it sees the files that Python needs,
  read-only, and an empty scratch folder in memory; "count": its processes and
  threads are counted.
- "landlock": the same files, by the kernel's access control; no TCP, no
  abstract socket, no signal to others.
- "seccomp": no new process, no socket, none of the calls that escapes are made
  of.

Trusted stages run no candidate's Python; Landlock keeps each to its own scratch
folder and the data that it declares. docs/security.md says what is promised.
`python -m asi_evolve_jax.evaluation.jail` says what this machine can do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import sys
import tempfile
from collections.abc import Mapping

from asi_evolve_jax.evaluation import (
  kernel,
  landlock,
  namespaces,
  readable,
  seccomp,
)
from asi_evolve_jax.evaluation.limits import Limits

AUTO, REQUIRED, NONE = "auto", "required", "none"
MODES = (AUTO, REQUIRED, NONE)
LAYERS = ("namespaces", "landlock", "seccomp")
# Whose Programs are made of this repository's own text. All others are foreign:
# models, archives, which can hold whatever somebody put there, and nobody.
LOCAL_AUTHORS = ("baseline", "symbolic", "random")
_SPARE_CPU_S = 2.0
_OPEN_FILES = 1024


class JailError(RuntimeError):
  """This machine cannot hold what it was asked to run."""


@dataclasses.dataclass(frozen=True)
class Sandbox:
  """How workers are confined.

  Attributes:
    mode: "auto": every layer that the machine has, and code that a model wrote
      only if they suffice; "required": nothing runs unless they suffice;
      "none": the user's word that nothing is needed.
    layers: those to try; fewer in tests of what each is good for.
  """

  mode: str = AUTO
  layers: tuple[str, ...] = LAYERS

  def __post_init__(self) -> None:
    if self.mode not in MODES:
      raise ValueError(
        f"sandbox is {self.mode!r}: use one of {', '.join(MODES)}."
      )


@dataclasses.dataclass(frozen=True)
class Confinement:
  """What holds a process.

  Attributes:
    layers: that are in force.
    missing: why the others are not, by name.
  """

  layers: tuple[str, ...] = ()
  missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def holds(self) -> bool:
    """Whether files, network and other processes are out of reach."""
    return "seccomp" in self.layers and bool(
      {"root", "landlock"} & set(self.layers)
    )

  @property
  def reason(self) -> str:
    """Why it does not hold, for people."""
    return "; ".join(f"{k}: {v}" for k, v in sorted(self.missing.items()))


def enter(
  sandbox: Sandbox,
  scratch: str,
  limits: Limits,
  *,
  deadline_s: float,
  pinned: bool,
  keep: int,
  author: str = "",
) -> Confinement:
  """Puts this process behind every layer; may return in a child of it.

  Modules that it needs must be imported already.

  Args:
    sandbox: what to do.
    scratch: its folder: empty, in memory and gone with it where there are
      namespaces; otherwise it may write nowhere.
    limits: `scratch_bytes` and `processes` are used here.
    deadline_s: its wall-clock; CPU time is limited to what fits.
    pinned: whether it has one processor.
    keep: descriptor that stays open, beside the three standard ones.
    author: of the Program that is to run, as in its Proposal; "" if there is
      none.

  Raises:
    JailError: if the layers do not suffice for this author and mode.
  """
  if sandbox.mode == NONE:
    return Confinement()
  layers: list[str] = []
  missing: dict[str, str] = {}
  files = [*readable.python_files(), *readable.SYS_FILES]
  if "namespaces" in sandbox.layers:
    try:
      layers, missing = namespaces.enter(
        [*files, *readable.DEVICES],
        scratch,
        limits.scratch_bytes,
        limits.threads,
      )
    except OSError as error:
      missing["namespaces"] = str(error)
  if sys.platform.startswith("linux"):
    namespaces.close_descriptors((0, 1, 2, keep))
  _limit(deadline_s, pinned)
  _hide_accelerators()
  with contextlib.suppress(OSError):
    kernel.drop_capabilities()
  for name, layer in (
    ("landlock", lambda: _landlock(files, scratch, "root" in layers)),
    ("seccomp", seccomp.install),
  ):
    if name in sandbox.layers:
      try:
        layer()
        layers.append(name)
      except OSError as error:
        missing[name] = str(error)
  result = Confinement(tuple(layers), missing)
  foreign = author not in LOCAL_AUTHORS
  if not result.holds and (sandbox.mode == REQUIRED or foreign):
    who = author or "an unknown author"
    what = f"A Program by {who}" if foreign else "This Program"
    raise JailError(
      f"{what} was not run: no jail on this machine holds it "
      f"({result.reason or 'layers switched off'}). Use Linux 5.13 or newer "
      "with Landlock or user namespaces, outside of containers that forbid "
      "them; or, if you trust this code with your account and your files, say "
      "--config.workers.sandbox=none."
    )
  return result


def confine(
  sandbox: Sandbox, folders: list[str], own: list[str], *, cpu: bool
) -> Confinement:
  """Keeps a trusted stage from data that it does not declare.

  Args:
    sandbox: what to do.
    folders: it may read, beside Python's and the system's files.
    own: it may write; those that are missing are made.
    cpu: whether it computes on the CPU alone; drivers need more of the system.

  Raises:
    JailError: if Landlock is required and missing.
  """
  if sandbox.mode == NONE or "landlock" not in sandbox.layers:
    return Confinement()
  for path in own:
    os.makedirs(path, exist_ok=True)
  try:
    landlock.restrict(
      [
        *readable.python_files(importable=True),
        *readable.SYSTEM,
        *folders,
      ],
      [*own, *(() if cpu else readable.DRIVERS)],
      devices=["/dev"],
      # A subprocess has to find its packages.
      list_only=[p for p in sys.path if os.path.isdir(p)],
      execute=True,
      reach_out=True,
    )
  except OSError as error:
    if sandbox.mode == REQUIRED:
      raise JailError(
        "workers.sandbox is 'required' and this machine has no Landlock to "
        f"keep training from held-out data ({error}); use Linux 5.13 or newer, "
        "or 'auto'."
      ) from error
    return Confinement((), {"landlock": str(error)})
  return Confinement(("landlock",))


def available(sandbox: Sandbox | None = None) -> Confinement:
  """Returns what would hold a candidate on this machine, by trying it."""
  reader, writer = os.pipe()
  with tempfile.TemporaryDirectory() as scratch:
    pid = os.fork()
    if pid == 0:
      try:
        os.close(reader)
        result = enter(
          sandbox or Sandbox(),
          scratch,
          Limits(),
          deadline_s=10.0,
          pinned=True,
          keep=writer,
        )
        os.write(writer, json.dumps(dataclasses.asdict(result)).encode())
      finally:
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as told:
      text = told.read()
    os.waitpid(pid, 0)
  fields = json.loads(text)
  return Confinement(tuple(fields["layers"]), fields["missing"])


def _landlock(files: list[str], scratch: str, own_scratch: bool) -> None:
  landlock.restrict(
    [*files, *readable.PROC_FILES],
    # On a disk that others use it could fill that.
    [scratch] if own_scratch else [],
    devices=readable.DEVICES,
  )


def _limit(deadline_s: float, pinned: bool) -> None:
  """Limits what the deadline would stop, where it might not."""
  seconds = deadline_s * (1 if pinned else os.cpu_count() or 1) + _SPARE_CPU_S
  for what, most in (
    (resource.RLIMIT_CPU, math.ceil(seconds)),
    (resource.RLIMIT_NOFILE, _OPEN_FILES),
  ):
    with contextlib.suppress(ValueError, OSError):
      hard = resource.getrlimit(what)[1]
      if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
      resource.setrlimit(what, (most, most))
  # If memory runs out, this process goes and not the Engineer.
  with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as f:
    f.write("1000")


def _hide_accelerators() -> None:
  """Makes JAX, if it is loaded, forget devices that it cannot reach here."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax = sys.modules.get("jax")
  if jax is not None:
    jax.config.update("jax_platforms", "cpu")


def _main() -> int:
  result = available()
  print("layers:", ", ".join(result.layers) or "none")
  for name, why in result.missing.items():
    print(f"missing: {name} ({why})")
  print("holds a hostile Program:", "yes" if result.holds else "no")
  return 0 if result.holds else 1


if __name__ == "__main__":
  sys.exit(_main())
