"""Recurrences over a time axis that is split between devices.

The state after a shard is M S + L, with S the state before it, L what the shard
writes by itself and M [K, K] its transition. Both come from one pass: M is the
state that identity columns beside the values turn into when nothing is written
there, and the outputs of those columns are what each token reads of S. Devices
then exchange K x (K + V) numbers a head, whatever the length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.shared.products import EXACT


def over_shards(
  operator: Callable[..., tuple[jax.Array, jax.Array]], axis_name: str
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Returns `operator` for arguments whose time is split over a mesh axis.

  To be called inside jax.shard_map, shards in order of time. Takes what the
  operator takes (q, k, v, ... by position); `initial_state` is that before the
  first shard and the final state that after the last, the same everywhere.

  Args:
    operator: linear_attention, delta_rule, gated_delta_rule or
      dplr_delta_rule.
    axis_name: of the mesh axis that time is split over.
  """

  def run(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *others: Any,
    initial_state: jax.Array | None = None,
    segment_ids: jax.Array | None = None,
    **options: Any,
  ) -> tuple[jax.Array, jax.Array]:
    batch, time, heads, value_dim = v.shape
    key_dim = q.shape[-1]
    dtype = jnp.promote_types(v.dtype, jnp.float32)
    columns = jnp.zeros((batch, time, heads, key_dim), v.dtype)
    start = jnp.eye(key_dim, value_dim + key_dim, k=value_dim, dtype=dtype)
    start = jnp.broadcast_to(start, (batch, heads, *start.shape))
    out, state = operator(
      q,
      k,
      jnp.concatenate([v, columns], axis=-1),
      *others,
      initial_state=start,
      segment_ids=segment_ids,
      **options,
    )
    moves, starts = state[..., value_dim:], None
    if segment_ids is not None:
      starts = _starts(segment_ids, axis_name)
      moves = jnp.where(starts, 0, moves)
    writes, moves, cut = jax.lax.all_gather(
      (state[..., :value_dim], moves, starts), axis_name
    )

    def visit(before, shard):
      write, move, alone = shard
      seen = before if alone is None else jnp.where(alone, 0, before)
      return jnp.matmul(move, before, precision=EXACT) + write, seen

    if initial_state is None:
      initial_state = jnp.zeros((batch, heads, key_dim, value_dim), dtype)
    last, befores = jax.lax.scan(
      visit, initial_state.astype(dtype), (writes, moves, cut)
    )
    before = befores[jax.lax.axis_index(axis_name)]
    seen = jnp.einsum(
      "bthk,bhkv->bthv", out[..., value_dim:], before, precision=EXACT
    )
    return out[..., :value_dim] + seen.astype(out.dtype), last

  return run


def _starts(segment_ids: jax.Array, axis_name: str) -> jax.Array:
  """Returns whether this shard begins a sequence, [batch, 1, 1, 1]."""
  ends = jax.lax.all_gather(segment_ids[:, -1], axis_name)
  index = jax.lax.axis_index(axis_name)
  previous = ends[jnp.maximum(index - 1, 0)]
  starts = (index > 0) & (previous != segment_ids[:, 0])
  return starts[:, None, None, None]
