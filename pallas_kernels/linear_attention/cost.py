"""FLOPs and bytes of linear attention."""

from __future__ import annotations

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
    itemsize: bytes an entry of q, k, v and the output has.

  Raises:
    ValueError: if a name is unknown.
  """
  check_convention(convention)
  entries = decay_entries(decay_kind, key_dim)
  tokens = batch * time * heads
  state = key_dim * value_dim
  moved = tokens * (itemsize * (2 * key_dim + 2 * value_dim) + 4 * entries)
  moved += 2 * 4 * batch * heads * state
  if convention == RECURRENT:
    # The write and the read by q, and the decay.
    flops = tokens * state * (4 + (entries > 0))
    return Cost(flops, moved)
  chunk = chunks.fit_chunk(chunk_size, time)
  grams = decay.gram_products(chunk, sub_chunk) if decay_kind == "vector" else 1
  size = chunk * chunk
  # Scores and their product with v, then the read and update of the state.
  inside = grams * size * key_dim + size * value_dim
  inside += size * entries  # the decay's running sum
  passing = 2 * chunk * key_dim * value_dim
  number = batch * heads * -(-time // chunk)
  return Cost(2 * number * (inside + passing), moved)
