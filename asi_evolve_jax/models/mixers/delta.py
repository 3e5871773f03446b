"""Parameterisations of `delta_rule`: memories that correct what they hold.

Each is a pure function from projected tensors [batch, time, heads, dim] to
(out [batch, time, heads, V] in v's dtype, final state [batch, heads, K, V] in
float32) of its paper's recurrence; here o = S^T q and states are K x V. Queries
and keys come as they are projected and are given an L2 norm of 1. Further
keyword arguments (initial_state, segment_ids, chunk_size, implementation,
target) go to the operator.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from asi_evolve_jax.models.mixers import gates
from pallas_kernels.delta_rule import delta_rule, gated_delta_rule

Result = tuple[jax.Array, jax.Array]


def deltanet(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  beta: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> Result:
  """S_t = (I - beta k k^T) diag(e^g) S_{t-1} + beta k v^T, o = S^T q.

  DeltaNet (arXiv:2406.06484, equation 4) for g = None, Gated DeltaNet
  (arXiv:2412.06464, equation 10) with one decay a head, KDA
  (arXiv:2510.26692, equation 1) with one a channel.

  Args:
    q, k, v: as in `delta_rule`.
    beta: how much of the error is corrected, [batch, time, heads]: in (0, 1),
      or in (0, 2) for eigenvalues down to -1 (arXiv:2411.12537).
    g: log decay, None, [batch, time, heads] or [batch, time, heads, K].
    **options: for the operator.
  """
  return gated_delta_rule(gates.unit(q), gates.unit(k), v, beta, g, **options)


def gdn2(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  erase: jax.Array,
  write: jax.Array,
  g: jax.Array,
  **options: Any,
) -> Result:
  """Gated DeltaNet-2 (arXiv:2605.22791): a gate to erase and one to write.

  S_t = (I - k (b k)^T) diag(e^g) S_{t-1} + k (w v)^T, o = S^T q.

  Args:
    q, k, v: as in `delta_rule`.
    erase: b, in (0, 1), [batch, time, heads, K].
    write: w, in (0, 1), [batch, time, heads, V].
    g: log decay, [batch, time, heads, K].
    **options: for the operator.
  """
  k = gates.unit(k)
  p = (erase * k).astype(k.dtype)
  return delta_rule(
    gates.unit(q), k, (write * v).astype(v.dtype), p, g, **options
  )


def deltaproduct(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  beta: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> Result:
  """DeltaProduct (arXiv:2502.10297, equation 3): n delta steps a token.

  S_t decays once, then takes n steps S <- (I - beta_j k_j k_j^T) S +
  beta_j k_j v_j^T, and is read once. The steps are tokens of a sequence n times
  as long, of which only the first decays and only the last reads.

  Args:
    q: [batch, time, heads, K].
    k, v: [batch, time, n, heads, K and V].
    beta: [batch, time, n, heads], in (0, 2).
    g: log decay, None, [batch, time, heads] or [batch, time, heads, K].
    **options: for the operator; segment ids are those of the tokens.
  """
  batch, time, steps = k.shape[:3]

  def flat(y):
    return y.reshape(batch, time * steps, *y.shape[3:])

  def at(y, step):
    padding = [(0, 0)] * (y.ndim + 1)
    padding[2] = (step, steps - 1 - step)
    return flat(jnp.pad(y[:, :, None], padding))

  ids = options.pop("segment_ids", None)
  out, state = deltanet(
    at(q, steps - 1),
    flat(k),
    flat(v),
    flat(beta),
    None if g is None else at(g, 0),
    segment_ids=None if ids is None else jnp.repeat(ids, steps, axis=1),
    **options,
  )
  return out[:, steps - 1 :: steps], state
