"""FLOPs and bytes of a function, read off its jaxpr.

XLA's own analysis counts the body of a loop once, so an O(T^2) loop looks
linear to it. Here a scan counts its body times its length, a conditional its
dearest branch, a Pallas call its body times its grid (what the caller claims in
a cost estimate is ignored). Nothing is compiled or run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a function costs.

  Attributes:
    flops: a multiply-add counts 2, any other arithmetic 1 an element.
    bytes: read and written by every operation as if nothing were fused or
      stayed in a cache; an upper bound that grows as the real traffic does.
    carry: largest number of elements that a scan hands from step to step, an
      estimate of a recurrence's state.
    while_loops: unbounded loops; their bodies are counted once.
    work: FLOPs by name of the primitive, largest first.
  """

  flops: float
  bytes: float
  carry: int = 0
  while_loops: int = 0
  work: Mapping[str, float] = dataclasses.field(default_factory=dict)


def cost(fn: Callable[..., Any], *args: Any) -> Cost:
  """Returns the cost of `fn(*args)`.

  Args:
    fn: any function that JAX can trace.
    *args: arrays or ShapeDtypeStructs, pytrees of them.
  """
  return jaxpr_cost(jax.make_jaxpr(fn)(*args))


def jaxpr_cost(jaxpr: Any) -> Cost:
  """Returns the cost of a Jaxpr or ClosedJaxpr."""
  count = _Count()
  count.walk(_open(jaxpr), 1.0)
  return Cost(
    flops=sum(count.flops.values()),
    bytes=count.bytes,
    carry=count.carry,
    while_loops=count.while_loops,
    work=dict(sorted(count.flops.items(), key=lambda item: -item[1])),
  )


def growth(small: float, middle: float, large: float) -> float:
  """Returns how a cost at sizes n, 2n, 4n grows: 2 is linear, 4 quadratic.

  The ratio of the two increments, so that a constant part leaves no trace; a
  cost that does not rise with n gives infinity, as it cannot be trusted.
  """
  first, second = middle - small, large - middle
  return second / first if first > 0 else math.inf


class _Count:
  def __init__(self) -> None:
    self.flops: dict[str, float] = {}
    self.bytes = 0.0
    self.carry = 0
    self.while_loops = 0

  def walk(self, jaxpr: core.Jaxpr, times: float) -> None:
    for eqn in jaxpr.eqns:
      self._equation(eqn, times)

  def _equation(self, eqn: core.JaxprEqn, times: float) -> None:
    name = eqn.primitive.name
    inner = list(_subjaxprs(eqn.params))
    if name == "scan":
      # How many outputs are carried is told differently by each JAX; the
      # others have the axis that was scanned over in front.
      state = [
        outer
        for outer, body in zip(eqn.outvars, inner[0].outvars, strict=True)
        if _shape(outer) == _shape(body)
      ]
      self.carry = max(self.carry, sum(_elements(v) for v in state))
      self.walk(inner[0], times * eqn.params["length"])
    elif name == "cond":
      self._merge_dearest(inner, times)
    elif name == "while":
      self.while_loops += 1
      for body in inner:
        self.walk(body, times)
    elif name == "pallas_call":
      grid = math.prod(int(n) for n in eqn.params["grid_mapping"].grid)
      for body in inner:
        self.walk(body, times * grid)
    elif inner:
      # Calls: jit, checkpoint, custom derivatives (the function itself first;
      # the rules are traced on their own where they are used).
      rules = name.startswith("custom_")
      for body in inner[:1] if rules else inner:
        self.walk(body, times)
    else:
      self._add(name, times * _flops(eqn))
      self.bytes += times * _bytes(eqn)

  def _add(self, name: str, flops: float) -> None:
    self.flops[name] = self.flops.get(name, 0.0) + flops

  def _merge_dearest(self, branches: list[core.Jaxpr], times: float) -> None:
    counts = []
    for branch in branches:
      count = _Count()
      count.walk(branch, times)
      counts.append(count)
    dearest = max(counts, key=lambda c: sum(c.flops.values()))
    for name, flops in dearest.flops.items():
      self._add(name, flops)
    self.bytes += max(c.bytes for c in counts)
    self.carry = max(self.carry, *(c.carry for c in counts))
    self.while_loops += sum(c.while_loops for c in counts)


def _open(jaxpr: Any) -> core.Jaxpr:
  return jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr


def _subjaxprs(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, (core.Jaxpr, core.ClosedJaxpr)):
        yield _open(item)


def _shape(var: Any) -> tuple[int, ...]:
  return getattr(var.aval, "shape", ())


def _elements(var: Any) -> int:
  return math.prod(_shape(var))


def _size(var: Any) -> float:
  dtype = getattr(var.aval, "dtype", None)
  # Keys have no itemsize of their own.
  return _elements(var) * getattr(dtype, "itemsize", 4)


# Data movement: no arithmetic.
_MOVES = frozenset(
  {
    "broadcast_in_dim",
    "reshape",
    "transpose",
    "squeeze",
    "expand_dims",
    "slice",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "scatter",
    "concatenate",
    "pad",
    "rev",
    "copy",
    "copy_p",
    "convert_element_type",
    "bitcast_convert_type",
    "iota",
    "select_n",
    "stop_gradient",
    "split",
    "get",
    "swap",
    "optimization_barrier",
  }
)
# They read as much as they return, however large what they read from.
_WINDOWS = frozenset({"slice", "dynamic_slice", "gather", "split", "get"})
# They write as much as their update holds: (place of the update).
_UPDATES = {
  "dynamic_update_slice": 1,
  "scatter": 2,
  "scatter-add": 2,
  "swap": 1,
}
# Arithmetic once an element read.
_REDUCTIONS = ("reduce_", "arg", "cum")


def _flops(eqn: core.JaxprEqn) -> float:
  name = eqn.primitive.name
  out = sum(_elements(v) for v in eqn.outvars)
  if name == "dot_general":
    (contract, _), _ = eqn.params["dimension_numbers"]
    shape = _shape(eqn.invars[0])
    return 2.0 * out * math.prod(shape[d] for d in contract)
  if name == "conv_general_dilated":
    kernel = _shape(eqn.invars[1])
    features = eqn.params["dimension_numbers"].rhs_spec[0]
    return 2.0 * out * math.prod(kernel) / kernel[features]
  if name == "triangular_solve":
    shape = _shape(eqn.invars[0])
    return 1.0 * out * shape[-1]
  if name in ("cholesky", "lu", "geqrf", "householder_product", "eigh", "svd"):
    shape = _shape(eqn.invars[0])
    return 1.0 * _elements(eqn.invars[0]) * shape[-1]
  if name == "sort":
    length = _shape(eqn.invars[0])[eqn.params["dimension"]]
    return out * math.log2(max(2, length))
  if name == "fft":
    return 5.0 * out * math.log2(max(2, math.prod(eqn.params["fft_lengths"])))
  if name in _MOVES:
    return 0.0
  if name.startswith("reduce_window") or name == "select_and_scatter_add":
    return 1.0 * out * math.prod(eqn.params.get("window_dimensions", (1,)))
  if name.startswith(_REDUCTIONS):
    return float(sum(_elements(v) for v in eqn.invars))
  return float(out)


def _bytes(eqn: core.JaxprEqn) -> float:
  name = eqn.primitive.name
  if name in _UPDATES:
    return 2 * _size(eqn.invars[_UPDATES[name]])
  written = sum(_size(v) for v in eqn.outvars)
  if name in _WINDOWS:
    return 2 * written
  return written + sum(_size(v) for v in eqn.invars)
