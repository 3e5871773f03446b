"""Linear attention on one chunk of one head: values are v as they are."""

from __future__ import annotations

import jax

from pallas_kernels.shared import chunk
from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import KernelProducts

matrices = 1
inverses = 0
early = False


def solve(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  products: KernelProducts,
  known: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, ...]:
  """Returns the scores."""
  del known
  q, k, _ = tokens
  return (decays.gram(Reader(q), k, decay, products),)


def forward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  products: KernelProducts,
) -> tuple[jax.Array, jax.Array]:
  """tokens: q, k [chunk, K] and v [chunk, V]; see shared/chunk.py."""
  q, k, v = tokens
  (scores,) = solved
  reader = Reader(q)
  out = chunk.read(reader, decay, state, products) + products.nn(scores, v)
  return out, chunk.write([k], [v], decay, state, products)


def backward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  dout: jax.Array,
  dstate: jax.Array,
  products: KernelProducts,
) -> tuple[tuple[jax.Array, ...], Decay | None, jax.Array]:
  """The reverse of `forward`; see Recurrence in shared/chunk.py."""
  q, k, v = tokens
  (scores,) = solved
  reader = Reader(q)
  dv = products.tn_lower(scores, dout)
  dv = dv + products.nt(decays.decayed(k, decays.to_end(decay)), dstate)
  grads = chunk.gradients(
    [reader], [dout], [k], [v], decay, state, dstate, products
  )
  before = chunk.start_gradient([reader], [dout], decay, dstate, products)
  return (*grads.readers, *grads.keys, dv), grads.decay, before
