"""FLOPs and bytes of the delta rule."""

from __future__ import annotations

from typing import Any

from pallas_kernels.shared import chunks, decay
from pallas_kernels.shared.cost import (
  CHUNKED,
  RECURRENT,
  Cost,
  check_convention,
  decay_entries,
)
from pallas_kernels.shared.products import SUB_CHUNK


def forward_cost(
  batch: int,
  time: int,
  heads: int,
  key_dim: int,
  value_dim: int,
  *,
  decay_kind: str = "none",
  chunk_size: int = 16,
  sub_chunk: int = SUB_CHUNK,
  convention: str = CHUNKED,
  itemsize: int = 4,
) -> Cost:
  """Returns the cost of one forward pass; see `Cost` for the conventions.

  Args:
    batch, time, heads, key_dim, value_dim: sizes of the arguments.
    decay_kind: "none", "scalar" or "vector".
    chunk_size, sub_chunk: as in the operator.
    convention: "chunked" or "recurrent".
    itemsize: bytes an entry of q, k, v, p and the output has.

  Raises:
    ValueError: if a name is unknown.
  """
  check_convention(convention)
  entries = decay_entries(decay_kind, key_dim)
  tokens = batch * time * heads
  state = key_dim * value_dim
  moved = tokens * (itemsize * (3 * key_dim + 2 * value_dim) + 4 * entries)
  moved += 2 * 4 * batch * heads * state
  if convention == RECURRENT:
    # The read by p, the write and the read by q, and the decay.
    flops = tokens * state * (6 + (entries > 0))
    return Cost(flops, moved)
  chunk = chunks.fit_chunk(chunk_size, time)
  grams = decay.gram_products(chunk, sub_chunk) if decay_kind == "vector" else 1
  size = chunk * chunk
  # Two Gram matrices, the inverse, W and U, and the scores with V~ ...
  inside = (2 * grams + 1) * size * key_dim + 2 * size * value_dim
  inside += 2 * max(0, chunk.bit_length() - 2) * size * chunk
  inside += size * entries  # the decay's running sum
  # ... then W S, the read and the update of the state.
  passing = 3 * chunk * key_dim * value_dim
  number = batch * heads * -(-time // chunk)
  return Cost(2 * number * (inside + passing), moved)


def gated_forward_cost(
  batch: int,
  time: int,
  heads: int,
  key_dim: int,
  value_dim: int,
  *,
  itemsize: int = 4,
  **options: Any,
) -> Cost:
  """Returns that of `gated_delta_rule`: a rate a head is read in place of p.

  Args:
    batch, time, heads, key_dim, value_dim, itemsize: as in `forward_cost`.
    **options: its others.

  Raises:
    ValueError: if a name is unknown.
  """
  cost = forward_cost(
    batch, time, heads, key_dim, value_dim, itemsize=itemsize, **options
  )
  spared = batch * time * heads * (itemsize * key_dim - 4)
  return Cost(cost.flops, cost.bytes - spared)
