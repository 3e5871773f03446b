"""The delta rule on one chunk of one head.

The values V~ solve (I + A) V~ = v - (read of p), with A the weights between
p and earlier keys. Backward takes (I + A)^-1 from forward: the elimination is
a long chain of small products, and its result is no larger than a state.
"""

from __future__ import annotations

import jax

from pallas_kernels.shared import chunk
from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import KernelProducts
from pallas_kernels.shared.triangular import kernel_unit_lower_inverse

matrices = 2
inverses = 1
early = False


def solve(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  products: KernelProducts,
  known: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, ...]:
  """Returns the inverse of the system that the values solve, and the scores."""
  q, k, _, p = tokens
  readers = [Reader(q), Reader(p, strict=True)]
  (scores,), (weights,) = decays.grams(readers, [k], decay, products)
  if not known:
    known = (kernel_unit_lower_inverse(weights, products),)
  return (*known, scores)


def forward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  products: KernelProducts,
) -> tuple[jax.Array, jax.Array]:
  """tokens: q, k [chunk, K], v [chunk, V], p [chunk, K]."""
  q, k, v, p = tokens
  inverse, scores = solved
  reader, eraser = Reader(q), Reader(p, strict=True)
  error = v - chunk.read(eraser, decay, state, products)
  values = products.nn(inverse, error)
  out = chunk.read(reader, decay, state, products)
  out = out + products.nn(scores, values)
  return out, chunk.write([k], [values], decay, state, products)


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
  q, k, v, p = tokens
  inverse, scores = solved
  reader, eraser = Reader(q), Reader(p, strict=True)
  error = v - chunk.read(eraser, decay, state, products)
  values = products.nn(inverse, error)
  dvalues = products.tn_lower(scores, dout)
  dvalues = dvalues + products.nt(
    decays.decayed(k, decays.to_end(decay)), dstate
  )
  dv = products.tn_lower(inverse, dvalues)
  # The values lose what p reads, in the chunk and in the state alike.
  readers, dreads = [reader, eraser], [dout, -dv]
  grads = chunk.gradients(
    readers, dreads, [k], [values], decay, state, dstate, products
  )
  (dq, dp), (dk,) = grads.readers, grads.keys
  before = chunk.start_gradient(readers, dreads, decay, dstate, products)
  return (dq, dk, dv, dp), grads.decay, before
