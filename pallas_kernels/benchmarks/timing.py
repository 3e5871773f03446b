"""Times forms in turn, so that a drifting machine is fair to all of them."""

from __future__ import annotations

import importlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.benchmarks import forms
from pallas_kernels.benchmarks.mixers import MIXERS, Size, arguments
from pallas_kernels.shared import pallas_gpu

_CPU_TOKENS = 4096
# Calls of each form on CPU before those that are timed: the heap grows in the
# first ones, and page faults on a gigabyte of states take longer than the scan.
_CPU_WARM_UP = 4
# Those that flash-linear-attention's README publishes times of.
GPU_SIZES = (
  Size(1, 8192, 96, 128),
  Size(2, 16384, 16, 128),
  Size(4, 2048, 16, 128),
  Size(4, 4096, 64, 128),
  Size(8, 1024, 8, 64),
  Size(8, 2048, 32, 256),
)
GPU_DIMS = (
  Size(4, 4096, 16, 64),
  Size(4, 4096, 16, 128),
  Size(4, 4096, 16, 256),
)
# Without a GPU the same command runs in the interpreter: errors mean what they
# mean on one, times mean nothing.
GPU_REHEARSAL = (Size(1, 64, 2, 16),)
# Rounding an entry to bfloat16 errs by 2^-9 of it; a result is the sum of few
# chains of such roundings, and is rounded itself.
TOLERANCE = 2**-6


def bench_cpu(
  times: tuple[int, ...], dims: tuple[int, ...], repeats: int
) -> Iterator[dict[str, Any]]:
  """Times forward plus backward on this CPU; yields a row a mixer and size.

  Every row holds milliseconds of the chunked form, the token scan and, for
  Gated DeltaNet, the public chunked form, and the ratios to the first. A
  process that keeps the memory it frees, as a trainer does, times the forms
  and not the kernel's page faults: launch.bench makes this one so.
  """
  for dim, length in itertools.product(dims, times):
    size = Size(max(1, _CPU_TOKENS // length), length, 4, dim)
    for name, mixer in MIXERS.items():
      args = arguments(mixer, size, jnp.float32)
      steps = {
        "xla": forms.own(name, "xla"),
        "token scan": forms.own(name, "reference"),
      }
      if name == "Gated DeltaNet":
        steps["autodiff chunks of 64"] = forms.autodiff_chunks()
      steps = {n: _step(f, args) for n, f in steps.items()}
      timed = _in_turn(steps, repeats, warm_up=_CPU_WARM_UP)
      yield {"mixer": name, **size._asdict(), **_ratios(timed, "xla")}


def bench_gpu(
  sizes: tuple[Size, ...], repeats: int
) -> Iterator[dict[str, Any]]:
  """Checks and times every kernel on this GPU, bfloat16; yields a row each.

  On a machine without one kernels are interpreted: see GPU_REHEARSAL.

  A row holds the errors against the token recurrence (`errors`), those of the
  public kernels' outputs too where they run ("error of jla"), milliseconds
  of forward and of forward plus backward of every form, ratios to our kernel,
  and the shares of the measured bandwidth and matrix rate that our kernel
  reaches: by `Cost`, a backward pass as 2.5 forward passes. "failed" says what
  is wrong with our kernel: an error beyond TOLERANCE, or what it raised.
  """
  large = jax.default_backend() == "gpu"
  rate = _matrix_rate(8192 if large else 512)
  bandwidth = _bandwidth(1 << 28 if large else 1 << 20)
  for size in sizes:
    for name in MIXERS:
      row: dict[str, Any] = {"mixer": name, **size._asdict()}
      row["interpreted"] = not large
      row["matrix rate, TFLOP/s"] = rate / 1e12
      row["bandwidth, GB/s"] = bandwidth / 1e9
      try:
        _measure(row, name, size, repeats, rate, bandwidth)
      except Exception as error:  # the other rows are still to come
        row["failed"] = f"{type(error).__name__}: {str(error)[:200]}"
      yield row


def _measure(
  row: dict[str, Any],
  name: str,
  size: Size,
  repeats: int,
  rate: float,
  bandwidth: float,
) -> None:
  """Fills a row of `bench_gpu` in."""
  row |= {f"error of {what}": x for what, x in errors(name, size).items()}
  worst = max((x, n) for n, x in row.items() if n.startswith("error of "))
  if not worst[0] <= TOLERANCE:
    row["failed"] = f"{worst[1]}: {worst[0]:.2g}, more than {TOLERANCE:.2g}"
  row |= peer_errors(name, size)  # after ours: theirs fail no row
  args = arguments(MIXERS[name], size, jnp.bfloat16)
  chunk = pallas_gpu.default_chunk(size.dim, low=True)
  flops = MIXERS[name].forward_cost(size, chunk, 2).flops
  given = sum(x.nbytes for x in args.values())
  # Forward reads the arguments and writes out; backward reads both, and its
  # cotangent, and writes the gradients.
  work = {
    "forward": (flops, given + args["v"].nbytes),
    "step": (3.5 * flops, 3 * given + 2 * args["v"].nbytes),
  }
  for what, (flops, moved) in work.items():
    steps, missing = _gpu_forms(name, args, what)
    row |= {f"{what} {form}": why for form, why in missing.items()}
    if "pallas_gpu" in missing:
      row.setdefault("failed", f"{what}: {missing['pallas_gpu']}")
    ratios = _ratios(_in_turn(steps, repeats), "pallas_gpu")
    row |= {f"{what} {key}": value for key, value in ratios.items()}
    if "pallas_gpu" in steps:
      seconds = row[f"{what} pallas_gpu ms"] / 1e3
      row[f"{what} share of matrix rate"] = flops / seconds / rate
      row[f"{what} share of bandwidth"] = moved / seconds / bandwidth


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
  steps: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
  for _ in range(warm_up):
    for step in steps.values():
      step()
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


def errors(
  name: str, size: Size, implementation: str = "pallas_gpu"
) -> dict[str, float]:
  """Compares a kernel in bfloat16 with the token recurrence in float32.

  Args:
    name: of MIXERS.
    size: of the arguments, of which 2 heads, a row and 512 tokens are compared.
    implementation: of the kernel.

  Returns:
    The largest error of out, the final state and each gradient, relative to
    the largest entry; infinite where one is not finite.
  """
  low = arguments(MIXERS[name], _small(size), jnp.bfloat16)

  def values(form: str, args: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def project(args):
      out, state = MIXERS[name].function(**args, implementation=form)
      total = _waved(out.astype(jnp.float32)) + _waved(state)
      return total, {"out": out, "state": state}

    grads, outs = jax.jit(jax.grad(project, has_aux=True))(args)
    return outs | {f"d{n}": x for n, x in grads.items()}

  wide = {n: x.astype(jnp.float32) for n, x in low.items()}
  got, want = values(implementation, low), values("reference", wide)
  return {n: _relative(got[n], want[n]) for n in want}


def peer_errors(name: str, size: Size) -> dict[str, float | str]:
  """Compares the outputs of public kernels with the token recurrence.

  Who computes something else is no rival: ratios of times then mean nothing.

  Args:
    name: of MIXERS.
    size: as in `errors`.

  Returns:
    "error of jla" and "error of fla", as in `errors`, or what a peer raised;
    nothing of those that are not installed or have no such mixer.
  """
  low = arguments(MIXERS[name], _small(size), jnp.bfloat16)
  wide = {n: x.astype(jnp.float32) for n, x in low.items()}
  found: dict[str, float | str] = {}
  for peer, look_up in {"jla": forms.jla, "fla": forms.fla}.items():
    try:
      form = look_up(name)
    except LookupError:
      continue  # the row says so beside its time
    try:
      got = form(**low) if peer == "jla" else _torch_out(form, low)
      want = forms.own(name, "reference")(**wide)
      found[f"error of {peer}"] = _relative(got, want)
    except Exception as error:  # a peer may refuse a shape or a device
      found[f"error of {peer}"] = f"failed: {str(error)[:200]}"
  return found


def _small(size: Size) -> Size:
  return Size(1, min(512, size.time), 2, size.dim)


def _torch_out(form: Callable[..., Any], args: Mapping[str, Any]) -> Any:
  torch: Any = importlib.import_module("torch")
  out = form(**{name: torch.from_dlpack(x) for name, x in args.items()})
  return out.detach().float().cpu().numpy()


def _waved(x: jax.Array) -> jax.Array:
  """Returns a projection of x, none of whose entries weigh the same."""
  return jnp.sum(x * jnp.cos(jnp.arange(x.size)).reshape(x.shape))


def _relative(got: jax.Array, want: jax.Array) -> float:
  exact = np.asarray(want, np.float64)
  error = np.max(np.abs(np.asarray(got, np.float64) - exact))
  error = float(error / np.max(np.abs(exact)))
  return error if np.isfinite(error) else float("inf")


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
