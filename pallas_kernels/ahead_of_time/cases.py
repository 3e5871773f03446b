"""The operators as jobs for the compiler: sizes, forms and meshes."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels.ahead_of_time import peers
from pallas_kernels.ahead_of_time.compiler import Compiled, Compiler
from pallas_kernels.delta_rule import delta_rule, gated_delta_rule
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.shared import dispatch
from pallas_kernels.shared.arguments import DECAY_FLOOR
from pallas_kernels.shared.sequence import over_shards

# Operator, and of each argument before g whether it has the keys' dim, the
# values', or one entry a head.
OPERATORS: dict[str, tuple[Callable[..., Any], str]] = {
  "linear_attention": (linear_attention, "kkv"),
  "delta_rule": (delta_rule, "kkvk"),
  "gated_delta_rule": (gated_delta_rule, "kkvh"),
  "dplr_delta_rule": (dplr_delta_rule, "kkvkk"),
  "dense_attention": (peers.dense_attention, "kkv"),
  "flash_attention": (peers.flash_attention, "kkv"),
}
_ATTENTION = ("dense_attention", "flash_attention")  # of one form each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """One program to compile: forward and backward of one operator.

  Attributes:
    operator: a key of OPERATORS.
    decay: "none", "scalar" or "vector".
    topology: such as "v5e:2x2".
    mesh: devices along batch and heads; (1, 1) is one chip.
    time_shards: devices along time, which exchange transitions.
    implementation: "pallas_tpu", "xla" or a key of peers.PEERS; attention has
      one form each, and takes it for a name.
    batch, time, heads, key_dim, value_dim: of the whole arrays.
    dtype: of the tokens.
    packed: whether rows hold several sequences, so segment ids are given.
    states: whether a first state is given, which gets a gradient, and the last
      one enters the loss.
    chunk_size, block_heads, min_log_decay: as in the operators; None is their
      default.
  """

  operator: str
  decay: str = "none"
  topology: str = "v5e:2x2"
  mesh: tuple[int, int] = (1, 1)
  time_shards: int = 1
  implementation: str = dispatch.PALLAS_TPU
  batch: int = 1
  time: int = 2048
  heads: int = 4
  key_dim: int = 128
  value_dim: int = 128
  dtype: str = "bfloat16"
  packed: bool = False
  states: bool = False
  chunk_size: int | None = None
  block_heads: int | None = None
  min_log_decay: float = DECAY_FLOOR


def compile_case(compiler: Compiler, case: Case) -> Compiled:
  """Compiles the value and gradient of one operator.

  Raises:
    Exception: whatever the compiler refuses with.
  """
  function, dims = OPERATORS[case.operator]
  shape = (case.mesh[0], case.time_shards, case.mesh[1])
  size = math.prod(shape)
  devices = np.array(compiler.devices(case.topology)[:size])
  mesh = Mesh(
    devices.reshape(shape),
    ("batch", "time", "heads"),
    axis_types=(AxisType.Auto,) * 3,
  )
  split = P("batch", "time", "heads")

  def struct(dim: int, dtype: Any = case.dtype) -> jax.ShapeDtypeStruct:
    # As a projection makes it: heads and channels are one axis.
    shape = (case.batch, case.time, case.heads * dim)
    sharding = NamedSharding(mesh, split)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  kinds = {
    "k": struct(case.key_dim),
    "v": struct(case.value_dim),
    "h": struct(1, jnp.float32),
  }
  decays = {
    "none": [],
    "scalar": [struct(1, jnp.float32)],
    "vector": [struct(case.key_dim, jnp.float32)],
  }
  tokens = (*(kinds[d] for d in dims), *decays[case.decay])
  segments = state = None
  if case.packed:
    segments = jax.ShapeDtypeStruct(
      (case.batch, case.time),
      jnp.int32,
      sharding=NamedSharding(mesh, P("batch", "time")),
    )
  whole = P("batch", "heads")  # every shard of time has the same
  if case.states:
    state = jax.ShapeDtypeStruct(
      (case.batch, case.heads, case.key_dim, case.value_dim),
      jnp.float32,
      sharding=NamedSharding(mesh, whole),
    )
  inner = _form(function, case)
  heads = case.heads // case.mesh[1]
  per_head = [d == "h" for d in dims] + [case.decay == "scalar"]

  def run(tokens: tuple[jax.Array, ...], state: Any, segments: Any) -> Any:
    parts = [
      x if one else x.reshape(*x.shape[:2], heads, -1)
      for x, one in zip(tokens, per_head, strict=False)
    ]
    out, last = inner(*parts, initial_state=state, segment_ids=segments)
    return out.reshape(*out.shape[:2], -1), last if case.states else None

  if size > 1:
    run = jax.shard_map(
      run,
      mesh=mesh,
      in_specs=(split, whole, P("batch", "time")),
      out_specs=(split, whole),
      check_vma=False,
    )

  def loss(*args: Any) -> jax.Array:
    out, *last = jax.tree.leaves(run(*args))
    total = jnp.sum(out.astype(jnp.float32) ** 2)
    return total + jnp.sum(last[0] ** 2) if last else total

  gradient = jax.value_and_grad(loss, (0, 1))
  with peers.on_a_tpu():
    return compiler.compile(gradient, tokens, state, segments)


def _form(function: Any, case: Case) -> Callable[..., tuple[Any, Any]]:
  """Returns what computes (out, last state or None) for the case."""
  if case.implementation in peers.PEERS:
    function = peers.load(case.implementation, case.operator, case.decay)
  elif case.operator not in _ATTENTION:
    return _own(function, case)
  if case.packed or case.states:
    raise ValueError(
      f"{case.implementation} of {case.operator} takes no segment ids and no "
      "state here: leave packed and states out."
    )
  return lambda *tokens, **_: (function(*tokens), None)


def _own(function: Any, case: Case) -> Callable[..., tuple[Any, Any]]:
  if case.time_shards > 1:
    function = over_shards(function, "time")
  return functools.partial(
    function,
    chunk_size=case.chunk_size,
    block_heads=case.block_heads,
    min_log_decay=case.min_log_decay,
    implementation=case.implementation,
    target="tpu",
  )
