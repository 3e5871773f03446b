"""Times forms in turn, so that a drifting machine is fair to all of them."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.benchmarks import forms
from pallas_kernels.benchmarks.mixers import MIXERS, Size, arguments

CPU_TIMES = (256, 1024, 4096)
_CPU_TOKENS = 4096
GPU_SIZES = (Size(1, 8192, 96, 128), Size(2, 16384, 16, 128))
GPU_DIMS = (
  Size(4, 4096, 16, 64),
  Size(4, 4096, 16, 128),
  Size(4, 4096, 16, 256),
)
# Without a GPU the same command runs in the interpreter: errors mean what they
# mean on one, times mean nothing.
GPU_REHEARSAL = (Size(1, 64, 2, 16),)


def bench_cpu(times: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
  """Times forward plus backward on this CPU; returns a row a mixer and time.

  Every row holds milliseconds of the chunked form, the token scan and, for
  Gated DeltaNet, the public chunked form, and the ratios to the first.
  """
  rows = []
  for length in times:
    size = Size(max(1, _CPU_TOKENS // length), length, 4, 32)
    for name, mixer in MIXERS.items():
      args = arguments(mixer, size, jnp.float32)
      steps = {
        "xla": forms.own(name, "xla"),
        "token scan": forms.own(name, "reference"),
      }
      if name == "Gated DeltaNet":
        steps["autodiff chunks of 64"] = forms.autodiff_chunks()
      timed = _in_turn({n: _step(f, args) for n, f in steps.items()}, repeats)
      rows.append({"mixer": name, **size._asdict(), **_ratios(timed, "xla")})
  return rows


def bench_gpu(sizes: tuple[Size, ...], repeats: int) -> list[dict[str, Any]]:
  """Checks and times every kernel on this GPU, bfloat16.

  On a machine without one kernels are interpreted: see GPU_REHEARSAL.

  A row holds the error against the token recurrence, milliseconds of forward
  and of forward plus backward of every form, ratios to our kernel, and the
  shares of the measured bandwidth and matrix rate that our kernel reaches.
  """
  large = jax.default_backend() == "gpu"
  rate = _matrix_rate(8192 if large else 512)
  bandwidth = _bandwidth(1 << 28 if large else 1 << 20)
  rows = []
  for size in sizes:
    for name, mixer in MIXERS.items():
      args = arguments(mixer, size, jnp.bfloat16)
      row: dict[str, Any] = {"mixer": name, **size._asdict()}
      row["interpreted"] = not large
      row["error"] = _error(name, size)
      for what in ("forward", "step"):
        steps, missing = _gpu_forms(name, args, what)
        timed = _in_turn(steps, repeats)
        ratios = _ratios(timed, "pallas_gpu")
        row |= {f"{what} {key}": value for key, value in ratios.items()}
        row |= missing
      moved = sum(x.nbytes for x in args.values()) + args["v"].nbytes
      seconds = row.get("forward pallas_gpu ms", float("nan")) / 1e3
      row["share of bandwidth"] = moved / seconds / bandwidth
      row["matrix rate, TFLOP/s"] = rate / 1e12
      rows.append(row)
  return rows


def _gpu_forms(
  name: str, args: Mapping[str, jax.Array], what: str
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
  make = _step if what == "step" else _forward
  steps: dict[str, Callable[[], Any]] = {}
  missing: dict[str, str] = {}
  makers: dict[str, Callable[[], Callable[[], Any]]] = {
    "pallas_gpu": lambda: make(forms.own(name, "pallas_gpu"), args),
    "xla": lambda: make(forms.own(name, "xla"), args),
    "jla": lambda: make(forms.jla(name), args),
    "fla": lambda: _torch_step(forms.fla(name), args, what == "step"),
  }
  for form, maker in makers.items():
    try:
      step = maker()
      step()
      steps[form] = step
    except LookupError as error:
      missing[form] = str(error)
    except Exception as error:  # a peer may refuse a shape or a device
      missing[form] = f"failed: {str(error)[:200]}"
  return steps, missing


def _forward(form: Callable[..., jax.Array], args: Mapping[str, jax.Array]):
  run = jax.jit(lambda args: form(**args))
  return lambda: jax.block_until_ready(run(dict(args)))


def _step(form: Callable[..., jax.Array], args: Mapping[str, jax.Array]):
  """Returns a call of value and gradient for all arguments."""

  def loss(args):
    return jnp.sum(form(**args).astype(jnp.float32) ** 2)

  run = jax.jit(jax.value_and_grad(loss))
  return lambda: jax.block_until_ready(run(dict(args)))


def _torch_step(form: Callable[..., Any], args: Mapping[str, Any], back: bool):
  torch: Any = importlib.import_module("torch")
  tensors = {
    name: torch.from_dlpack(x).detach().requires_grad_(back)
    for name, x in args.items()
  }

  def run():
    out = form(**tensors)
    if back:
      torch.autograd.grad((out.float() ** 2).sum(), list(tensors.values()))
    torch.cuda.synchronize()

  return run


def _in_turn(
  steps: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
  for step in steps.values():
    step()  # compiles
  times: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(repeats):
    for name, step in steps.items():
      start = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - start)
  return times


def _ratios(times: Mapping[str, list[float]], base: str) -> dict[str, float]:
  """Medians, and medians of the ratios within a turn."""
  row = {f"{n} ms": 1e3 * statistics.median(t) for n, t in times.items()}
  for name, taken in times.items():
    if name != base and base in times:
      ratios = [a / b for a, b in zip(taken, times[base], strict=True)]
      row[f"{name} / {base}"] = statistics.median(ratios)
  return row


def _error(name: str, size: Size) -> float:
  """Largest error of the kernel relative to the largest entry, 512 tokens."""
  small = Size(1, min(512, size.time), 2, size.dim)
  args = arguments(MIXERS[name], small, jnp.bfloat16)
  got = np.asarray(forms.own(name, "pallas_gpu")(**args), np.float32)
  want = np.asarray(forms.own(name, "reference")(**args), np.float32)
  return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def _matrix_rate(size: int) -> float:
  x = jnp.ones((size, size), jnp.bfloat16)
  run = jax.jit(lambda x: x @ x)
  times = _in_turn({"x": lambda: jax.block_until_ready(run(x))}, 10)["x"]
  return 2 * size**3 / statistics.median(times)


def _bandwidth(size: int) -> float:
  x = jnp.ones((size,), jnp.float32)
  run = jax.jit(lambda x: x + 1)
  times = _in_turn({"x": lambda: jax.block_until_ready(run(x))}, 10)["x"]
  return 2 * x.nbytes / statistics.median(times)
