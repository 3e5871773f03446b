"""The inverse of I + A for strictly lower triangular A.

By block elimination on blocks of 2, 4, ..., C: with the diagonal blocks
inverted, the block below them is -X_22 A_21 X_11. Each step is exact
elimination, so the error stays at rounding where a Neumann series (powers of
A) loses all digits on near-duplicate keys. C must be a power of two.

Not by jax.lax.linalg.triangular_solve: no kernel can call it, and on CPU with
jaxlib 0.10.2 a program that holds one between other work may never return.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import decay
from pallas_kernels.shared.products import KernelProducts, Products

_SUBLANES = 8  # rows of a TPU tile


def unit_lower_inverse(a: jax.Array, products: Products) -> jax.Array:
  """Returns (I + A)^-1 for A [..., C, C].

  All blocks of a level at once, by the products of whole matrices
  X <- X - X L X with L the blocks below the diagonal.
  """
  size = a.shape[-1]
  inverse = jnp.where(decay.same_block(size, 1), jnp.ones_like(a), 0)
  half = 1
  while half < size:
    below = jnp.where(decay.across_halves(size, half), a, 0)
    if half == 1:
      inverse = inverse - below
    else:
      new = products.fine(products.fine(inverse, below), inverse)
      inverse = inverse - new
    half *= 2
  return inverse


def kernel_unit_lower_inverse(
  a: jax.Array, products: KernelProducts
) -> jax.Array:
  """Returns (I + A)^-1 for A [C, C], C at least 8, inside a kernel."""
  if products.cuts:
    return _tiled_unit_lower_inverse(a, products)
  return unit_lower_inverse(a, products)


def _tiled_unit_lower_inverse(a: jax.Array, products: Products) -> jax.Array:
  """The inverse inside a TPU kernel.

  With two savings of matrix products, which are what the forward pass of a
  delta rule spends most on: tiles of 8 rows are solved row by row on the
  vector unit, and a merge of halves computes the rows of the second only.
  """
  size = a.shape[0]
  inverse = _tile_inverses(a)
  half = _SUBLANES
  while half < size:
    halves = inverse.reshape(size // (2 * half), 2, half, size)
    first, second = halves[:, 0], halves[:, 1]
    below = jnp.where(decay.across_halves(size, half), a, 0)
    new = products.fine(second.reshape(-1, size), below)
    second = second - products.fine(new, inverse).reshape(second.shape)
    inverse = jnp.stack([first, second], axis=1).reshape(size, size)
    half *= 2
  return inverse


def _tile_inverses(a: jax.Array) -> jax.Array:
  """Inverts I + A on the diagonal blocks of 8, by forward substitution."""
  row, column = decay.iota(a.shape, 0), decay.iota(a.shape, 1)
  start = row - (row & (_SUBLANES - 1))
  inverse = (row == column).astype(jnp.float32)
  for j in range(_SUBLANES - 1):
    factor = jnp.where(column == start + j, a, 0)
    factor = jnp.sum(factor, axis=1, keepdims=True)
    inverse = inverse - factor * decay.picked(inverse, _SUBLANES, j)
  return inverse
