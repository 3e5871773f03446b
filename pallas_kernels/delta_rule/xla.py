"""The delta rule chunk by chunk, for any XLA backend.

The pseudo-values V~ of a chunk solve (I + A) V~ = v - (p e^G) S with
A = strict-lower((p e^G)(k e^-G)^T). With X = (I + A)^-1, W = X (p e^G) and
U = X v, all computed for all chunks at once, the pass over chunks is
  V~ = U - W S,  S <- diag(e^{G_C}) S + (k e^{G_C - G})^T V~,
and o = (q e^G) S + lower((q e^G)(k e^-G)^T) V~ (the WY form of
arXiv:2406.06484 with decay as in arXiv:2412.06464). The backward pass is
written out: a reverse pass of the same shape between products for all chunks;
the inverse needs no gradient of its own. States are kept transposed, as the
backward products read them.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunk as linear
from pallas_kernels.shared import chunks
from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import XlaProducts
from pallas_kernels.shared.triangular import unit_lower_inverse


def delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  g: jax.Array | None,
  state: jax.Array,
  segments: jax.Array | None,
  scale: float,
  chunk_size: int,
  products: XlaProducts,
  name: str,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence of reference.py; accumulates in the dtype of `state`.

  What backward keeps is named after `name`, the operator.
  """
  dtype = state.dtype
  time = q.shape[1]
  chunk = chunks.fit_chunk(chunk_size, time)
  out, state = _chunked(
    name,
    products,
    chunks.split(q, chunk, dtype) * scale,
    chunks.split(k, chunk, dtype),
    chunks.split(v, chunk, dtype),
    chunks.split(p, chunk, dtype),
    chunks.running_decay(g, segments, chunk, dtype),
    state,
  )
  return chunks.join(out, time, v.dtype), state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked(
  name: str,
  products: XlaProducts,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  decay: Decay | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return _forward(name, products, q, k, v, p, decay, state)[0]


def _forward(
  name: str,
  products: XlaProducts,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  decay: Decay | None,
  state: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  chunk = q.shape[-2]
  reader, eraser = Reader(q), Reader(p, strict=True)
  since = decays.since_start(reader, decay)
  (scores,), (weights,) = decays.grams([reader, eraser], [k], decay, products)
  inverse = unit_lower_inverse(weights, products)
  w = products.nn(inverse, decays.decayed(p, since))
  rows = jnp.concatenate([w, decays.decayed(q, since)], axis=-2)
  k_late = decays.decayed(k, decays.to_end(decay)).mT

  def visit(s, xs):
    rows, u, k_late, factor = xs
    read = products.nn(rows, s)
    values = u - read[..., :chunk, :]
    after = decays.carried(s, factor) + products.nn(k_late, values)
    return after, (s.mT, values, read[..., chunk:, :])

  xs = (rows, products.nn(inverse, v), k_late, chunks.factor(decay))
  last, (states, values, read) = jax.lax.scan(visit, state, xs)
  out = read + products.nn(scores, values)
  made = linear.saved_by_name(name, (states, inverse, scores, w, values))
  return (out, last), (q, k, p, decay, *made)


def _backward(
  name: str,
  products: XlaProducts,
  saved: tuple[Any, ...],
  cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Any, ...]:
  del name
  q, k, p, decay, states, inverse, scores, w, values = saved
  dout, dlast = cotangents
  reader, eraser = Reader(q), Reader(p, strict=True)

  def visit(ds, xs):
    k_late, q_read, w, dvalues, dout, factor = xs
    dvalues = dvalues + products.nn(k_late, ds)
    before = products.nn(q_read, dout) - products.nn(w, dvalues)
    return before + decays.carried(ds, factor), (ds.mT, dvalues)

  xs = (
    decays.decayed(k, decays.to_end(decay)),
    decays.decayed(q, decays.since_start(reader, decay)).mT,
    w.mT,
    products.tn_lower(scores, dout),
    dout,
    chunks.factor(decay),
  )
  dstate, (dstates, dvalues) = jax.lax.scan(visit, dlast, xs, reverse=True)
  dv = products.tn_lower(inverse, dvalues)
  # The values lose what p reads, in the chunk and in the state alike.
  grads = linear.gradients(
    [reader, eraser],
    [dout, -dv],
    [k],
    [values],
    decay,
    states,
    dstates,
    products,
  )
  (dq, dp), (dk,) = grads.readers, grads.keys
  return dq, dk, dv, dp, grads.decay, dstate


_chunked.defvjp(_forward, _backward)
