"""Parameterisations of `dplr_delta_rule`: what is erased is read undecayed.

Each is a pure function from projected tensors [batch, time, heads, dim] to
(out [batch, time, heads, V] in v's dtype, final state [batch, heads, K, V] in
float32) of its paper's recurrence; here o = S^T q and states are K x V. Further
keyword arguments (initial_state, segment_ids, chunk_size, implementation,
target) go to the operator.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from asi_evolve_jax.models.mixers import gates
from pallas_kernels.dplr_delta_rule import dplr_delta_rule

Result = tuple[jax.Array, jax.Array]

_RWKV7_DECAY = math.exp(-0.5)


def comba(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  beta: jax.Array,
  g: jax.Array,
  feedback: jax.Array,
  correction: jax.Array,
  **options: Any,
) -> Result:
  """Comba (arXiv:2506.02475): closed-loop control of state and output.

  S_t = (a - b beta k k^T) S_{t-1} + beta k v^T, o = S^T (q - d k), a = e^g.
  The transition is a scalar plus rank one: unlike Gated DeltaNet's it erases
  what the undecayed state holds, so it is no case of `delta_rule`.

  Args:
    q, k, v: as in `dplr_delta_rule`; q and k are given an L2 norm of 1.
    beta: in (0, 1), [batch, time, heads].
    g: log decay, [batch, time, heads].
    feedback: b, in (0, 1), [heads].
    correction: d, [heads].
    **options: for the operator.
  """
  q, k = gates.unit(q), gates.unit(k)
  rate = beta[..., None]
  q = (q - correction[:, None] * k).astype(q.dtype)
  p = (feedback[:, None] * k).astype(k.dtype)
  write = (rate * v).astype(v.dtype)
  return dplr_delta_rule(
    q, k, write, p, (-rate * k).astype(k.dtype), g, **options
  )


def rwkv7(
  r: jax.Array,
  k: jax.Array,
  v: jax.Array,
  decay: jax.Array,
  rate: jax.Array,
  remove: jax.Array,
  replace: jax.Array,
  bonus: jax.Array,
  **options: Any,
) -> Result:
  """RWKV-7, "Goose" (arXiv:2503.14456, section 4).

  With w = exp(-e^{-1/2} sigmoid(decay)), a = sigmoid(rate), kappa = k remove
  of norm 1 and k' = k (1 + (a - 1) replace),
    S_t = (diag(w) - (a kappa) kappa^T) S_{t-1} + k' v^T,
    o = S^T r + (r . (bonus k')) v.

  Args:
    r, k: receptance and key, [batch, time, heads, K].
    v: [batch, time, heads, V].
    decay, rate: logits, [batch, time, heads, K].
    remove, replace, bonus: xi, alpha and rho, [heads, K].
    **options: for the operator.
  """
  g = -_RWKV7_DECAY * jax.nn.sigmoid(decay.astype(jnp.float32))
  a = jax.nn.sigmoid(rate.astype(jnp.float32))
  kappa = gates.unit(k * remove)
  key = k * (1 + (a - 1) * replace)
  own = jnp.sum(r * key * bonus, axis=-1, keepdims=True)
  dtype = k.dtype
  out, state = dplr_delta_rule(
    r,
    key.astype(dtype),
    v,
    -kappa.astype(dtype),
    (a * kappa).astype(dtype),
    g,
    scale=1.0,
    min_log_decay=-_RWKV7_DECAY,
    **options,
  )
  return (out + own * v).astype(v.dtype), state
