"""How often a `stablehlo.while` runs.

JAX lowers `lax.scan`, and `lax.fori_loop` with static bounds, to a while whose
condition compares a counter with a constant and whose body adds a constant to
the counter. Only such a loop has a number of trips here.
"""

from __future__ import annotations

import math
from typing import Any

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo as dialect

from asi_evolve_jax.programs import stablehlo

# What `limit > counter` is called when the counter comes first.
_TURNED = {"GT": "LT", "GE": "LE", "LT": "GT", "LE": "GE", "NE": "NE"}


def count(loop: Any) -> int | None:
  """Returns how often the body of a while runs; None: nobody knows.

  Args:
    loop: a `stablehlo.while`.
  """
  op = _operation(stablehlo.returned(stablehlo.body(loop, 0))[0])
  if op is None or op.name != "stablehlo.compare":
    return None
  direction = dialect.ComparisonDirectionAttr(
    op.attributes["comparison_direction"]
  ).value
  left, right = op.operands
  for counter, limit, way in (
    (left, right, direction),
    (right, left, _TURNED.get(direction, "")),
  ):
    place = _place(counter, stablehlo.body(loop, 0))
    if place is not None:
      start = _number(loop.operands[place])
      step = _step(loop, place)
      stop = _limit(loop, limit)
      if start is not None and step is not None and stop is not None:
        return _trips(start, step, stop, way, counter.type.element_type)
  return None


def _trips(start: int, step: int, stop: int, way: str, kind: Any) -> int | None:
  """Returns how often a counter passes its condition; None: it may not end."""
  if not isinstance(kind, ir.IntegerType):
    return None
  signed = not kind.is_unsigned
  largest = 2 ** (kind.width - 1 if signed else kind.width) - 1
  least = -largest - 1 if signed else 0
  if way in ("LE", "GE"):
    stop, way = (stop + 1, "LT") if way == "LE" else (stop - 1, "GT")
  if way == "NE":
    if step == 0 or (stop - start) % step or (stop - start) // step < 0:
      return None
    way = "LT" if step > 0 else "GT"
  if (way == "LT" and start >= stop) or (way == "GT" and start <= stop):
    return 0
  if (way, step > 0) not in (("LT", True), ("GT", False)) or step == 0:
    return None
  trips = math.ceil((stop - start) / step)
  # A counter that wraps around starts again.
  return trips if least <= start + trips * step <= largest else None


def _limit(loop: Any, value: Any) -> int | None:
  """Returns a limit that stays as it is over the trips."""
  place = _place(value, stablehlo.body(loop, 0))
  if place is None:
    return _number(value)
  block = stablehlo.body(loop, 1)
  if stablehlo.returned(block)[place] != block.arguments[place]:
    return None
  return _number(loop.operands[place])


def _step(loop: Any, place: int) -> int | None:
  """Returns what a trip adds to the value at `place`."""
  block = stablehlo.body(loop, 1)
  op = _operation(stablehlo.returned(block)[place])
  if op is None or op.name not in ("stablehlo.add", "stablehlo.subtract"):
    return None
  left, right = op.operands
  before = block.arguments[place]
  if left == before:
    step = _number(right)
  elif right == before and op.name == "stablehlo.add":
    step = _number(left)
  else:
    return None
  if step is not None and op.name == "stablehlo.subtract":
    return -step
  return step


def _number(value: Any) -> int | None:
  """Returns the constant that a scalar is."""
  op = _operation(value)
  if op is None or stablehlo.shape(value):
    return None
  if op.name == "stablehlo.convert":
    kind = value.type.element_type
    return _number(op.operands[0]) if isinstance(kind, ir.IntegerType) else None
  if op.name != "stablehlo.constant":
    return None
  held = op.attributes["value"]
  if not isinstance(held, ir.DenseIntElementsAttr):
    return None
  return int(held[0])


def _operation(value: Any) -> Any | None:
  """Returns the operation that a value comes from, if it does."""
  owner = value.owner
  return None if isinstance(owner, ir.Block) else owner.operation


def _place(value: Any, block: Any) -> int | None:
  """Returns which argument of `block` a value is."""
  for i, argument in enumerate(block.arguments):
    if value == argument:
      return i
  return None
