"""The StableHLO of a function, as an export has it."""

import jax
from jax import export

from asi_evolve_jax.programs.stablehlo import Module


def stablehlo_of(f, *args, platform="cpu"):
  exported = export.export(jax.jit(f), platforms=[platform])(*args)
  return Module(exported.mlir_module_serialized)
