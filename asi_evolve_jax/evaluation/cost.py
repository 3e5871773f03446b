"""FLOPs and bytes of a computation, read off its StableHLO.

XLA's own analysis counts the body of a loop once, so an O(T^2) loop looks
linear to it. Here a loop counts its body times its trips, a conditional its
dearest branch. The number of trips follows from the loop's counter; a loop
whose trips do not follow from it has no cost. Nothing is compiled or run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jax.extend.mlir.dialects import stablehlo as dialect

from asi_evolve_jax.evaluation import trips
from asi_evolve_jax.programs import stablehlo


class UnknownCost(ValueError):
  """A computation whose cost cannot be told; the message says why."""


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a computation costs.

  Attributes:
    flops: a multiply-add counts 2, any other arithmetic 1 an element.
    bytes: read and written by every operation as if nothing were fused or
      stayed in a cache; an upper bound that grows as the real traffic does.
    work: FLOPs by name of the operation, largest first.
  """

  flops: float = 0.0
  bytes: float = 0.0
  work: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def __add__(self, other: Cost) -> Cost:
    """Returns the cost of both."""
    work = dict(self.work)
    for name, flops in other.work.items():
      work[name] = work.get(name, 0.0) + flops
    return Cost(
      self.flops + other.flops,
      self.bytes + other.bytes,
      dict(sorted(work.items(), key=lambda item: -item[1])),
    )

  def times(self, count: int) -> Cost:
    """Returns the cost of doing it `count` times."""
    work = {name: count * flops for name, flops in self.work.items()}
    return Cost(count * self.flops, count * self.bytes, work)


def cost(module: stablehlo.Module) -> Cost:
  """Returns the cost of one call of `main`.

  Raises:
    UnknownCost: for an unbounded loop, a kernel that nobody can look into, or
      an operation that is not known.
  """
  return _Count(module).function("main")


def growth(small: float, middle: float, large: float) -> float:
  """Returns how a cost at sizes n, 2n, 4n grows: 2 is linear, 4 quadratic.

  The ratio of the two increments, so that a constant part leaves no trace; a
  cost that does not rise with n gives infinity, as it cannot be trusted.
  """
  first, second = middle - small, large - middle
  return second / first if first > 0 else math.inf


class _Count:
  def __init__(self, module: stablehlo.Module):
    self._functions = module.functions
    self._memo: dict[str, Cost] = {}

  def function(self, name: str) -> Cost:
    if name not in self._memo:
      self._memo[name] = self._block(stablehlo.body(self._functions[name]))
    return self._memo[name]

  def _block(self, block: Any) -> Cost:
    flops: dict[str, float] = {}
    moved = 0.0
    for view in block.operations:
      op = view.operation
      name = op.name.removeprefix("stablehlo.")
      if name in _FREE:
        continue
      inner = self._inner(name, op)
      if inner is None:
        work = _flops(name, op, self._combining(name, op))
        flops[name] = flops.get(name, 0.0) + work
        moved += _bytes(name, op)
      else:
        moved += inner.bytes
        for part, work in inner.work.items():
          flops[part] = flops.get(part, 0.0) + work
    return Cost(
      sum(flops.values()),
      moved,
      dict(sorted(flops.items(), key=lambda item: -item[1])),
    )

  def _combining(self, name: str, op: Any) -> float:
    """Returns the FLOPs that an operation's regions do for one element."""
    if op.regions and name not in _REGIONS:
      raise UnknownCost(f"the cost of {op.name} is not known; do without it.")
    each = sum(self._block(region.blocks[0]).flops for region in op.regions)
    return max(1.0, each)

  def _inner(self, name: str, op: Any) -> Cost | None:
    """Returns the cost of an operation that is made of others."""
    if name == "while":
      count = trips.count(op)
      if count is None:
        raise UnknownCost(
          "an unbounded loop (lax.while_loop, or lax.fori_loop with traced "
          "bounds) has no cost that can be known; use lax.scan or static "
          "bounds."
        )
      step = self._block(stablehlo.body(op, 0)) + self._block(
        stablehlo.body(op, 1)
      )
      return step.times(count)
    if name in ("case", "if"):
      branches = [self._block(region.blocks[0]) for region in op.regions]
      dearest = max(branches, key=lambda c: c.flops)
      return dataclasses.replace(dearest, bytes=max(c.bytes for c in branches))
    called = stablehlo.symbols(op)
    if called:
      return sum((self.function(f) for f in called.values()), Cost())
    if name == "map":
      each = self._block(stablehlo.body(op))
      return each.times(stablehlo.elements(op.results[0]))
    return None


_FREE = frozenset(
  {
    "after_all",
    "constant",
    "func.return",
    "get_tuple_element",
    "optimization_barrier",
    "return",
    "tuple",
  }
)
# Data movement: no arithmetic.
_MOVES = frozenset(
  {
    "bitcast_convert",
    "broadcast_in_dim",
    "concatenate",
    "convert",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "iota",
    "pad",
    "reshape",
    "reverse",
    "select",
    "slice",
    "transpose",
  }
)
# They read as much as they return, however large what they read from.
_WINDOWS = frozenset({"slice", "dynamic_slice", "gather"})
# Their regions combine single elements; other operations have no region.
_REGIONS = frozenset(
  {"reduce", "reduce_window", "scatter", "select_and_scatter", "sort"}
)
# Solvers and factorisations, of n x n matrices: n an element.
_MATRIX = ("triangular_solve", "cholesky", "lapack_")


def _flops(name: str, op: Any, each: float) -> float:
  """Returns the FLOPs of an operation whose regions do `each` an element."""
  out = float(sum(map(stablehlo.elements, op.results)))
  if name in _MOVES:
    return 0.0
  if name == "custom_call":
    name = str(op.attributes["call_target_name"]).strip('"')
    if name == "tpu_custom_call" or name.startswith("mosaic"):
      raise UnknownCost(f"nobody can look into the kernel of a {name}.")
    if not name.startswith(_MATRIX):
      return 0.0  # markers and empty buffers
  if name.startswith(_MATRIX):
    return out * stablehlo.shape(op.operands[0])[-1]
  if name == "dot_general":
    numbers = dialect.DotDimensionNumbers(
      op.attributes["dot_dimension_numbers"]
    )
    left = stablehlo.shape(op.operands[0])
    return (
      2 * out * math.prod(left[d] for d in numbers.lhs_contracting_dimensions)
    )
  if name == "convolution":
    numbers = dialect.ConvDimensionNumbers(op.attributes["dimension_numbers"])
    kernel = stablehlo.shape(op.operands[1])
    return (
      2
      * out
      * math.prod(kernel)
      / kernel[numbers.kernel_output_feature_dimension]
    )
  read = float(sum(map(stablehlo.elements, op.operands)))
  if name == "fft":
    lengths = _integers(op, "fft_length")
    return 5 * out * math.log2(max(2, math.prod(lengths)))
  if name == "sort":
    length = stablehlo.shape(op.operands[0])[op.attributes["dimension"].value]
    return each * out * math.log2(max(2, length))
  if name == "reduce":
    return each * read
  if name == "scatter":
    return each * stablehlo.elements(op.operands[-1])
  if name == "reduce_window":
    return each * out * _window(op)
  if name == "select_and_scatter":
    window = math.prod(_integers(op, "window_dimensions"))
    return each * window * stablehlo.elements(op.operands[1])
  return out


def _window(op: Any) -> int:
  """Returns the elements of a window, 1 where it slides over all before it.

  A cumulative sum is a window as long as the axis; XLA rewrites it into one of
  linear cost (its ReduceWindowRewriter).
  """
  window = _integers(op, "window_dimensions")
  axes = [i for i, n in enumerate(window) if n != 1]
  if len(axes) == 1:
    (axis,) = axes
    rank = len(window)
    padding = _integers(op, "padding")
    around = padding[2 * axis : 2 * axis + 2]
    length = stablehlo.shape(op.operands[0])[axis]
    strides = _integers(op, "window_strides") or [1] * rank
    dilations = _integers(op, "window_dilations") or [1] * rank
    base = _integers(op, "base_dilations") or [1] * rank
    plain = {*strides, *dilations, *base} == {1}
    if plain and window[axis] == length and sorted(around) == [0, length - 1]:
      return 1
  return math.prod(window)


def _integers(op: Any, name: str) -> list[int]:
  """Returns an attribute of integers, flat; [] if it is not there."""
  if name not in op.attributes:
    return []
  return [int(n) for n in op.attributes[name]]


def _bytes(name: str, op: Any) -> float:
  written = sum(map(stablehlo.size, op.results))
  if name == "dynamic_update_slice":
    return 2 * stablehlo.size(op.operands[1])
  if name == "scatter":
    return 2 * stablehlo.size(op.operands[-1])
  if name in _WINDOWS:
    return 2 * written
  return written + sum(map(stablehlo.size, op.operands))
