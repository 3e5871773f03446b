"""The diagonal-plus-rank-one delta rule chunk by chunk, for any XLA backend.

With P+ = p e^{G - g} (p reads before its token decays), the weights A_pe and
A_pk of p on earlier e and k, and X = (I - A_pe)^-1, what p reads is
  R = W S + U,  W = X P+,  U = X A_pk v,
computed for all chunks at once but for the state S, which passes from chunk to
chunk: S <- diag(e^{G_C}) S + (k e^{G_C - G})^T v + (e e^{G_C - G})^T R. The
backward pass is written out and has the same shape.
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


def dplr_delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  e: jax.Array,
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
  q, k, values, p, e = (chunks.split(x, chunk, dtype) for x in (q, k, v, p, e))
  decay = chunks.running_decay(g, segments, chunk, dtype, early=True)
  out, state = _chunked(
    name, products, q * scale, k, values, p, e, decay, state
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
  e: jax.Array,
  decay: Decay | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return _forward(name, products, q, k, v, p, e, decay, state)[0]


def _forward(
  name: str,
  products: XlaProducts,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  e: jax.Array,
  decay: Decay | None,
  state: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  chunk = q.shape[-2]
  reader, looker = Reader(q), Reader(p, early=True, strict=True)
  (scores, erased), (looks, weights) = decays.grams(
    [reader, looker], [k, e], decay, products
  )
  inverse = unit_lower_inverse(-weights, products)
  w = products.nn(inverse, decays.decayed(p, decays.since_start(looker, decay)))
  q_read = decays.decayed(q, decays.since_start(reader, decay))
  late = decays.to_end(decay)
  keys = [decays.decayed(x, late) for x in (k, e)]

  def visit(s, xs):
    rows, u, v, keys, factor = xs
    read = products.nn(rows, s)
    seen = u + read[..., :chunk, :]
    values = jnp.concatenate([v, seen], axis=-2)
    after = decays.carried(s, factor) + products.nn(keys, values)
    return after, (s.mT, values, read[..., chunk:, :])

  xs = (
    jnp.concatenate([w, q_read], axis=-2),
    products.nn(inverse, products.nn(looks, v)),
    v,
    jnp.concatenate(keys, axis=-2).mT,
    chunks.factor(decay),
  )
  last, (states, values, read) = jax.lax.scan(visit, state, xs)
  both = jnp.concatenate([scores, erased], axis=-1)
  out = read + products.nn(both, values)
  seen = values[..., chunk:, :]
  weights = (inverse, looks, scores, erased)
  made = linear.saved_by_name(name, (states, seen, w, weights))
  return (out, last), (q, k, v, p, e, decay, *made)


def _backward(
  name: str,
  products: XlaProducts,
  saved: tuple[Any, ...],
  cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Any, ...]:
  del name
  q, k, v, p, e, decay, states, seen, w, weights = saved
  inverse, looks, scores, erased = weights
  dout, dlast = cotangents
  chunk = q.shape[-2]
  reader, looker = Reader(q), Reader(p, early=True, strict=True)
  late = decays.to_end(decay)
  keys = [decays.decayed(x, late) for x in (e, k)]

  def visit(ds, xs):
    keys, q_read, w, dseen, dout, factor = xs
    dwrote = products.nn(keys, ds)
    dseen = dseen + dwrote[..., :chunk, :]
    before = products.nn(q_read, dout) + products.nn(w, dseen)
    before = before + decays.carried(ds, factor)
    return before, (ds.mT, dseen, dwrote[..., chunk:, :])

  xs = (
    jnp.concatenate(keys, axis=-2),
    decays.decayed(q, decays.since_start(reader, decay)).mT,
    w.mT,
    products.tn_lower(erased, dout),
    dout,
    chunks.factor(decay),
  )
  dstate, (dstates, dseen, dv) = jax.lax.scan(visit, dlast, xs, reverse=True)
  dlook = products.tn_lower(inverse, dseen)
  dv = dv + products.tn_lower(scores, dout) + products.tn_lower(looks, dlook)
  grads = linear.gradients(
    [reader, looker],
    [dout, dlook],
    [k, e],
    [v, seen],
    decay,
    states,
    dstates,
    products,
  )
  (dq, dp), (dk, de) = grads.readers, grads.keys
  return dq, dk, dv, dp, de, grads.decay, dstate


_chunked.defvjp(_forward, _backward)
