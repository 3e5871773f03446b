"""`python -m launch.bench COMMAND [--json=PATH]`: measures.

COMMAND is rounds, start, train, kernels, claims (false Claims and power, on
made-up measurements) or samplers (on the search tree that ASI-Arch published).
The exit code is 1 where one of our kernels fails: it does not compile for a
TPU, or on a GPU it does not run or differs from the token recurrence. On a CPU
kernels are timed in a process that keeps the memory it frees, as a trainer's
does. It is 3 where kernels cannot be compiled for a TPU because libtpu is not
here: nothing was checked.

Every figure is written with the machine, the commit and the versions.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# As the supervisor sets it for the roles; before anything loads numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from absl import app, flags, logging
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asi_evolve_jax.evaluation import machine

_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")
_SIZES = flags.DEFINE_list(
  "sizes", ["0", "1000", "10000", "100000"], "rounds: records in the store."
)
_ROUNDS = flags.DEFINE_integer(
  "rounds", 200, "rounds: rounds timed a size.", lower_bound=8
)
_REPEATS = flags.DEFINE_integer(
  "repeats", 5, "start, kernels: times each is timed.", lower_bound=1
)
_STEPS = flags.DEFINE_integer("steps", 8, "train: steps timed.", lower_bound=2)
_MIXERS = flags.DEFINE_list(
  "mixers", ["gated_deltanet", "softmax"], "train: baselines timed."
)

_ON = flags.DEFINE_enum(
  "on",
  None,
  [
    "cpu",
    "gpu",
    "gpu-small",
    "tpu",
    "tpu-small",
    "tpu-search",
    "tpu-xla",
    "tpu-lengths",
  ],
  "kernels: the device; tpu compiles ahead of time and gives modelled cycles. "
  "By default the GPU if there is one, else the CPU.",
)
_TIMES = flags.DEFINE_list(
  "times",
  ["256", "1024", "4096"],
  "kernels: lengths timed on the CPU, multiples of 64 (the chunk of MaxText's "
  "form).",
)
_DIMS = flags.DEFINE_list("dims", ["32"], "kernels: of heads, on the CPU.")
flags.register_validator(
  "times",
  lambda texts: _whole(texts, 64),
  message="lengths are multiples of 64, as in --times=256,1024.",
)
flags.register_validator(
  "dims",
  lambda texts: _whole(texts, 1),
  message="dims are whole numbers, as in --dims=32,64.",
)

_RUNS = flags.DEFINE_integer(
  "runs", 2000, "claims: simulated runs a row.", lower_bound=4
)

_FORMS = flags.DEFINE_list(
  "forms", ["pallas_tpu", "deltanet-tpu"], "kernels on tpu: what is compiled."
)
_FIGURE = flags.DEFINE_string(
  "figure", None, "kernels on tpu-lengths: PNG to draw."
)

_SEEDS = flags.DEFINE_integer(
  "seeds", 200, "samplers: replays of each.", lower_bound=2
)

COMMANDS = ("rounds", "start", "train", "kernels", "claims", "samplers")
NOT_CHECKED = 3


def _whole(texts: list[str] | None, unit: int) -> bool:
  """Whether there are some and each is a multiple of `unit`."""
  return bool(texts) and all(
    text.isdecimal() and int(text) and not int(text) % unit for text in texts
  )


def main(argv: list[str]) -> int:
  if len(argv) != 2 or argv[1] not in COMMANDS:
    print(
      f"usage: python -m launch.bench {'|'.join(COMMANDS)} [--json=PATH]",
      file=sys.stderr,
    )
    return 2
  if _JSON.value and not Path(_JSON.value).resolve().parent.is_dir():
    print(f"--json: no folder for {_JSON.value}", file=sys.stderr)
    return 2
  logging.set_verbosity(logging.WARNING)
  rows: list[dict[str, Any]] = []
  report = {
    "command": " ".join(["python -m launch.bench", *sys.argv[1:]]),
    "date": time.strftime("%Y-%m-%d"),
    "commit": machine.commit(),
    "machine": machine.machine(),
    "versions": machine.versions(),
    "figures": rows,
  }
  on = _ON.value or ""
  if argv[1] == "kernels" and on.startswith("tpu"):
    from pallas_kernels.benchmarks import tpu

    try:
      tpu.require_libtpu()
    except tpu.NotCheckedError as error:
      print(error, file=sys.stderr)
      return NOT_CHECKED
  interrupted = _note_interrupts()
  try:
    for row in _measure(argv[1]):
      rows.append(row)
      # Some rows take minutes: who stops early keeps those that are there.
      _write(report)
      if interrupted():
        break
  except KeyboardInterrupt:
    _write(report)  # the signal may have come while it was written
  _print(argv[1], rows)
  if interrupted():
    print(f"stopped: {len(rows)} rows were measured", file=sys.stderr)
    sys.stdout.flush()
    # XLA may be at work in other threads: taking it down would crash.
    os._exit(128 + signal.SIGINT)
  refused = [r for r in rows if "refused" in r and r["form"] == "pallas_tpu"]
  if refused:
    print(f"{len(refused)} kernels do not compile: {refused}", file=sys.stderr)
  failed = [r for r in rows if argv[1] == "kernels" and "failed" in r]
  if failed:
    print(f"{len(failed)} kernels fail: {failed}", file=sys.stderr)
  return 1 if refused or failed else 0


def _note_interrupts() -> Callable[[], bool]:
  """Returns what tells whether SIGINT came, which still raises.

  Python drops an exception raised inside a weak reference's callback or a
  finaliser, and JAX has many: a run stopped there would go on.
  """
  seen: list[int] = []

  def note(number: int, frame: types.FrameType | None) -> None:
    seen.append(number)
    signal.default_int_handler(number, frame)

  signal.signal(signal.SIGINT, note)
  return lambda: bool(seen)


def _write(report: dict[str, Any]) -> None:
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(report, indent=1) + "\n")


def _measure(command: str) -> Iterable[dict[str, Any]]:
  # Imported here: one benchmark must not pay for another's imports.
  if command == "rounds":
    from asi_evolve_jax.supervisor.benchmark import bench_rounds

    sizes = [int(size) for size in _SIZES.value]
    return bench_rounds(sizes, _ROUNDS.value)
  if command == "start":
    from asi_evolve_jax.evaluation.benchmark import bench_start

    return [bench_start(_REPEATS.value)]
  if command == "kernels":
    return _kernels()
  if command == "claims":
    from asi_evolve_jax.evaluation.trials import bench_claims

    return bench_claims(_RUNS.value)
  if command == "samplers":
    from asi_evolve_jax.search.published_tree import bench_samplers
    from asi_evolve_jax.search.registry import SAMPLERS

    return bench_samplers(list(SAMPLERS), _SEEDS.value)
  from asi_evolve_jax.tracks.architecture.benchmark import bench_train

  return bench_train(_MIXERS.value, _STEPS.value)


def _kernels() -> Iterable[dict[str, Any]]:
  on = _ON.value
  if on is not None and on.startswith("tpu"):
    from pallas_kernels.benchmarks import tpu

    if on == "tpu-lengths":
      return _lengths()
    if on == "tpu-search":
      jobs = list(tpu.search_jobs())
      return track(tpu.search(jobs), total=len(jobs))
    if on == "tpu-xla":
      jobs = list(tpu.xla_jobs())
    else:
      jobs = list(tpu.jobs(_FORMS.value, full=on == "tpu"))
    return track(tpu.run(jobs), total=len(jobs))
  import jax

  from asi_evolve_jax.training import allocator
  from pallas_kernels.benchmarks import mixers, timing

  def shown(rows: Iterable[dict[str, Any]], sizes: int) -> Iterable[Any]:
    # Drawn once a second: a bar must not take time from what is timed.
    total = sizes * len(mixers.MIXERS)
    return track(rows, total=total, refresh_per_second=1)

  if on is None:
    on = "gpu" if jax.default_backend() == "gpu" else "cpu"
  if on == "gpu-small":
    sizes = timing.GPU_REHEARSAL
    return shown(timing.bench_gpu(sizes, 1), len(sizes))
  if on == "gpu":
    sizes = timing.GPU_SIZES + timing.GPU_DIMS
    return shown(timing.bench_gpu(sizes, _REPEATS.value), len(sizes))
  # As the trainer does: without it a large share of the time is page faults.
  allocator.keep_freed_memory()
  times = tuple(int(time) for time in _TIMES.value)
  dims = tuple(int(dim) for dim in _DIMS.value)
  rows = timing.bench_cpu(times, dims, _REPEATS.value)
  return shown(rows, len(times) * len(dims))


def _lengths() -> list[dict[str, Any]]:
  from asi_evolve_jax.reporting.figures import draw_lines
  from pallas_kernels.benchmarks import lengths

  jobs = list(lengths.jobs())
  rows = list(track(lengths.run(jobs), total=len(jobs)))
  if _FIGURE.value:
    draw_lines(
      lengths.lines(rows),
      "tokens",
      "modelled cycles a head, forward and backward",
      Path(_FIGURE.value),
    )
  return rows


def _print(command: str, rows: list[dict[str, Any]]) -> None:
  table = Table(title=f"bench {command}")
  names = list(dict.fromkeys(name for row in rows for name in row))
  for name in names:
    table.add_column(name.replace("_", " "), justify="right")
  for row in rows:
    table.add_row(*[_cell(row.get(name)) for name in names])
  # A file has no width: columns are not to be squeezed into 80 characters.
  width = None if sys.stdout.isatty() else max(80, 16 * len(names))
  Console(width=width).print(table)


def _cell(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
  app.run(main)
