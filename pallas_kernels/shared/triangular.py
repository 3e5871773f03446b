"""The inverse of I + A for strictly lower triangular A."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.shared.chunks import matmul


def unit_lower_inverse(a: jax.Array) -> jax.Array:
  """Returns (I + A)^-1 for strictly lower triangular A [..., C, C].

  Block elimination on blocks of 2, 4, ..., C: with the diagonal blocks
  inverted, the block below them is -X_22 A_21 X_11, which the products of
  whole matrices X <- X - X L X do at once. Each step is exact elimination, so
  the error stays at rounding where a Neumann series (powers of A) loses all
  digits on near-duplicate keys. C must be a power of two.
  """
  size = a.shape[-1]
  index = np.arange(size)
  inverse = None
  half = 1
  while half < size:
    late = (index // half) % 2 == 1
    same = index[:, None] // (2 * half) == index[None, :] // (2 * half)
    below = jnp.where(same & late[:, None] & ~late[None, :], a, 0)
    if inverse is None:
      inverse = jnp.eye(size, dtype=a.dtype) - below
    else:
      inverse = inverse - matmul(matmul(inverse, below), inverse)
    half *= 2
  if inverse is None:
    return jnp.ones_like(a)
  return inverse
