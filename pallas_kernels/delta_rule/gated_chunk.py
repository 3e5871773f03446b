"""The delta rule with a rate of writing, on one chunk of one head.

The kernel forms p = beta k and beta v itself: outside they would be two more
arrays to write and read. tokens: q, k [chunk, K], v [chunk, V], beta
[chunk, 1]; for the rest see Recurrence in shared/chunk.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.delta_rule import chunk
from pallas_kernels.shared.decay import Decay
from pallas_kernels.shared.products import KernelProducts

matrices = chunk.matrices
inverses = chunk.inverses
early = chunk.early


def solve(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  products: KernelProducts,
  known: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, ...]:
  return chunk.solve(_scaled(tokens), decay, products, known)


def forward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  products: KernelProducts,
) -> tuple[jax.Array, jax.Array]:
  return chunk.forward(_scaled(tokens), decay, solved, state, products)


def backward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  dout: jax.Array,
  dstate: jax.Array,
  products: KernelProducts,
) -> tuple[tuple[jax.Array, ...], Decay | None, jax.Array]:
  _, k, v, beta = tokens
  (dq, dk, dv, dp), ddecay, before = chunk.backward(
    _scaled(tokens), decay, solved, state, dout, dstate, products
  )
  dbeta = jnp.sum(dp * k, axis=1, keepdims=True)
  dbeta = dbeta + jnp.sum(dv * v, axis=1, keepdims=True)
  return (dq, dk + beta * dp, beta * dv, dbeta), ddecay, before


def _scaled(tokens: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
  q, k, v, beta = tokens
  return q, k, beta * v, beta * k
