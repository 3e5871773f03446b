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

from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunks, decay, triangular
from pallas_kernels.shared.chunks import matmul, turned


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
  out, state = _chunked(
    chunks.split(q, chunk, dtype) * scale,
    chunks.split(k, chunk, dtype),
    chunks.split(v, chunk, dtype),
    chunks.split(p, chunk, dtype),
    decay.running_sum(g, chunk, dtype),
    state,
  )
  return chunks.join(out, time, v.dtype), state


@jax.custom_vjp
def _chunked(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  total: jax.Array | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return _forward(q, k, v, p, total, state)[0]


def _forward(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  total: jax.Array | None,
  state: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  chunk = q.shape[-2]
  scores = decay.gram(q, k, total, strict=False)
  inverse = triangular.unit_lower_inverse(decay.gram(p, k, total, strict=True))
  w = matmul(inverse, decay.decayed(p, total))
  rows = jnp.concatenate([w, decay.decayed(q, total)], axis=-2)
  k_late = decay.decayed(k, decay.to_end(total)).mT

  def visit(s, xs):
    rows, u, k_late, factor = xs
    read = matmul(rows, s)
    values = u - read[..., :chunk, :]
    after = decay.carried(s, factor) + matmul(k_late, values)
    return after, (s.mT, values, read[..., chunk:, :])

  xs = (rows, matmul(inverse, v), k_late, decay.across(total))
  last, (states, values, read) = jax.lax.scan(visit, state, xs)
  out = read + matmul(scores, values)
  saved = (q, k, p, total, states, inverse, scores, w, values)
  return (out, last), saved


def _backward(
  saved: tuple[Any, ...], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array | None, ...]:
  q, k, p, total, states, inverse, scores, w, values = saved
  dout, dlast = cotangents
  late = decay.to_end(total)

  def visit(ds, xs):
    k_late, q_read, w, dvalues, dout, factor = xs
    dvalues = dvalues + matmul(k_late, ds)
    before = matmul(q_read, dout) - matmul(w, dvalues)
    return before + decay.carried(ds, factor), (ds.mT, dvalues)

  xs = (
    decay.decayed(k, late),
    decay.decayed(q, total).mT,
    w.mT,
    matmul(turned(scores), dout),
    dout,
    decay.across(total),
  )
  dstate, (dstates, dvalues) = jax.lax.scan(visit, dlast, xs, reverse=True)
  dv = matmul(turned(inverse), dvalues)
  dscores = matmul(dout, values.mT)
  da = -matmul(dv, values.mT)
  dq, dk_q = decay.gram_vjp(dscores, q, k, total, strict=False)
  dp, dk_p = decay.gram_vjp(da, p, k, total, strict=True)
  dq = dq + decay.decayed(matmul(dout, states), total)
  dp = dp - decay.decayed(matmul(dv, states), total)
  dk_late = decay.decayed(matmul(values, dstates), late)
  dk = dk_q + dk_p + dk_late
  if total is None:
    return dq, dk, dv, dp, None, dstate
  inner = q * dq + p * dp - k * dk
  dtotal = decay.total_vjp(inner, k * dk_late, states, dstates, total)
  return dq, dk, dv, dp, dtotal, dstate


_chunked.defvjp(_forward, _backward)
