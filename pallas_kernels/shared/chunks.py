"""Cutting time into chunks, and the products of chunks.

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


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns a @ b in full precision, which TPUs and GPUs do only if asked."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def turned(x: jax.Array) -> jax.Array:
  """Returns the transpose of lower triangular x as an array of its own.

  XLA folds a plain transpose into the product that reads it, and on CPU
  products with a transposed left side are four times slower. The mask, which
  changes nothing, keeps it out.
  """
  return jnp.where(np.tri(x.shape[-1], dtype=bool).T, x.mT, 0)
