"""The diagonal-plus-rank-one delta rule on one chunk of one head.

What p reads before each token, R, solves (I - A) R = (read of the state) +
(weights of p on k) v, with A the weights of p on earlier e: e writes R and k
writes v. Backward takes the inverse from forward.
"""

from __future__ import annotations

import jax

from pallas_kernels.shared import chunk
from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import KernelProducts
from pallas_kernels.shared.triangular import kernel_unit_lower_inverse

matrices = 4
inverses = 1
early = True


def solve(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  products: KernelProducts,
  known: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, ...]:
  """Returns the inverse of the system that what p reads solves, and weights.

  Those of p on k, of q on k and of q on e.
  """
  q, k, _, p, e = tokens
  readers = [Reader(q), Reader(p, early=True, strict=True)]
  (scores, erased), (looks, weights) = decays.grams(
    readers, [k, e], decay, products
  )
  if not known:
    known = (kernel_unit_lower_inverse(-weights, products),)
  return (*known, looks, scores, erased)


def forward(
  tokens: tuple[jax.Array, ...],
  decay: Decay | None,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  products: KernelProducts,
) -> tuple[jax.Array, jax.Array]:
  """tokens: q, k [chunk, K], v [chunk, V], p, e [chunk, K]."""
  q, k, v, p, e = tokens
  inverse, looks, scores, erased = solved
  reader, looker = Reader(q), Reader(p, early=True, strict=True)
  seen = chunk.read(looker, decay, state, products)
  seen = seen + products.nn(looks, v)
  seen = products.nn(inverse, seen)
  out = chunk.read(reader, decay, state, products)
  out = out + products.nn(scores, v) + products.nn(erased, seen)
  return out, chunk.write([k, e], [v, seen], decay, state, products)


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
  q, k, v, p, e = tokens
  inverse, looks, scores, erased = solved
  reader, looker = Reader(q), Reader(p, early=True, strict=True)
  seen = chunk.read(looker, decay, state, products) + products.nn(looks, v)
  seen = products.nn(inverse, seen)
  late = decays.to_end(decay)
  dseen = products.tn_lower(erased, dout)
  dseen = dseen + products.nt(decays.decayed(e, late), dstate)
  dlook = products.tn_lower(inverse, dseen)
  dv = products.tn_lower(scores, dout)
  dv = dv + products.tn_lower(looks, dlook)
  dv = dv + products.nt(decays.decayed(k, late), dstate)
  readers, dreads = [reader, looker], [dout, dlook]
  grads = chunk.gradients(
    readers, dreads, [k, e], [v, seen], decay, state, dstate, products
  )
  (dq, dp), (dk, de) = grads.readers, grads.keys
  before = chunk.start_gradient(readers, dreads, decay, dstate, products)
  return (dq, dk, dv, dp, de), grads.decay, before
