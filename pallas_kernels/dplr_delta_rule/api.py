"""The diagonal-plus-rank-one delta rule: the public functions."""

from __future__ import annotations

from typing import Any

import jax

from pallas_kernels.dplr_delta_rule import chunk, cost, reference, xla
from pallas_kernels.shared import arguments, dispatch

OPERATOR = dispatch.Operator(
  "dplr_delta_rule",
  reference.dplr_delta_rule,
  reference.step,
  xla.dplr_delta_rule,
  chunk,
  cost.forward_cost,
)


def dplr_delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  e: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> tuple[jax.Array, jax.Array]:
  """Computes a delta rule that erases where it does not write.

    r_t = S_{t-1}^T p_t;  S_t = diag(e^{g_t}) S_{t-1} + e_t r_t^T + k_t v_t^T;
    o_t = scale S_t^T q_t.

  RWKV-7 (arXiv:2503.14456) is p = -kappa, e = kappa * eta with kappa the
  normalised erase key, and one decay a channel. Unlike in `delta_rule`, p reads
  before the decay.

  Args:
    q, k, p, e: [batch, time, heads, K], float32 or bfloat16 (float64 works
      too); or fewer heads that divide v's, each for a group of them. Keep
      |p||e| at most 2, or the state can grow.
    v: [batch, time, heads, V].
    g: natural log of the decay, at most 0: None, [batch, time, heads] or
      [batch, time, heads, K]. What is below the option
      min_log_decay counts as that.
    **options: see `pallas_kernels.shared.dispatch.recurrence`.

  Returns:
    (out [batch, time, heads, V] in v's dtype, final state
    [batch, heads, K, V] in float32, or float64 if any argument is).

  Raises:
    ValueError, TypeError: on shapes, dtypes or names that do not fit.
  """
  return dispatch.recurrence(
    OPERATOR, {"q": q, "k": k, "v": v, "p": p, "e": e}, g, **options
  )


def step(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  e: jax.Array,
  g: jax.Array | None = None,
  *,
  state: jax.Array,
  scale: float | None = None,
  min_log_decay: float = arguments.DECAY_FLOOR,
) -> tuple[jax.Array, jax.Array]:
  """Computes one token of `dplr_delta_rule`, for decoding.

  Args:
    q, k, p, e: [batch, heads, K], or fewer heads that divide v's.
    v: [batch, heads, V].
    g: None, [batch, heads] or [batch, heads, K].
    state: [batch, heads, K, V], as `dplr_delta_rule` returns it.
    scale, min_log_decay: as in `dplr_delta_rule`.

  Returns:
    (out [batch, heads, V] in v's dtype, next state [batch, heads, K, V] in
    float32, or float64 if any argument is).

  Raises:
    ValueError: on shapes that do not fit.
  """
  return dispatch.one_token(
    OPERATOR,
    {"q": q, "k": k, "v": v, "p": p, "e": e},
    g,
    state,
    scale,
    min_log_decay,
  )
