"""Names a computation by what it computes, not by how it was written.

The fingerprint walks a StableHLO module as a graph: a value's hash is made of
its operation and the hashes of what that reads. Names of variables, the order
of independent statements, repeated subexpressions and dead code leave no trace
in it; any change of an operation, a constant, a shape or a dtype does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from asi_evolve_jax.programs import stablehlo

# Attributes that name things instead of changing what is computed.
_NAMES = frozenset({"sym_name", "jax.result_info"})
# Exact in either order, bit for bit; a derivative's order is the tracer's whim.
_COMMUTATIVE = frozenset(
  f"stablehlo.{name}"
  for name in ("add", "multiply", "maximum", "minimum", "and", "or", "xor")
)


def combine(*parts: str) -> str:
  """Returns 32 hex digits that name `parts`, in order."""
  return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def outputs(module: stablehlo.Module, arguments: Sequence[str]) -> list[str]:
  """Returns one hash for each output of `main`.

  Args:
    module: the computation.
    arguments: one text a parameter of `main` that stands for its value.

  Raises:
    ValueError: if `arguments` are not as many as the parameters.
  """
  block = module.entry()
  if len(block.arguments) != len(arguments):
    raise ValueError(
      f"main takes {len(block.arguments)} arguments, got {len(arguments)}."
    )
  with module.context:
    return _Names(module).block(block, arguments, {}, 0)


class _Names:
  def __init__(self, module: stablehlo.Module):
    self._functions = module.functions
    self._memo: dict[str, list[str]] = {}

  def function(self, name: str) -> list[str]:
    if name not in self._memo:
      block = stablehlo.body(self._functions[name])
      arguments = [combine("arg", str(i)) for i in range(len(block.arguments))]
      self._memo[name] = self.block(block, arguments, {}, 0)
    return self._memo[name]

  def block(
    self,
    block: Any,
    arguments: Sequence[str],
    outer: Mapping[Any, str],
    depth: int,
  ) -> list[str]:
    """Returns the hashes of what the block's terminator returns."""
    values = dict(outer)
    for argument, name in zip(block.arguments, arguments, strict=True):
      values[argument] = combine(name, str(argument.type))
    operands: list[str] = []
    for view in block.operations:
      op = view.operation
      operands = [values[v] for v in op.operands]
      if op.name in stablehlo.RETURNS:
        return operands
      if op.name in _COMMUTATIVE:
        operands.sort()
      # What a name stands for counts, not the name.
      called = stablehlo.symbols(op)
      attributes = sorted(
        f"{name}={op.attributes[name]}"
        for name in op.attributes
        if name not in _NAMES and name not in called
      )
      parts = [op.name, *attributes, *operands]
      for callee in called.values():
        parts += self.function(callee)
      for region in op.regions:
        for inner in region.blocks:
          names = [
            combine("region", str(depth), str(i))
            for i in range(len(inner.arguments))
          ]
          parts.append("region")
          parts += self.block(inner, names, values, depth + 1)
      name = combine(*parts)
      for i, result in enumerate(op.results):
        values[result] = combine(name, str(i), str(result.type))
    return operands
