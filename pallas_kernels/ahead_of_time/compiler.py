"""Compiles a function for a TPU topology and reads the schedule.

libtpu compiles for any TPU on any Linux machine. The schedule of a Mosaic
kernel is static: a bundle of instructions a cycle, so its bundles are the
cycles when nothing waits for memory (schedule.py). XLA's own fusions carry an
estimate each. Both are models, not timings.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from pallas_kernels.ahead_of_time.schedule import (
  Kernel,
  UnreadError,
  schedule,
)

_ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",
  # The lock keeps a chip for one process; here is none to keep.
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_LOG_DIR": "disabled",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_WORKER_HOSTNAMES": "localhost",
}
_KERNEL_DUMP = re.compile(r"^\d+-(?P<name>[\w.\-]+?)-\d+-final_bundles\.txt$")
_KERNEL = re.compile(
  r'%([\w.\-]+) = [^\n]*custom_call_target="tpu_custom_call"'
)
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NO_ESTIMATE = 2**60  # libtpu writes 2^61 cycles for what it cannot model
_COMPUTATION = re.compile(r"(?:ENTRY )?%([\w.\-]+)")
_WHILE = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
_INTEGER = re.compile(r" = [su]\d+\[\]\S* constant\((\d+)\)")


class NotCheckedError(RuntimeError):
  """There is no libtpu here, so nothing can be said."""


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says of one program on one device.

  Attributes:
    kernels: by name.
    unread: why there is no schedule of a kernel, by name, or no estimate of
      "XLA's fusions". Where there is one, no sum of cycles is that of the
      program.
    xla_cycles: sum over XLA's fusions, loop bodies times their trips.
    temp_bytes: HBM for temporaries.
    argument_bytes, output_bytes: of HBM.
    collectives: instructions that cross devices, by opcode.
    seconds: of lowering and compiling.
  """

  kernels: dict[str, Kernel]
  unread: dict[str, str]
  xla_cycles: int
  temp_bytes: int
  argument_bytes: int
  output_bytes: int
  collectives: dict[str, int]
  seconds: float


class Compiler:
  """The one compiler of this process; make it before jax does anything.

  Raises:
    NotCheckedError: if libtpu is not installed.
  """

  def __init__(self) -> None:
    if importlib.util.find_spec("libtpu") is None:
      raise NotCheckedError(
        "not checked: libtpu is not installed. Install "
        "'asi_evolve_jax[tpu-aot]' into an environment of its own."
      )
    self._dump = Path(tempfile.mkdtemp(prefix="tpu-schedule-"))
    os.environ.update(_ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")  # read when jax was imported
    # The last pass alone: all of them take longer to write than to compile.
    os.environ["LIBTPU_INIT_ARGS"] = (
      f"--xla_jf_dump_to={self._dump} --xla_jf_dump_llo_text=true "
      "--xla_jf_dump_llo_pass_label_regex=final_bundles"
    )

  def close(self) -> None:
    shutil.rmtree(self._dump, ignore_errors=True)

  def devices(self, topology: str) -> list[Any]:
    """Returns the devices of a topology such as "v5e:2x2" or "v6e:4x4"."""
    from jax.experimental import topologies

    self._say_which_chip(topology)
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=topology
    )
    return list(described.devices)

  def compile(self, function: Callable[..., Any], *args: Any) -> Compiled:
    """Compiles `function` for the devices of its arguments' shardings.

    Args:
      function: to jit; its kernels must have been told the target "tpu".
      *args: trees of jax.ShapeDtypeStruct with shardings.

    Raises:
      Exception: whatever the compiler refuses with.
    """
    for path in self._dump.glob("*"):
      path.unlink()
    start = time.monotonic()
    traced = jax.jit(function).trace(*args)
    compiled = traced.lower(lowering_platforms=("tpu",)).compile()
    seconds = time.monotonic() - start
    text = compiled.as_text() or ""
    kernels, unread = self._kernels(text)
    try:
      cycles = xla_cycles(text)
    except UnreadError as error:
      cycles = 0
      unread["XLA's fusions"] = str(error)
    memory: Any = compiled.memory_analysis()
    return Compiled(
      kernels=kernels,
      unread=unread,
      xla_cycles=cycles,
      temp_bytes=int(memory.temp_size_in_bytes),
      argument_bytes=int(memory.argument_size_in_bytes),
      output_bytes=int(memory.output_size_in_bytes),
      collectives=_collectives(text),
      seconds=round(seconds, 1),
    )

  def _say_which_chip(self, topology: str) -> None:
    """Tells Pallas the chip: some lowerings ask the device of this process.

    By a registry that JAX does not document; where it is gone, those kernels
    are refused with "Unsupported TPU device kind".
    """
    generation = topology.split(":")[0].upper()
    try:
      from jax._src.pallas.mosaic import tpu_info

      chip = tpu_info.ChipVersion[f"TPU_{generation}"]
      tpu_info.registry["cpu"] = functools.partial(
        tpu_info.get_tpu_info_for_chip, chip, 1
      )
      tpu_info.get_tpu_info.cache_clear()
    except (ImportError, AttributeError, KeyError):
      return

  def _kernels(self, hlo: str) -> tuple[dict[str, Kernel], dict[str, str]]:
    """Returns the schedules of the kernels that are called, and what is not."""
    runs = _runs(hlo)
    calls = {}
    bodies = {}
    for computation, line in _lines(hlo):
      kernel = _KERNEL.search(line)
      if kernel is not None:
        calls[kernel[1]] = runs.get(computation, 1)
        bodies[kernel[1]] = line.partition("backend_config=")[2]
    unread = dict.fromkeys(calls, "libtpu has not written its schedule.")
    found = {}
    for path in self._dump.glob("*final_bundles.txt"):
      match = _KERNEL_DUMP.search(path.name)
      if match is None or match["name"] not in calls:
        continue
      # A body that is called twice is compiled, and written, once.
      body = bodies[match["name"]]
      same = [name for name in calls if bodies[name] == body]
      try:
        cycles, steps = schedule(path.read_text())
      except UnreadError as error:
        unread |= dict.fromkeys(same, str(error))
        continue
      for name in same:
        found[name] = Kernel(cycles, calls[name] * steps)
        unread.pop(name, None)
    return found, unread


def xla_cycles(hlo: str) -> int:
  """Returns the estimated cycles of compiled HLO, each loop body every trip.

  Raises:
    UnreadError: if libtpu has no estimate of a fusion.
  """
  runs = _runs(hlo)
  total = 0
  for computation, line in _lines(hlo):
    match = _CYCLES.search(line)
    if match:
      if int(match[1]) >= _NO_ESTIMATE:
        raise UnreadError("libtpu has no estimate of one.")
      total += int(match[1]) * runs.get(computation, 1)
  return total


def _runs(hlo: str) -> dict[str, int]:
  """Returns how often each loop body runs, by name, outer loops included.

  A scan's counter starts at 0 and is compared with a constant: the largest in
  the loop's condition counts as its trips, and 1 where there is none.
  """
  bounds: dict[str, int] = {}
  loops: dict[str, tuple[str, str]] = {}  # body -> its caller, its condition
  for computation, line in _lines(hlo):
    number, loop = _INTEGER.search(line), _WHILE.search(line)
    if number is not None:
      bounds[computation] = max(bounds.get(computation, 1), int(number[1]))
    if loop is not None:
      loops[loop[2]] = computation, loop[1]

  def runs(computation: str) -> int:
    if computation not in loops:
      return 1
    caller, condition = loops[computation]
    return runs(caller) * bounds.get(condition, 1)

  return {body: runs(body) for body in loops}


def _lines(hlo: str) -> Iterator[tuple[str, str]]:
  """Yields each line with the name of the computation that it is in."""
  computation = ""
  for line in hlo.splitlines():
    if line.startswith(("%", "ENTRY")):
      name = _COMPUTATION.match(line)
      computation = name[1] if name else ""
    yield computation, line


def _collectives(hlo: str) -> dict[str, int]:
  names = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
  names = (*names, "collective-permute")
  counts = {n: len(re.findall(rf" {n}(?:-start)?\(", hlo)) for n in names}
  return {name: count for name, count in counts.items() if count}
