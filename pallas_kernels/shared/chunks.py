"""Cutting time into chunks.

Inside the chunked forms arrays are [chunks, batch, heads, chunk, dim], so that
everything that does not depend on the state is one batched matrix product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay
from pallas_kernels.shared.products import XlaProducts


def fit_chunk(chunk_size: int, time: int) -> int:
  """Returns the power of two to use: no longer than the sequence needs."""
  return min(chunk_size, 1 << (time - 1).bit_length())


def split(
  x: jax.Array, chunk: int, dtype: np.dtype, *, mode: str = "constant"
) -> jax.Array:
  """[batch, time, heads, dim] -> [chunks, batch, heads, chunk, dim].

  Time is padded with zeros: a token with k = v = p = 0 and g = 0 leaves the
  state as it is. (Mode "edge" repeats the last token.)
  """
  batch, time, heads, dim = x.shape
  chunks = -(-time // chunk)
  padding = ((0, 0), (0, chunks * chunk - time), (0, 0), (0, 0))
  x = jnp.pad(x, padding, mode=mode)
  x = x.reshape(batch, chunks, chunk, heads, dim)
  return x.transpose(1, 0, 3, 2, 4).astype(dtype)


def join(x: jax.Array, time: int, dtype: np.dtype) -> jax.Array:
  """Inverse of `split`; drops the padding."""
  chunks, batch, heads, chunk, dim = x.shape
  x = x.astype(dtype).transpose(1, 0, 3, 2, 4)
  return x.reshape(batch, chunks * chunk, heads, dim)[:, :time]


def running_decay(
  g: jax.Array | None,
  segments: jax.Array | None,
  chunk: int,
  dtype: np.dtype,
  *,
  early: bool = False,
) -> Decay | None:
  """Returns the Decay of chunks [chunks, batch, heads, chunk, 1 or K].

  Args:
    g: as in the operators' api.py.
    segments: from `numbered`, [batch, time], or None; they need a g.
    chunk: tokens a chunk.
    dtype: to sum in.
    early: whether a reader reads before its token decays.
  """
  if g is None:
    return None
  g = split(g if g.ndim == 4 else g[..., None], chunk, dtype)
  total = _running_sum(g)
  own = total - g if early else None
  if segments is None:
    return Decay(total, own)
  segment = split(segments[:, :, None, None], chunk, dtype, mode="edge")
  last = segment[:-1, ..., -1:, :]
  before = jnp.concatenate([jnp.zeros_like(segment[:1, ..., :1, :]), last])
  return Decay(total, own, segment, before)


def _running_sum(g: jax.Array) -> jax.Array:
  """A product with ones of each chunk and head.

  cumsum, and one product for all, make XLA on CPU write g with time last, which
  is slow where there is a decay a channel.
  """
  chunk = g.shape[-2]
  ones = np.tri(chunk, dtype=g.dtype)
  ones = jnp.broadcast_to(ones, (*g.shape[:-1], chunk))
  return XlaProducts().nn(ones, g)


def numbered(segment_ids: jax.Array) -> jax.Array:
  """Numbers the sequences of each row from 0, float32 [batch, time].

  Args:
    segment_ids: [batch, time]; a sequence is a run of equal ids.
  """
  begins = segment_ids[:, 1:] != segment_ids[:, :-1]
  begins = jnp.pad(begins, ((0, 0), (1, 0)))
  return jnp.cumsum(begins, axis=1).astype(jnp.float32)


def factor(decay: Decay | None) -> jax.Array | None:
  """Returns the decay over each chunk as a column, for states [..., K, V]."""
  over = decays.across(decay)
  return None if over is None else over.mT


def continues(segments: jax.Array | None) -> jax.Array | None:
  """Returns [time, batch]: whether a token continues the one before it.

  The first continues the initial state.
  """
  if segments is None:
    return None
  same = segments[:, 1:] == segments[:, :-1]
  return jnp.pad(same, ((0, 0), (1, 0)), constant_values=True).T


def kept(state: jax.Array, keep: jax.Array | None) -> jax.Array:
  """Returns the state [batch, ...], zero where a sequence begins."""
  if keep is None:
    return state
  keep = keep.reshape(-1, *(1,) * (state.ndim - 1))
  return jnp.where(keep, state, 0)
