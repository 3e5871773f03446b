"""The delta rule with optional decay: the public functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from pallas_kernels.delta_rule import chunk, cost, gated_chunk, reference, xla
from pallas_kernels.shared import arguments, dispatch

OPERATOR = dispatch.Operator(
  "delta_rule",
  reference.delta_rule,
  reference.step,
  xla.delta_rule,
  chunk,
  cost.forward_cost,
)


def _scaled(k, v, beta):
  # beta stays in its own dtype until here: a rounded beta moves eigenvalues.
  rate = beta[..., None]
  return (k * rate).astype(k.dtype), (v * rate).astype(v.dtype)


def _by_scaling(form: Callable[..., Any]) -> Callable[..., Any]:
  def run(q, k, v, beta, *rest):
    p, v = _scaled(k, v, beta)
    return form(q, k, v, p, *rest)

  return run


GATED = dispatch.Operator(
  "gated_delta_rule",
  _by_scaling(reference.delta_rule),
  _by_scaling(reference.step),
  _by_scaling(xla.delta_rule),
  gated_chunk,
  cost.gated_forward_cost,
)


def delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> tuple[jax.Array, jax.Array]:
  """Computes the delta rule with a free read vector p.

    S' = diag(e^{g_t}) S_{t-1};  S_t = S' + k_t (v_t - S'^T p_t)^T;
    o_t = scale S_t^T q_t.

  DeltaNet (arXiv:2406.06484) is p = beta k with v scaled by beta, Gated
  DeltaNet (arXiv:2412.06464) adds one decay a head, KDA (arXiv:2510.26692) one
  a channel. Comba (arXiv:2506.02475), whose p reads before the decay, is a case
  of `dplr_delta_rule`. `gated_delta_rule` takes beta and forms p and v.

  Args:
    q, k, p: [batch, time, heads, K], float32 or bfloat16 (float64 works too);
      or fewer heads that divide v's, each for a group of them. Keep |p||k| at
      most 2 (L2-normalised keys), or the state can grow.
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
    OPERATOR, {"q": q, "k": k, "v": v, "p": p}, g, **options
  )


def gated_delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  beta: jax.Array,
  g: jax.Array | None = None,
  **options: Any,
) -> tuple[jax.Array, jax.Array]:
  """Computes S_t = S' + beta_t k_t (v_t - S'^T k_t)^T by `delta_rule`.

  Args:
    q, k, v, g: as in `delta_rule`; keys should have norm 1.
    beta: [batch, time, heads of v], the rate of writing: in (0, 1), or in
      (0, 2) to allow negative eigenvalues (arXiv:2411.12537).
    **options: the keyword arguments of `delta_rule`.

  Returns:
    (out, final state) as `delta_rule`.
  """
  return dispatch.recurrence(
    GATED, {"q": q, "k": k, "v": v}, g, rates={"beta": beta}, **options
  )


def step(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  g: jax.Array | None = None,
  *,
  state: jax.Array,
  scale: float | None = None,
  min_log_decay: float = arguments.DECAY_FLOOR,
) -> tuple[jax.Array, jax.Array]:
  """Computes one token of `delta_rule`, for decoding.

  Args:
    q, k, p: [batch, heads, K], or fewer heads that divide v's.
    v: [batch, heads, V].
    g: None, [batch, heads] or [batch, heads, K].
    state: [batch, heads, K, V], as `delta_rule` returns it.
    scale, min_log_decay: as in `delta_rule`.

  Returns:
    (out [batch, heads, V] in v's dtype, next state [batch, heads, K, V] in
    float32, or float64 if any argument is).

  Raises:
    ValueError: on shapes that do not fit.
  """
  return dispatch.one_token(
    OPERATOR, {"q": q, "k": k, "v": v, "p": p}, g, state, scale, min_log_decay
  )


def gated_step(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  beta: jax.Array,
  g: jax.Array | None = None,
  *,
  state: jax.Array,
  scale: float | None = None,
  min_log_decay: float = arguments.DECAY_FLOOR,
) -> tuple[jax.Array, jax.Array]:
  """Computes one token of `gated_delta_rule`, for decoding.

  Args:
    q, k, v, g, state, scale, min_log_decay: as in `step`.
    beta: [batch, heads of v].

  Returns:
    (out, next state) as `step`.

  Raises:
    ValueError: on shapes that do not fit.
  """
  return dispatch.one_token(
    GATED,
    {"q": q, "k": k, "v": v},
    g,
    state,
    scale,
    min_log_decay,
    rates={"beta": beta},
  )
