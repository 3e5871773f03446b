"""Reads exported functions that come from a process nobody vouches for.

What passes takes and returns what it should, in its signature and in its
StableHLO alike, runs on one device of one platform, and calls nothing but
custom calls that compute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax import export

from asi_evolve_jax.programs import fingerprint, stablehlo

# Targets that compute and nothing else. Host callbacks and everything unknown
# stay out: an Artifact comes from a process that ran a stranger's code.
_LAPACK = frozenset(
  f"lapack_{kind}{name}_ffi"
  for kind in "sd"
  for name in ("trsm", "getrf", "geqrf", "orgqr", "potrf")
)
_ANYWHERE = frozenset(
  {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
)
CUSTOM_CALLS: dict[str, frozenset[str]] = {
  "cpu": _ANYWHERE | _LAPACK | {"AllocateBuffer"},
  "tpu": _ANYWHERE | {"tpu_custom_call", "AllocateBuffer"},
  "cuda": _ANYWHERE
  | {"cu_threefry2x32_ffi", "mosaic_gpu_v2", "AllocateBuffer"},
}
# Of constants, in numbers: masks and small tables. A model learned elsewhere
# does not fit, nor a good part of it.
_LEAST_CONSTANTS, _MOST_CONSTANTS = 1 << 10, 1 << 14
_PARAMETERS_A_CONSTANT = 8
_DTYPES = {
  **{f"float{n}": f"f{n}" for n in (16, 32, 64)},
  **{f"int{n}": f"i{n}" for n in (8, 16, 32, 64)},
  **{f"uint{n}": f"ui{n}" for n in (8, 16, 32, 64)},
  "bfloat16": "bf16",
  "bool": "i1",
}


class ArtifactError(ValueError):
  """An Artifact that cannot be made or must not be run."""


@dataclasses.dataclass(frozen=True)
class Function:
  """One exported function that passed.

  Attributes:
    exported: to be called.
    module: its StableHLO.
    derivative: that of its first derivative, if it must have one.
    pullback: that derivative; each `exported.vjp()` would decode it again.
  """

  exported: export.Exported
  module: stablehlo.Module
  derivative: stablehlo.Module | None = None
  pullback: export.Exported | None = None


def read(
  name: str,
  data: bytes,
  platform: str,
  takes: Any,
  gives: Any,
  *,
  parameters: int,
  derivative: bool,
) -> Function:
  """Returns the function in `data`.

  Args:
    name: for error messages.
    data: of `jax.export.Exported.serialize`.
    platform: what it must be for.
    takes: its arguments, a tuple of pytrees of ShapeDtypeStruct.
    gives: its result.
    parameters: how many numbers the mixer learns; says how many constants it
      may have.
    derivative: whether it must have a first derivative.

  Raises:
    ArtifactError: if it is damaged, or is not what it should be.
  """
  try:
    exported = export.deserialize(bytearray(data))
    module = stablehlo.Module(exported.mlir_module_serialized)
  except Exception as error:
    # The decoder raises whatever a damaged table makes it stumble over.
    raise ArtifactError(f"its function {name} is damaged: {error}") from error
  inputs, in_tree = jax.tree.flatten((takes, {}))
  outputs, out_tree = jax.tree.flatten(gives)
  if exported.in_tree != in_tree or exported.out_tree != out_tree:
    raise ArtifactError(
      f"its function {name} takes {exported.in_tree} and returns "
      f"{exported.out_tree}; it should take {in_tree} and return {out_tree}."
    )
  constants = min(
    max(_LEAST_CONSTANTS, parameters // _PARAMETERS_A_CONSTANT), _MOST_CONSTANTS
  )
  _check(name, exported, module, platform, inputs, outputs, constants)
  if not derivative:
    return Function(exported, module)
  if not exported.has_vjp():
    raise ArtifactError("the Artifact lacks its derivative.")
  try:
    pullback = exported.vjp()
    backward = stablehlo.Module(pullback.mlir_module_serialized)
  except Exception as error:
    raise ArtifactError(
      f"the derivative of {name} is damaged: {error}"
    ) from error
  name = f"the derivative of {name}"
  takes, gives = [*inputs, *outputs], inputs
  _check(name, pullback, backward, platform, takes, gives, constants)
  return Function(exported, module, backward, pullback)


def _check(
  name: str,
  exported: export.Exported,
  module: stablehlo.Module,
  platform: str,
  takes: Sequence[jax.ShapeDtypeStruct],
  gives: Sequence[jax.ShapeDtypeStruct],
  constants: int,
) -> None:
  if tuple(exported.platforms) != (platform,):
    raise ArtifactError(
      f"its function {name} is for {exported.platforms}, not for {platform}."
    )
  if exported.nr_devices != 1:
    raise ArtifactError(
      f"its function {name} wants {exported.nr_devices} devices, not 1."
    )
  if exported.disabled_safety_checks:
    raise ArtifactError(f"its function {name} asks for fewer checks.")
  for what, avals, wanted in (
    ("takes", exported.in_avals, takes),
    ("returns", exported.out_avals, gives),
  ):
    if [(a.shape, a.dtype) for a in avals] != [
      (b.shape, b.dtype) for b in wanted
    ]:
      raise ArtifactError(
        f"its function {name} {what} {[str(a) for a in avals]}, the header "
        f"says {[f'{b.dtype}{list(b.shape)}' for b in wanted]}."
      )
  unknown = sorted(module.custom_calls - CUSTOM_CALLS[platform])
  effects = [*exported.ordered_effects, *exported.unordered_effects]
  if unknown or module.effects or effects:
    outside = [*unknown, *sorted(module.effects), *map(str, effects)]
    raise ArtifactError(
      f"the mixer calls out of the computation: {', '.join(outside)}. Only "
      f"{', '.join(sorted(CUSTOM_CALLS[platform]))} are allowed on {platform}."
    )
  if module.constant_elements > constants:
    raise ArtifactError(
      f"its function {name} holds constants of {module.constant_elements} "
      f"numbers, at most {constants} may be. Make arrays of the "
      "module nnx.Params, and compute masks and tables in __call__ (jnp.arange "
      "and what follows from it)."
    )
  # Inputs that nothing reads are no parameters of the exported module.
  kept = exported.module_kept_var_idx
  if list(kept) != sorted(set(kept)) or any(
    not 0 <= i < len(takes) for i in kept
  ):
    raise ArtifactError(f"its function {name} reads inputs {kept}.")
  entry = module.entry()
  for values, wanted in (
    (entry.arguments, [takes[i] for i in kept]),
    (stablehlo.returned(entry), gives),
  ):
    inside = [str(value.type) for value in values]
    if inside != [_tensor(s) for s in wanted]:
      raise ArtifactError(
        f"the StableHLO of {name} is over {', '.join(inside)}, its signature "
        f"over {', '.join(map(_tensor, wanted))}."
      )


def hashes(
  exported: export.Exported, module: stablehlo.Module, inputs: Sequence[str]
) -> list[str]:
  """Returns what names each output of a function, see `fingerprint`.

  Args:
    exported: the function.
    module: its StableHLO.
    inputs: one text for each of its inputs.
  """
  kept = exported.module_kept_var_idx
  return fingerprint.outputs(module, [inputs[i] for i in kept])


def _tensor(struct: jax.ShapeDtypeStruct) -> str:
  dtype = _DTYPES.get(str(struct.dtype), "?")
  return f"tensor<{'x'.join([*map(str, struct.shape), dtype])}>"
