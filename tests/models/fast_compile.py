"""Compiler options for tests that compile for seconds and run for nothing."""

import jax

_KEEP = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}
# A third of the time again; a flag of the CPU backend that may go some day.
_MAY_GO = {"xla_cpu_use_fusion_emitters": False}


def options() -> dict[str, bool | int]:
  """Returns those of the options that this JAX knows."""
  try:
    jax.jit(lambda: 0.0, compiler_options=_MAY_GO)()
  except jax.errors.JaxRuntimeError:
    return _KEEP
  return _KEEP | _MAY_GO


FAST_COMPILE = options()
