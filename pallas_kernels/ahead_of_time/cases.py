"""The operators as jobs for the compiler: sizes, forms and meshes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels.ahead_of_time.compiler import Compiled, Compiler
from pallas_kernels.delta_rule import delta_rule
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.shared import dispatch

# Operator, and how many of its tokens have the keys' dim.
OPERATORS = {
  "linear_attention": (linear_attention, 2),
  "delta_rule": (delta_rule, 3),
  "dplr_delta_rule": (dplr_delta_rule, 4),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """One program to compile: forward and backward of one operator.

  Attributes:
    operator: a key of OPERATORS.
    decay: "none", "scalar" or "vector".
    topology: such as "v5e:2x2".
    mesh: devices along batch and heads; (1, 1) is one chip.
    implementation: "pallas_tpu" or "xla".
    batch, time, heads, key_dim, value_dim: of the whole arrays.
    dtype: of the tokens.
    chunk_size, block_heads: as in the operators; None is their default.
  """

  operator: str
  decay: str = "none"
  topology: str = "v5e:2x2"
  mesh: tuple[int, int] = (1, 1)
  implementation: str = dispatch.PALLAS_TPU
  batch: int = 1
  time: int = 2048
  heads: int = 4
  key_dim: int = 128
  value_dim: int = 128
  dtype: str = "bfloat16"
  chunk_size: int | None = None
  block_heads: int | None = None


def compile_case(compiler: Compiler, case: Case) -> Compiled:
  """Compiles the value and gradient of one operator.

  Raises:
    Exception: whatever the compiler refuses with.
  """
  function, keys = OPERATORS[case.operator]
  size = case.mesh[0] * case.mesh[1]
  devices = np.array(compiler.devices(case.topology)[:size])
  mesh = Mesh(
    devices.reshape(case.mesh),
    ("batch", "heads"),
    axis_types=(AxisType.Auto,) * 2,
  )
  split = P("batch", None, "heads")
  shape = (case.batch, case.time, case.heads)

  def struct(*dims: int, dtype: Any = case.dtype) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, split)
    return jax.ShapeDtypeStruct((*shape, *dims), dtype, sharding=sharding)

  key, value = struct(case.key_dim), struct(case.value_dim)
  tokens = [key, key, value, *[key] * (keys - 2)]
  decays = {
    "none": [],
    "scalar": [struct(dtype=jnp.float32)],
    "vector": [struct(case.key_dim, dtype=jnp.float32)],
  }
  args = [*tokens, *decays[case.decay]]

  def run(*args: jax.Array) -> jax.Array:
    return function(
      *args,
      chunk_size=case.chunk_size,
      block_heads=case.block_heads,
      implementation=case.implementation,
      target="tpu",
    )[0]

  if size > 1:
    run = jax.shard_map(
      run,
      mesh=mesh,
      in_specs=(split,) * len(args),
      out_specs=split,
      check_vma=False,
    )

  def loss(*args: jax.Array) -> jax.Array:
    return jnp.sum(run(*args).astype(jnp.float32) ** 2)

  gradient = jax.value_and_grad(loss, tuple(range(len(args))))
  chunk = case.chunk_size or 16
  return compiler.compile(gradient, *args, trips=-(-case.time // chunk))
