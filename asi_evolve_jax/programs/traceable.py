"""A mixer class as pure functions, and the names of its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from flax import nnx
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class MixerContext:
  """What a mixer is told besides its input.

  Attributes:
    depth: place of the layer in the stack, in [0, 1), scalar float32, traced.
    segment_ids: [batch, time] int32 of packed documents, or None: one each.
  """

  depth: jax.Array
  segment_ids: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Parameter:
  """One parameter array: its path in the nested dict, shape and dtype."""

  path: tuple[str, ...]
  shape: tuple[int, ...]
  dtype: str


class Traceable:
  """A mixer class at a config, as pure functions of nested dicts.

  Attributes:
    dim: width of x.
    params: nested dict of ShapeDtypeStruct.
    others: names of arrays that the constructor keeps outside of nnx.Param.
    leftovers: names of what a call left in the module (sow, state), known once
      `apply` has been traced.
    recurrent: whether it has `init_state` and `step`.
  """

  def __init__(self, mixer_class: Callable[..., nnx.Module], config: Any):
    def build(key: jax.Array) -> nnx.Module:
      return mixer_class(config, rngs=nnx.Rngs(key))

    self._build = build
    self.dim = int(config.dim)
    self.leftovers: tuple[str, ...] = ()
    key = jax.eval_shape(lambda: jax.random.key(0))
    module = nnx.eval_shape(build, key)
    self._graph, state, rest = nnx.split(module, nnx.Param, ...)
    variables = [".".join(map(str, p)) for p, _ in nnx.to_flat_state(rest)]
    self.others = tuple(dict.fromkeys([*variables, *_stray(module)]))
    leaves, self._tree = jax.tree_util.tree_flatten_with_path(state)
    self._paths = [_path(entries) for entries, _ in leaves]
    self.params = self._nested([leaf for _, leaf in leaves])
    self.recurrent = all(
      callable(getattr(module, name, None)) for name in ("init_state", "step")
    )

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the parameters [of one layer] from a typed key."""
    state = nnx.state(self._build(key), nnx.Param)
    return self._nested(jax.tree.leaves(state))

  def apply(
    self, params: Mapping[str, Any], x: jax.Array, depth: jax.Array
  ) -> jax.Array:
    """Returns y of the shape of x [batch, time, dim].

    Parameters come as they are kept, float32; the mixer casts what it
    multiplies x with. `depth` is a scalar.
    """
    module = self._module(params)
    y = module(x, MixerContext(depth))
    others = nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.Param)))
    self.leftovers = tuple(".".join(map(str, path)) for path, _ in others)
    return y

  def init_state(self, params: Mapping[str, Any], batch: int) -> list[Any]:
    """Returns the arrays of the state before the first token."""
    return jax.tree.leaves(self._module(params).init_state(batch))

  def step(
    self,
    params: Mapping[str, Any],
    x: jax.Array,
    depth: jax.Array,
    state: list[Any],
  ) -> tuple[jax.Array, list[Any]]:
    """Returns y [batch, dim] of one token x [batch, dim], and the next state.

    Args:
      params: nested dict.
      x: [batch, dim].
      depth: scalar.
      state: arrays, as `init_state` returns them.
    """
    module = self._module(params)
    tree = jax.tree.structure(
      jax.eval_shape(lambda: module.init_state(x.shape[0]))
    )
    y, after = module.step(
      x, jax.tree.unflatten(tree, state), MixerContext(depth)
    )
    if jax.tree.structure(after) != tree:
      raise TypeError(
        f"step must return the state as init_state makes it, {tree}; it "
        f"returns {jax.tree.structure(after)}."
      )
    return y, jax.tree.leaves(after)

  def _module(self, params: Mapping[str, Any]) -> Any:
    leaves = [_lookup(params, path) for path in self._paths]
    return nnx.merge(self._graph, jax.tree.unflatten(self._tree, leaves))

  def _nested(self, leaves: list[Any]) -> dict[str, Any]:
    return nested(dict(zip(self._paths, leaves, strict=True)))


def platforms_chosen(jaxpr: core.Jaxpr, *, in_kernel: bool = False) -> set[str]:
  """Returns the platforms for which a jaxpr has a branch of their own.

  They come from `lax.platform_dependent`. Left out is "mosaic", which
  jnp.diagonal names for Pallas kernels, but not inside of one.

  Args:
    jaxpr: with all that it calls; derivatives that are not taken are unknown.
    in_kernel: whether it is the body of a Pallas kernel.
  """
  found: set[str] = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "platform_index":
      for names in eqn.params["platforms"]:
        found.update(names or ())
    kernel = in_kernel or eqn.primitive.name == "pallas_call"
    for inner in _jaxprs(list(eqn.params.values())):
      found |= platforms_chosen(inner, in_kernel=kernel)
  return found if in_kernel else found - {"mosaic"}


def _jaxprs(value: Any) -> Iterator[core.Jaxpr]:
  if isinstance(value, core.ClosedJaxpr):
    yield value.jaxpr
  elif isinstance(value, core.Jaxpr):
    yield value
  elif isinstance(value, (list, tuple)):
    for each in value:
      yield from _jaxprs(each)


def parameters_of(params: Mapping[str, Any]) -> tuple[Parameter, ...]:
  """Returns the parameters in a nested dict of arrays or their shapes."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return tuple(
    Parameter(tuple(e.key for e in path), tuple(leaf.shape), str(leaf.dtype))
    for path, leaf in leaves
  )


def parameter_total(params: Mapping[str, Any]) -> int:
  """Returns the number of scalars in a nested dict of arrays."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def nested(leaves: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
  """Returns the nested dict with `leaves` at their paths."""
  tree: dict[str, Any] = {}
  for path, leaf in leaves.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
    node[path[-1]] = leaf
  return tree


def _stray(node: Any, name: str = "") -> Iterator[str]:
  """Yields the names of arrays in plain attributes, which NNX takes as static.

  Made in the constructor they are tracers of a trace that is over.
  """
  if isinstance(node, jax.Array):
    yield name
  elif isinstance(node, nnx.Module):
    for key, value in vars(node).items():
      yield from _stray(value, f"{name}.{key}".lstrip("."))
  elif isinstance(node, (list, tuple)):
    for i, value in enumerate(node):
      yield from _stray(value, f"{name}[{i}]")
  elif isinstance(node, dict):
    for key, value in node.items():
      yield from _stray(value, f"{name}[{key!r}]")


def _path(entries: Any) -> tuple[str, ...]:
  # The last entry is the field of the Variable that holds the array.
  return tuple(str(e.key) for e in entries[:-1])


def _lookup(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
  for name in path:
    tree = tree[name]
  return tree
