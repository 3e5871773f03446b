"""Reads a StableHLO module that nobody vouches for.

`Module` parses it and checks that it is a whole: every function it names is in
it, none calls itself, every shape is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

RETURNS = frozenset({"func.return", "return", "stablehlo.return"})
# They touch the world outside, or draw from a state that is kept there.
_EFFECTS = frozenset(
  f"stablehlo.{name}" for name in ("infeed", "outfeed", "recv", "rng", "send")
)
_BITS = {"i1": 8, "index": 64}


class Module:
  """A parsed StableHLO module.

  Attributes:
    context: what its attributes and types are made in.
    functions: the func.func operations by name; "main" is one.
    custom_calls: names of the custom call targets anywhere in it.
    effects: names of its operations that touch the world outside.
    constant_elements: numbers of 32 bits that its constants could hold, one for
      a constant of equal numbers.
  """

  def __init__(self, source: str | bytes):
    """Parses `source`.

    Args:
      source: text, or a portable artifact, as
        `jax.export.Exported.mlir_module_serialized` has it.

    Raises:
      ValueError: if it is no whole module.
    """
    self.context = mlir.make_ir_context()
    try:
      with self.context:
        if isinstance(source, str):
          self._module = ir.Module.parse(source)
        else:
          self._module = stablehlo.deserialize_portable_artifact(
            self.context, source
          )
    except (ir.MLIRError, ValueError) as error:
      raise ValueError(f"not a StableHLO module: {error}") from error
    self.functions: dict[str, Any] = {}
    for op in self._module.body.operations:
      if op.operation.name != "func.func":
        raise ValueError(f"the module holds a {op.operation.name}.")
      self.functions[ir.StringAttr(op.attributes["sym_name"]).value] = op
    if "main" not in self.functions:
      raise ValueError("the StableHLO module has no function named main.")
    self.custom_calls: set[str] = set()
    self.effects: set[str] = set()
    self._constant_bits = 0
    calls = {
      name: self._read(function) for name, function in self.functions.items()
    }
    _check_calls(calls)

  @property
  def constant_elements(self) -> int:
    return -(-self._constant_bits // 32)

  def entry(self) -> Any:
    """Returns the block of `main`."""
    return body(self.functions["main"])

  def _read(self, function: Any) -> set[str]:
    """Takes in one function; returns the names of those that it calls."""
    called: set[str] = set()
    if len(function.regions[0].blocks) != 1:
      raise ValueError("a function of the module has no body of one block.")
    for op in walk(function.operation):
      called.update(symbols(op).values())
      if op.name == "stablehlo.custom_call":
        target = ir.StringAttr(op.attributes["call_target_name"]).value
        self.custom_calls.add(target)
        calls = "called_computations"
        if calls in op.attributes and len(op.attributes[calls]):
          raise ValueError(f"the custom call {target} calls back.")
      elif op.name == "stablehlo.constant":
        value = op.attributes["value"]
        if not isinstance(value, ir.DenseElementsAttr):
          raise ValueError(f"a constant is kept as {type(value).__name__}.")
        kind = ir.ShapedType(value.type).element_type
        each = getattr(kind, "width", 64)  # complex numbers have none
        self._constant_bits += 32 if value.is_splat else len(value) * each
      elif op.name in _EFFECTS:
        self.effects.add(op.name)
      for result in op.results:
        elements(result)
    return called


def body(op: Any, region: int = 0) -> Any:
  """Returns the block of a region."""
  return op.regions[region].blocks[0]


def walk(op: Any) -> Iterator[Any]:
  """Yields `op` and every operation in it."""
  yield op
  for region in op.regions:
    for block in region.blocks:
      for inner in block.operations:
        yield from walk(inner.operation)


def symbols(op: Any) -> dict[str, str]:
  """Returns the functions that `op` names, by the attribute that names them."""
  named = {name: op.attributes[name] for name in op.attributes}
  return {
    name: attribute.value
    for name, attribute in named.items()
    if isinstance(attribute, ir.FlatSymbolRefAttr)
  }


def returned(block: Any) -> list[Any]:
  """Returns the values that a block ends with."""
  last = block.operations[len(block.operations) - 1].operation
  return list(last.operands)


def shape(value: Any) -> tuple[int, ...]:
  """Returns the shape of a value; () for a token.

  Raises:
    ValueError: if a dimension is not known.
  """
  tensor = value.type
  if not isinstance(tensor, ir.RankedTensorType):
    return ()
  if not tensor.has_static_shape:
    raise ValueError(f"a shape is not known: {tensor}.")
  return tuple(tensor.shape)


def elements(value: Any) -> int:
  """Returns the number of elements of a value."""
  return math.prod(shape(value))


def size(value: Any) -> float:
  """Returns the bytes of a value; a boolean has one."""
  if not isinstance(value.type, ir.RankedTensorType):
    return 0.0
  kind = value.type.element_type
  numbers = 2 if isinstance(kind, ir.ComplexType) else 1
  kind = kind.element_type if isinstance(kind, ir.ComplexType) else kind
  bits = numbers * _BITS.get(str(kind), getattr(kind, "width", 32))
  return elements(value) * bits / 8


def _check_calls(calls: dict[str, set[str]]) -> None:
  """Refuses calls to functions that are not there, and to callers."""
  done: set[str] = set()

  def visit(name: str, callers: tuple[str, ...]) -> None:
    if name not in calls:
      raise ValueError(f"the module calls {name}, which is not in it.")
    if name in callers:
      raise ValueError(f"the function {name} calls itself.")
    if name not in done:
      for callee in calls[name]:
        visit(callee, (*callers, name))
      done.add(name)

  for name in calls:
    visit(name, ())
