"""Names a computation by what it computes, not by how it was written.

The fingerprint walks a StableHLO module as a graph: a value's hash is made of
its operation and the hashes of what that reads. Names of variables, the order
of independent statements, repeated subexpressions and dead code leave no trace
in it; any change of an operation, a constant, a shape or a dtype does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.extend.mlir import ir
from jax.interpreters import mlir

# Attributes that name things instead of changing what is computed.
_NAMES = frozenset({"callee", "sym_name", "jax.result_info"})
# Exact in either order, bit for bit; a derivative's order is the tracer's whim.
_COMMUTATIVE = frozenset(
  f"stablehlo.{name}"
  for name in ("add", "multiply", "maximum", "minimum", "and", "or", "xor")
)
_CALLS = frozenset({"func.call", "call"})


def combine(*parts: str) -> str:
  """Returns 32 hex digits that name `parts`, in order."""
  return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


class Module:
  """A parsed StableHLO module.

  Attributes:
    custom_calls: names of the custom call targets anywhere in it.
    effects: names of its operations that touch the world outside.
  """

  def __init__(self, text: str):
    """Parses `text`, e.g. `jax.export.Exported.mlir_module()`.

    Raises:
      ValueError: if it does not parse or has no public function.
    """
    self._context = mlir.make_ir_context()
    try:
      with self._context:
        self._module = ir.Module.parse(text)
    except ir.MLIRError as error:
      raise ValueError(f"not a StableHLO module: {error}") from error
    self._functions: dict[str, Any] = {}
    for op in self._module.body.operations:
      if op.operation.name == "func.func":
        self._functions[ir.StringAttr(op.attributes["sym_name"]).value] = op
    if "main" not in self._functions:
      raise ValueError("the StableHLO module has no function named main.")
    self._memo: dict[str, list[str]] = {}
    self.custom_calls: set[str] = set()
    self.effects: set[str] = set()
    for op in self._walk(self._module.operation):
      if op.name == "stablehlo.custom_call":
        target = ir.StringAttr(op.attributes["call_target_name"]).value
        self.custom_calls.add(target)
      elif op.name in (
        "stablehlo.infeed",
        "stablehlo.outfeed",
        "stablehlo.send",
        "stablehlo.recv",
      ):
        self.effects.add(op.name)

  def outputs(self, arguments: Sequence[str]) -> list[str]:
    """Returns one hash for each output of `main`.

    Args:
      arguments: one text a parameter of `main` that stands for its value.

    Raises:
      ValueError: if `arguments` are not as many as the parameters.
    """
    block = self._functions["main"].regions[0].blocks[0]
    if len(block.arguments) != len(arguments):
      raise ValueError(
        f"main takes {len(block.arguments)} arguments, got {len(arguments)}."
      )
    with self._context:
      return self._block(block, arguments, {}, 0)

  def _walk(self, op: Any) -> Iterator[Any]:
    yield op
    for region in op.regions:
      for block in region.blocks:
        for inner in block.operations:
          yield from self._walk(inner.operation)

  def _function(self, name: str) -> list[str]:
    if name not in self._memo:
      block = self._functions[name].regions[0].blocks[0]
      arguments = [combine("arg", str(i)) for i in range(len(block.arguments))]
      self._memo[name] = self._block(block, arguments, {}, 0)
    return self._memo[name]

  def _block(
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
      if op.name in ("func.return", "return", "stablehlo.return"):
        return operands
      if op.name in _COMMUTATIVE:
        operands.sort()
      attributes = sorted(
        f"{name}={op.attributes[name]}"
        for name in op.attributes
        if name not in _NAMES
      )
      parts = [op.name, *attributes, *operands]
      if op.name in _CALLS:
        callee = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
        parts += self._function(callee)
      for region in op.regions:
        for inner in region.blocks:
          names = [
            combine("region", str(depth), str(i))
            for i in range(len(inner.arguments))
          ]
          parts.append("region")
          parts += self._block(inner, names, values, depth + 1)
      name = combine(*parts)
      for i, result in enumerate(op.results):
        values[result] = combine(name, str(i), str(result.type))
    return operands
