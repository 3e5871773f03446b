"""The delta rule chunk by chunk, for any XLA backend.

The pseudo-values V~ of a chunk solve (I + A) V~ = v - (p e^G) S with
A = strict-lower((p e^G)(k e^-G)^T). With X = (I + A)^-1, W = X (p e^G) and
U = X v, all computed for all chunks at once,
  V~ = U - W S,  o = (q e^G) S + lower((q e^G)(k e^-G)^T) V~,
  S <- (diag(e^{G_C}) - Kd^T W) S + Kd^T U,  Kd = k e^{G_C - G},
so the pass from chunk to chunk is one matrix product (the WY form of
arXiv:2406.06484 with decay as in arXiv:2412.06464). The backward pass is
written out; its reverse state pass uses the same transitions transposed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunks, decay, triangular


def delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
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
    chunks.split(p, chunk, dtype),
    total,
    state,
  )
  return chunks.join(out, time, v.dtype), state


@jax.custom_vjp
def _chunked(q, k, v, p, total, state):
  return _forward(q, k, v, p, total, state)[0]


def _forward(q, k, v, p, total, state):
  inverse = triangular.unit_lower_inverse(decay.gram(p, k, total, strict=True))
  scores = decay.gram(q, k, total, strict=False)
  w = _matmul(inverse, decay.decayed(p, total))
  u = _matmul(inverse, v)
  k_late = decay.decayed(k, decay.to_end(total)).mT
  transition = _chunk_decay(total, k) - _matmul(k_late, w)
  states, last = chunks.pass_state(
    transition, _matmul(k_late, u), state, dense=True
  )
  values = u - _matmul(w, states)
  out = _matmul(decay.decayed(q, total), states) + _matmul(scores, values)
  saved = (q, k, p, total, states, transition, inverse, scores, w, values)
  return (out, last), saved


def _backward(saved, cotangents):
  q, k, p, total, states, transition, inverse, scores, w, values = saved
  dout, dlast = cotangents
  late = decay.to_end(total)
  dvalues = _matmul(scores.mT, dout)
  dstates, dstate = chunks.pass_state(
    transition.mT,
    _matmul(decay.decayed(q, total).mT, dout) - _matmul(w.mT, dvalues),
    dlast,
    dense=True,
    reverse=True,
  )
  dvalues = dvalues + _matmul(decay.decayed(k, late), dstates)
  dv = _matmul(inverse.mT, dvalues)
  dq, dk_q = decay.gram_vjp(_matmul(dout, values.mT), q, k, total, strict=False)
  dp, dk_p = decay.gram_vjp(-_matmul(dv, values.mT), p, k, total, strict=True)
  dq = dq + decay.decayed(_matmul(dout, states.mT), total)
  dp = dp - decay.decayed(_matmul(dv, states.mT), total)
  dk_late = decay.decayed(_matmul(values, dstates.mT), late)
  dk = dk_q + dk_p + dk_late
  if total is None:
    return dq, dk, dv, dp, None, dstate
  dtotal = q * dq + p * dp - k * dk
  across = jnp.exp(total[..., -1, :])
  last = jnp.sum(k * dk_late, -2) + across * jnp.sum(states * dstates, -1)
  dtotal = dtotal.at[..., -1, :].add(last)
  if total.shape[-1] == 1:
    dtotal = jnp.sum(dtotal, -1, keepdims=True)
  return dq, dk, dv, dp, dtotal, dstate


_chunked.defvjp(_forward, _backward)


def _chunk_decay(total, k):
  """diag(e^{G_C}), [..., K, K] (the identity without decay)."""
  eye = jnp.eye(k.shape[-1], dtype=k.dtype)
  return eye if total is None else eye * jnp.exp(total[..., -1:, :])


def _matmul(a, b):
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
