"""Linear attention chunk by chunk, for any XLA backend.

With G the running sum of the log decay inside a chunk, S the state before it,
and * elementwise along tokens:
  P = lower((q e^G)(k e^-G)^T),  o = (q e^G) S + P v,
  S <- diag(e^{G_C}) S + (k e^{G_C - G})^T v.
Only the last line runs chunk after chunk. The backward pass is written out and
has the same shape (GLA, arXiv:2312.06635, section 4). States are kept
transposed, as its products read them.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

from pallas_kernels.shared import chunk as linear
from pallas_kernels.shared import chunks
from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import XlaProducts


def linear_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
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
  decay: Decay | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return _forward(name, products, q, k, v, decay, state)[0]


def _forward(
  name: str,
  products: XlaProducts,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  decay: Decay | None,
  state: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  scores = decays.gram(Reader(q), k, decay, products)

  def visit(s, xs):
    q_read, k_late, v, factor = xs
    after = decays.carried(s, factor) + products.nn(k_late, v)
    return after, (s.mT, products.nn(q_read, s))

  xs = (
    decays.decayed(q, decays.since_start(Reader(q), decay)),
    decays.decayed(k, decays.to_end(decay)).mT,
    v,
    chunks.factor(decay),
  )
  last, (states, read) = jax.lax.scan(visit, state, xs)
  out = read + products.nn(scores, v)
  made = linear.saved_by_name(name, (states, scores))
  return (out, last), (q, k, v, decay, *made)


def _backward(
  name: str,
  products: XlaProducts,
  saved: tuple[Any, ...],
  cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Any, ...]:
  del name
  q, k, v, decay, states, scores = saved
  dout, dlast = cotangents
  reader = Reader(q)

  def visit(ds, xs):
    q_read, k_late, dout, factor = xs
    before = decays.carried(ds, factor) + products.nn(q_read, dout)
    return before, (ds.mT, products.nn(k_late, ds))

  xs = (
    decays.decayed(q, decays.since_start(reader, decay)).mT,
    decays.decayed(k, decays.to_end(decay)),
    dout,
    chunks.factor(decay),
  )
  dstate, (dstates, dv) = jax.lax.scan(visit, dlast, xs, reverse=True)
  dv = dv + products.tn_lower(scores, dout)
  grads = linear.gradients(
    [reader], [dout], [k], [v], decay, states, dstates, products
  )
  return *grads.readers, *grads.keys, dv, grads.decay, dstate


_chunked.defvjp(_forward, _backward)
