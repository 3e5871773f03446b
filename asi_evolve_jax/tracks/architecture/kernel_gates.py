"""Gates for what a Program computes on the platform that it is meant for.

A mixer on TPUs runs other code than on the machine that judges it: a Pallas
kernel, of pallas_kernels or of its own, instead of the XLA form. Two questions
can be answered without the hardware: whether both compute the same, and
whether the kernel compiles for it.

They judge Artifacts, made elsewhere (forms.py says which).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from asi_evolve_jax.evaluation import cost
from asi_evolve_jax.evaluation.gates import MAX_EXCESS, Rejected
from asi_evolve_jax.programs import artifact, exported
from asi_evolve_jax.programs.preflight import preflight
from asi_evolve_jax.tracks.architecture.probe import Probe
from pallas_kernels.ahead_of_time.compiler import NotCheckedError

# Gradients far smaller than the largest are what is left of terms that cancel:
# below this share of it they count on its scale.
_SMALL = 1 / 32


def check_forms(
  plain: artifact.LoadedMixer,
  kernel: artifact.LoadedMixer,
  depth: np.float32,
  seed: int = 0,
) -> None:
  """Rejects a mixer whose kernels compute something else than its XLA form.

  Values and all gradients, at moved parameters. Half of the digits of the
  dtype must agree: both forms round, in different orders, and what a kernel
  gets wrong is larger.

  Args:
    plain: as this platform runs it.
    kernel: with its kernels as plain operations, at the same shape.
    depth: of the layer that is asked.
    seed: of parameters and inputs.

  Raises:
    Rejected: names what differs, where and by how much.
  """
  if plain.header.artifact_hash == kernel.header.artifact_hash:
    return  # it has no kernel: one form for all platforms
  _check_same(
    _results(plain, depth, seed),
    _results(kernel, depth, seed),
    plain.header.dtype,
    "the kernel and the form that runs without it",
    "correct the kernel or its derivative",
  )


def check_platform(
  plain: artifact.LoadedMixer,
  form: artifact.LoadedMixer,
  depth: np.float32,
  seed: int = 0,
) -> None:
  """Rejects a form that computes, or costs, other things than the CPU's.

  Asked of what has no kernel in it, which this machine can run: nothing else
  of a form for another platform is seen by the gates.

  Args:
    plain: for the CPU, at all lengths of the other.
    form: what trains on another platform.
    depth: of the layer that is asked.
    seed: of parameters and inputs.

  Raises:
    Rejected: names what differs, where and by how much.
  """
  name = form.header.platform
  for time in form.header.times:
    function = form.functions[f"apply.{time}"]
    if not _runs_here(function):
      continue
    found = _cost(function)
    expected = _cost(plain.functions[f"apply.{time}"])
    for what in ("flops", "bytes"):
      most = MAX_EXCESS * getattr(expected, what)
      if getattr(found, what) > most:
        raise Rejected(
          f"at length {time} it takes {getattr(found, what):.3g} {what} on "
          f"{name}, at most {most:.3g} would follow from what it takes on a "
          "CPU. Compute the same on every platform."
        )
  if _runs_here(form.functions[f"apply.{form.header.time}"]):
    _check_same(
      _results(plain, depth, seed),
      _results(_Here(form, plain), depth, seed),
      plain.header.dtype,
      f"{name} and the CPU",
      "compute the same on every platform",
    )


class _Here(artifact.LoadedMixer):
  """A mixer of another platform, without kernels, that runs on this one."""

  def __init__(self, mixer: artifact.LoadedMixer, plain: artifact.LoadedMixer):
    super().__init__(mixer.header, mixer.functions)
    self._plain = plain

  def init(self, key: jax.Array) -> dict[str, Any]:
    function = self.functions["init"]
    if not _runs_here(function):
      return self._plain.init(key)
    params: Any = _here(function.exported).call(key)
    return params

  def apply(self, params: Any, x: jax.Array, depth: jax.Array) -> jax.Array:
    function = self.functions[f"apply.{x.shape[1]}"]
    assert function.pullback is not None  # artifact.load sees to it
    forward, backward = _here(function.exported), _here(function.pullback)

    @jax.custom_vjp
    def run(*args: Any) -> jax.Array:
      return forward.call(*args)

    def pull(args: Any, dy: jax.Array) -> Any:
      leaves, tree = jax.tree.flatten(args)
      return jax.tree.unflatten(tree, backward.call(*leaves, dy))

    run.defvjp(lambda *args: (forward.call(*args), args), pull)
    return run(params, x, depth)


def _here(function: jax.export.Exported) -> jax.export.Exported:
  return dataclasses.replace(function, platforms=("cpu",))


def _runs_here(function: exported.Function) -> bool:
  modules = [function.module, function.derivative]
  known = exported.CUSTOM_CALLS["cpu"]
  return all(m is None or m.custom_calls <= known for m in modules)


def _cost(function: exported.Function) -> cost.Cost:
  assert function.derivative is not None
  return cost.cost(function.module) + cost.cost(function.derivative)


def _check_same(
  want: dict[str, np.ndarray],
  got: dict[str, np.ndarray],
  dtype: str,
  between: str,
  advice: str,
) -> None:
  tolerance = math.sqrt(float(np.finfo(np.float32).eps))
  if dtype == "bfloat16":
    tolerance = math.sqrt(2.0**-7)
  gradients = [n for n in want if n.startswith("the gradient")]
  largest = max(_size(want[name]) for name in gradients)
  for name, values in want.items():
    floor = _SMALL * largest if name in gradients else 0.0
    scale = max(_size(values), floor)
    error = np.abs(got[name] - values)
    allowed = tolerance * (scale + np.abs(values))
    # Not (error <= allowed) where one of them is no number.
    wrong = ~(error <= allowed)
    if wrong.any():
      at = np.unravel_index(np.argmax(wrong), wrong.shape)
      raise Rejected(
        f"{name} differs between {between}: {got[name][at]:.6g} where that "
        f"gives {values[at]:.6g}, at "
        f"{[int(i) for i in at]} of {list(wrong.shape)} and "
        f"{int(wrong.sum())} places in all, more than {tolerance:.1g} of the "
        f"scale. Both must compute the same, forwards and backwards: {advice}."
      )


def check_compiles(
  payload: bytes,
  topologies: tuple[str, ...],
  timeout_s: float,
  *,
  counted: bool = False,
) -> dict[str, Any]:
  """Compiles an Artifact for TPU topologies, in a process of its own.

  Args:
    payload: an Artifact for "tpu".
    topologies: such as "v5e:4x4".
    timeout_s: for all of them.
    counted: whether the Program is ranked by its cycles.

  Returns:
    For the report: "preflight", by topology the bytes of temporaries, modelled
    cycles and seconds of compiling, or "not checked" and why, as where there is
    no libtpu; and "modelled_cycles" of the first that was. A kernel whose
    loops depend on what it computes has no number of cycles, and claims none.

  Raises:
    Rejected: if one of them cannot run it, with the compiler's reason, or if
      its cycles are counted and cannot be.
  """
  try:
    found = preflight(payload, topologies, timeout_s)
  except NotCheckedError as error:
    return {"preflight": str(error)}
  return report_compiled(found, counted=counted)


def report_compiled(
  found: Sequence[Mapping[str, Any]], *, counted: bool
) -> dict[str, Any]:
  """Returns what `check_compiles` does, of the answers of `preflight`."""
  summary: dict[str, Any] = {}
  cycles = []
  for result in found:
    topology = result["topology"]
    if "not checked" in result:
      summary[topology] = f"not checked: {result['not checked']}"
      continue
    if "refused" in result:
      raise Rejected(
        f"it does not compile for {topology}: {result['refused']} Change the "
        "kernel, its blocks or its schedule so that TPUs take it."
      )
    summary[topology] = {
      "temp_bytes": result["temp_bytes"],
      "compile_s": result["seconds"],
    }
    for name, why in result["unread"].items():
      if counted:
        raise Rejected(f"its kernel {name} has no number of cycles: {why}")
      summary[topology]["modelled_cycles"] = f"not checked: {name}: {why}"
    if not result["unread"]:
      kernels = sum(each * steps for each, steps in result["kernels"].values())
      cycles.append(kernels + result["xla_cycles"])
      summary[topology]["modelled_cycles"] = cycles[-1]
  first = {"modelled_cycles": cycles[0]} if cycles else {}
  return {"preflight": summary, **first}


def _results(
  mixer: artifact.LoadedMixer, depth: np.float32, seed: int
) -> dict[str, np.ndarray]:
  results = Probe(mixer, seed).moved_results(depth)
  return {name: np.asarray(v, np.float64) for name, v in results.items()}


def _size(x: np.ndarray) -> float:
  return float(np.sqrt(np.mean(np.square(x))))
