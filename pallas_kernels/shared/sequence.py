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
import numpy as np

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
    batch, _, heads, value_dim = v.shape
    key_dim = q.shape[-1]
    dtype = jnp.promote_types(v.dtype, jnp.float32)
    columns = jnp.zeros((*v.shape[:2], key_dim), v.dtype)
    start = jnp.eye(key_dim, value_dim + key_dim, k=value_dim, dtype=dtype)
    start = jnp.broadcast_to(start, (batch, heads, *start.shape))
    out, state = operator(
      q,
      k,
      _beside(v, columns),
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
    return _with_state(out, before), last

  return run


def conv_over_shards(
  operator: Callable[..., tuple[jax.Array, jax.Array]], axis_name: str
) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Returns `short_conv` for an x whose time is split over a mesh axis.

  A shard takes the last inputs of the one before for its first state. To be
  called as `over_shards` says; the weight is the same everywhere.

  Args:
    operator: short_conv.
    axis_name: of the mesh axis that time is split over.
  """

  def run(
    x: jax.Array,
    weight: jax.Array,
    *,
    initial_state: jax.Array | None = None,
    segment_ids: jax.Array | None = None,
    **options: Any,
  ) -> tuple[jax.Array, jax.Array]:
    reach, time = weight.shape[0] - 1, x.shape[1]
    if not 0 < reach <= time:
      raise ValueError(
        f"conv_over_shards: a shard of {time} tokens needs a weight of 2 to "
        f"{time + 1} taps, got {reach + 1}. Split time over fewer devices."
      )
    ids = None if segment_ids is None else segment_ids[:, -reach:]
    ends = operator(x[:, -reach:], weight, segment_ids=ids, **options)[1]
    count = jax.lax.axis_size(axis_name)
    later = [(n, n + 1) for n in range(count - 1)]
    before = jax.lax.ppermute(ends, axis_name, later)  # zeros for the first
    if initial_state is not None:
      first = jax.lax.axis_index(axis_name) == 0
      before = jnp.where(first, initial_state.astype(before.dtype), before)
    if segment_ids is not None:
      before = jnp.where(_starts(segment_ids, axis_name)[..., 0], 0, before)
    out, last = operator(
      x, weight, initial_state=before, segment_ids=segment_ids, **options
    )
    return out, jax.lax.all_gather(last, axis_name)[-1]

  return run


def _beside(v: jax.Array, columns: jax.Array) -> jax.Array:
  """Returns [batch, time, heads, V + K]: `columns` behind each head's values.

  Head by head along one axis of all heads' channels, as projections make them
  and kernels take them. TPUs pay more for moving rows of [heads, V + K] than
  the kernels do for computing with them.
  """
  batch, time, heads, dim = v.shape
  values = jnp.split(v.reshape(batch, time, heads * dim), heads, axis=-1)
  parts = [part for x in values for part in (x, columns)]
  return jnp.concatenate(parts, axis=-1).reshape(batch, time, heads, -1)


def _with_state(out: jax.Array, state: jax.Array) -> jax.Array:
  """Returns the outputs of a shard, with what they read of the state before.

  Args:
    out: [batch, time, heads, V + K], what a token reads of the shard itself
      and, behind it, what it reads of each row of the state before.
    state: [batch, heads, K, V].

  Returns:
    [batch, time, heads, V].
  """
  batch, time, heads, dim = out.shape
  value_dim = state.shape[-1]
  ends = np.cumsum([value_dim, dim - value_dim] * heads)
  parts = jnp.split(out.reshape(batch, time, -1), ends[:-1], axis=-1)
  added = [
    own + jnp.matmul(readers, state[:, i], precision=EXACT).astype(own.dtype)
    for i, (own, readers) in enumerate(
      zip(parts[::2], parts[1::2], strict=True)
    )
  ]
  return jnp.concatenate(added, axis=-1).reshape(batch, time, heads, value_dim)


def _starts(segment_ids: jax.Array, axis_name: str) -> jax.Array:
  """Returns whether this shard begins a sequence, [batch, 1, 1, 1]."""
  ends = jax.lax.all_gather(segment_ids[:, -1], axis_name)
  index = jax.lax.axis_index(axis_name)
  previous = ends[jnp.maximum(index - 1, 0)]
  starts = (index > 0) & (previous != segment_ids[:, 0])
  return starts[:, None, None, None]
