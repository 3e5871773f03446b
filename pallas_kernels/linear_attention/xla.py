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

from typing import Any

import jax

from pallas_kernels.shared import chunks, decay
from pallas_kernels.shared.chunks import matmul, turned


def linear_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  g: jax.Array | None,
  state: jax.Array,
  scale: float,
  chunk_size: int,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence of reference.py; accumulates in the dtype of `state`."""
  dtype = state.dtype
  time = q.shape[1]
  chunk = chunks.fit_chunk(chunk_size, time)
  out, state = _chunked(
    chunks.split(q, chunk, dtype) * scale,
    chunks.split(k, chunk, dtype),
    chunks.split(v, chunk, dtype),
    decay.running_sum(g, chunk, dtype),
    state,
  )
  return chunks.join(out, time, v.dtype), state


@jax.custom_vjp
def _chunked(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  total: jax.Array | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return _forward(q, k, v, total, state)[0]


def _forward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  total: jax.Array | None,
  state: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  scores = decay.gram(q, k, total, strict=False)

  def visit(s, xs):
    q_read, k_late, v, factor = xs
    after = decay.carried(s, factor) + matmul(k_late, v)
    return after, (s.mT, matmul(q_read, s))

  xs = (
    decay.decayed(q, total),
    decay.decayed(k, decay.to_end(total)).mT,
    v,
    decay.across(total),
  )
  last, (states, read) = jax.lax.scan(visit, state, xs)
  out = read + matmul(scores, v)
  return (out, last), (q, k, v, total, states, scores)


def _backward(
  saved: tuple[Any, ...], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array | None, ...]:
  q, k, v, total, states, scores = saved
  dout, dlast = cotangents
  late = decay.to_end(total)

  def visit(ds, xs):
    q_read, k_late, dout, factor = xs
    before = decay.carried(ds, factor) + matmul(q_read, dout)
    return before, (ds.mT, matmul(k_late, ds))

  xs = (
    decay.decayed(q, total).mT,
    decay.decayed(k, late),
    dout,
    decay.across(total),
  )
  dstate, (dstates, dv) = jax.lax.scan(visit, dlast, xs, reverse=True)
  dv = dv + matmul(turned(scores), dout)
  dq, dk = decay.gram_vjp(matmul(dout, v.mT), q, k, total, strict=False)
  dq = dq + decay.decayed(matmul(dout, states), total)
  dk_late = decay.decayed(matmul(v, dstates), late)
  dk = dk + dk_late
  if total is None:
    return dq, dk, dv, None, dstate
  inner = q * dq - k * dk
  dtotal = decay.total_vjp(inner, k * dk_late, states, dstates, total)
  return dq, dk, dv, dtotal, dstate


_chunked.defvjp(_forward, _backward)
