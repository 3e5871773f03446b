"""Linear attention with optional decay: the public functions."""

from __future__ import annotations

from typing import Any

import jax

from pallas_kernels.linear_attention import chunk, cost, reference, xla
from pallas_kernels.shared import arguments, dispatch

OPERATOR = dispatch.Operator(
  "linear_attention",
  reference.linear_attention,
  reference.step,
  xla.linear_attention,
  chunk,
  cost.forward_cost,
)


def linear_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> tuple[jax.Array, jax.Array]:
  """Computes S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T, o_t = scale S_t^T q_t.

  Linear attention (arXiv:2006.16236) for g = None; RetNet, Mamba-2's SSD and
  Lightning attention with one decay a head; GLA (arXiv:2312.06635) and HGRN2
  with one a channel.

  Args:
    q, k: [batch, time, heads, K], float32 or bfloat16 (float64 works too);
      or fewer heads that divide v's, each for a group of them.
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
  return dispatch.recurrence(OPERATOR, {"q": q, "k": k, "v": v}, g, **options)


def step(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  g: jax.Array | None = None,
  *,
  state: jax.Array,
  scale: float | None = None,
  min_log_decay: float = arguments.DECAY_FLOOR,
) -> tuple[jax.Array, jax.Array]:
  """Computes one token of `linear_attention`, for decoding.

  Args:
    q, k: [batch, heads, K], or fewer heads that divide v's.
    v: [batch, heads, V].
    g: None, [batch, heads] or [batch, heads, K].
    state: [batch, heads, K, V], as `linear_attention` returns it.
    scale, min_log_decay: as in `linear_attention`.

  Returns:
    (out [batch, heads, V] in v's dtype, next state [batch, heads, K, V] in
    float32, or float64 if any argument is).

  Raises:
    ValueError: on shapes that do not fit.
  """
  return dispatch.one_token(
    OPERATOR, {"q": q, "k": k, "v": v}, g, state, scale, min_log_decay
  )
