"""Cutting time into chunks and passing a state from chunk to chunk.

Inside the chunked forms arrays are [chunks, batch, heads, chunk, dim], so that
everything that does not depend on the state is one batched matrix product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def fit_chunk(chunk_size: int, time: int) -> int:
  """Returns the power of two to use: no longer than the sequence needs."""
  return min(chunk_size, 1 << (time - 1).bit_length())


def split(x: jax.Array, chunk: int, dtype: np.dtype) -> jax.Array:
  """[batch, time, heads, dim] -> [chunks, batch, heads, chunk, dim].

  Time is padded with zeros: a token with k = v = p = 0 and g = 0 leaves the
  state as it is.
  """
  batch, time, heads, dim = x.shape
  chunks = -(-time // chunk)
  x = jnp.pad(x, ((0, 0), (0, chunks * chunk - time), (0, 0), (0, 0)))
  x = x.reshape(batch, chunks, chunk, heads, dim)
  return x.transpose(1, 0, 3, 2, 4).astype(dtype)


def join(x: jax.Array, time: int, dtype: np.dtype) -> jax.Array:
  """Inverse of `split`; drops the padding."""
  chunks, batch, heads, chunk, dim = x.shape
  x = x.astype(dtype).transpose(1, 0, 3, 2, 4)
  return x.reshape(batch, chunks * chunk, heads, dim)[:, :time]


def pass_state(
  transition: jax.Array | None,
  update: jax.Array,
  state: jax.Array,
  *,
  dense: bool,
  reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Runs S <- T_n S + U_n over chunks.

  Args:
    transition: [chunks, batch, heads, K, K] if dense, else a diagonal
      [chunks, batch, heads, K or 1, 1]; None is the identity.
    update: [chunks, batch, heads, K, V].
    state: [batch, heads, K, V], before the first chunk that is visited.
    dense: whether transitions are matrices.
    reverse: visit the last chunk first.

  Returns:
    (states before each chunk's visit [chunks, batch, heads, K, V], the state
    after the last visit).
  """

  def step(
    s: jax.Array, xs: tuple[jax.Array | None, jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    t, u = xs
    if t is None:
      return s + u, s
    if dense:
      moved = jnp.matmul(t, s, precision=jax.lax.Precision.HIGHEST)
      return moved + u, s
    return t * s + u, s

  last, states = jax.lax.scan(
    step, state, (transition, update), reverse=reverse
  )
  return states, last
