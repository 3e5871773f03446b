"""Linear attention chunk by chunk, for any XLA backend.

With G the running sum of the log decay inside a chunk, S the state before it,
and * elementwise along tokens:
  P = lower((q e^G)(k e^-G)^T),  o = (q e^G) S + P v,
  S <- diag(e^{G_C}) S + (k e^{G_C - G})^T v.
The backward pass is written out: it saves the states and needs no second look
at exponentials that autodiff would keep (GLA, arXiv:2312.06635, section 4).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunks, decay


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
  total = None
  if g is not None:
    g = g if g.ndim == 4 else g[..., None]
    total = jnp.cumsum(chunks.split(g, chunk, dtype), axis=-2)
  out, state = _chunked(
    chunks.split(q, chunk, dtype) * scale,
    chunks.split(k, chunk, dtype),
    chunks.split(v, chunk, dtype),
    total,
    state,
  )
  return chunks.join(out, time, v.dtype), state


@jax.custom_vjp
def _chunked(q, k, v, total, state):
  return _forward(q, k, v, total, state)[0]


def _forward(q, k, v, total, state):
  scores = decay.gram(q, k, total, strict=False)
  update = _matmul(decay.decayed(k, decay.to_end(total)).mT, v)
  states, last = chunks.pass_state(
    _chunk_decay(total), update, state, dense=False
  )
  out = _matmul(decay.decayed(q, total), states) + _matmul(scores, v)
  return (out, last), (q, k, v, total, states, scores)


def _backward(saved, cotangents):
  q, k, v, total, states, scores = saved
  dout, dlast = cotangents
  late = decay.to_end(total)
  across = _chunk_decay(total)
  dstates, dstate = chunks.pass_state(
    across,
    _matmul(decay.decayed(q, total).mT, dout),
    dlast,
    dense=False,
    reverse=True,
  )
  dv = _matmul(scores.mT, dout) + _matmul(decay.decayed(k, late), dstates)
  dq, dk = decay.gram_vjp(_matmul(dout, v.mT), q, k, total, strict=False)
  dq = dq + decay.decayed(_matmul(dout, states.mT), total)
  dk_late = decay.decayed(_matmul(v, dstates.mT), late)
  dk = dk + dk_late
  if total is None:
    return dq, dk, dv, None, dstate
  dtotal = q * dq - k * dk
  last = jnp.sum(k * dk_late, -2) + jnp.sum(across * states * dstates, -1)
  dtotal = dtotal.at[..., -1, :].add(last)
  if total.shape[-1] == 1:
    dtotal = jnp.sum(dtotal, -1, keepdims=True)
  return dq, dk, dv, dtotal, dstate


_chunked.defvjp(_forward, _backward)


def _chunk_decay(total):
  """e^{G_C} as a diagonal [..., K or 1, 1]."""
  return None if total is None else jnp.exp(total[..., -1:, :]).mT


def _matmul(a, b):
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
