"""Parameterisations of `linear_attention`: memories that only add.

Each is a pure function from projected tensors [batch, time, heads, dim] to
(out [batch, time, heads, V] in v's dtype, final state [batch, heads, K, V] in
float32) of its paper's recurrence; here o = S^T q and states are K x V. Further
keyword arguments (initial_state, segment_ids, chunk_size, implementation,
target) go to the operator. Log decays are best given in float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asi_evolve_jax.models.mixers import gates
from pallas_kernels.linear_attention import linear_attention

Result = tuple[jax.Array, jax.Array]

_SMALLEST_FORGET = 1e-9  # what is left of a state after it is nothing
_LARGEST_EXPONENT = 4.0  # exp(-e^4) is 0 in float32


class Last(NamedTuple):
  """What Mamba-3 carries beside its states, of the last token, float32.

  Attributes:
    b: as it was written, rotated, [batch, 1, heads, N].
    x: [batch, 1, heads, P].
    turn: angle so far, [batch, 1, heads or 1, at most N // 2].
  """

  b: jax.Array
  x: jax.Array
  turn: jax.Array


def linear(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  *,
  normalised: bool = False,
  **options: Any,
) -> Result:
  """Linear attention with the feature map elu + 1 (arXiv:2006.16236).

  S_t = S_{t-1} + phi(k) v^T, z_t = z_{t-1} + phi(k), o = S^T phi(q), divided
  by z . phi(q) if `normalised` (equations 18 to 20): z is then one more column
  of the states, initial and final. Under a norm of each head's output, as the
  module has, the division changes nothing.
  """
  q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
  if not normalised:
    return linear_attention(q, k, v, **options)
  ones = jnp.ones_like(v[..., :1])
  out, state = linear_attention(
    q, k, jnp.concatenate([v, ones], axis=-1), **options
  )
  wide = out.astype(jnp.float32)
  out = wide[..., :-1] / (wide[..., -1:] + 1e-6)
  return out.astype(v.dtype), state


def retention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  *,
  start: jax.Array | int = 0,
  **options: Any,
) -> Result:
  """RetNet's multi-scale retention (arXiv:2307.08621, equations 5 and 8).

  S_n = gamma S_{n-1} + (k e^{-in theta}) v^T, o = Re(S^T (q e^{in theta})),
  with gamma = 1 - 2^(-5-h) for head h; the complex channel c is channels c and
  K / 2 + c of q and k. `start` is the position n of the first token, for all
  or [batch, 1, 1].
  """
  batch, time, heads, _ = v.shape
  angle = gates.positions(time, q.shape[-1], start)
  gamma = jnp.log1p(-(2.0 ** -(5.0 + jnp.arange(heads))))
  g = jnp.broadcast_to(gamma, (batch, time, heads))
  q, k = gates.rotate(q, angle), gates.rotate(k, angle)
  return linear_attention(q, k, v, g, **options)


def mamba2(
  c: jax.Array,
  b: jax.Array,
  x: jax.Array,
  dt: jax.Array,
  rate: jax.Array,
  skip: jax.Array,
  **options: Any,
) -> Result:
  """Mamba-2's state space duality (arXiv:2405.21060, section 2).

  S_t = e^{-dt rate} S_{t-1} + dt B x^T, y = S^T C + skip x.

  Args:
    c, b: [batch, time, groups, N]; each group serves heads / groups heads.
    x: [batch, time, heads, P].
    dt: step sizes, positive, [batch, time, heads].
    rate: -A, positive, [heads].
    skip: D, [heads].
    **options: for the operator.
  """
  step = (dt[..., None] * x).astype(x.dtype)
  out, state = linear_attention(c, b, step, -dt * rate, scale=1.0, **options)
  return (out + skip[:, None] * x).astype(x.dtype), state


def mamba3(
  c: jax.Array,
  b: jax.Array,
  x: jax.Array,
  g: jax.Array,
  dt: jax.Array,
  trapezoid: jax.Array,
  angle: jax.Array,
  skip: jax.Array,
  *,
  last: Last | None = None,
  **options: Any,
) -> tuple[jax.Array, jax.Array, Last]:
  """Mamba-3 with one input and one output a head (arXiv:2603.15569).

  With a = e^g, l = sigmoid(trapezoid) and R the rotation by the sum of
  pi dt tanh(angle) over all tokens so far,
    S_t = a S_{t-1} + (1 - l) dt a (R B)_{t-1} x_{t-1}^T + l dt (R B)_t x_t^T,
    y = S^T R C + skip x.
  What the next token adds of this one is moved to the next one: U_t = S_t -
  l_t dt_t (R B)_t x_t^T has U_t = a_t U_{t-1} + a_t (l_{t-1} dt_{t-1} +
  (1 - l_t) dt_t) (R B)_{t-1} x_{t-1}^T, a sum that reads no later token.

  Args:
    c, b: [batch, time, heads, N].
    x: [batch, time, heads, P].
    g: log decay, [batch, time, heads].
    dt: step sizes, positive, [batch, time, heads].
    trapezoid: logits, [batch, time, heads].
    angle: logits, [batch, time, heads or 1, at most N // 2].
    skip: D, [heads].
    last: what the last token before these has left; None: there was none, or
      with an initial state, that of a sequence cut where (1 - l) dt = 0.
    **options: for the operator.

  Returns:
    (out, final state, what the last token leaves).
  """
  b_before, x_before, turned = last or (None, None, 0)
  segment_ids = options.get("segment_ids")
  dt, g = dt.astype(jnp.float32), g.astype(jnp.float32)
  share = jax.nn.sigmoid(trapezoid.astype(jnp.float32))
  turn = math.pi * dt[..., None] * jnp.tanh(angle.astype(jnp.float32))
  turn = turned + jnp.cumsum(turn, axis=1)
  c, b = gates.rotate(c, turn), gates.rotate(b, turn)
  own = share * dt
  late = jnp.exp(g) * (gates.previous(own, segment_ids) + (1 - share) * dt)
  before = late[..., None] * gates.previous(b, segment_ids, b_before)
  out, state = linear_attention(
    c,
    before.astype(x.dtype),
    gates.previous(x, segment_ids, x_before),
    g,
    scale=1.0,
    **options,
  )
  left = (b[:, -1:], x[:, -1:], turn[:, -1:] % (2 * jnp.pi))
  b = b.astype(jnp.float32)
  now = own * jnp.sum(c * b, axis=-1) + skip
  out = (out + now[..., None] * x).astype(x.dtype)
  late = own[:, -1, :, None] * b[:, -1]
  state = state + late[..., None] * x[:, -1, :, None]
  return out, state, Last(*(y.astype(jnp.float32) for y in left))


def gla(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  gate: jax.Array,
  *,
  temperature: float = 16.0,
  **options: Any,
) -> Result:
  """Gated linear attention (arXiv:2312.06635, equation 3 and section 4.4).

  S_t = diag(a) S_{t-1} + k v^T, o = S^T q, a = sigmoid(gate)^(1 / temperature).

  Args:
    q, k, v: as in `linear_attention`.
    gate: logits, [batch, time, heads, K].
    temperature: what the log decay is divided by.
    **options: for the operator.
  """
  g = jax.nn.log_sigmoid(gate.astype(jnp.float32)) / temperature
  return linear_attention(q, k, v, g, **options)


def hgrn2(
  q: jax.Array, forget: jax.Array, v: jax.Array, **options: Any
) -> Result:
  """HGRN2 (arXiv:2404.07904, equation 8): the key is what is forgotten.

  S_t = diag(f) S_{t-1} + (1 - f) v^T, o = S^T q.

  Args:
    q: [batch, time, heads, K].
    forget: f, in [0, 1], [batch, time, heads, K]; less than 1e-9 counts as
      that.
    v: [batch, time, heads, V].
    **options: for the operator.
  """
  g = jnp.log(jnp.maximum(forget.astype(jnp.float32), _SMALLEST_FORGET))
  k = (1 - forget).astype(q.dtype)
  return linear_attention(q, k, v, g, scale=1.0, **options)


def rwkv6(
  r: jax.Array,
  k: jax.Array,
  v: jax.Array,
  decay: jax.Array,
  bonus: jax.Array,
  **options: Any,
) -> Result:
  """RWKV-6, "Finch" (arXiv:2404.05892, equations 18 and 19).

  o_t = (S_{t-1} + diag(u) k v^T)^T r, S_t = diag(e^{-e^d}) S_{t-1} + k v^T.
  It reads before its token is written: U_t = S_{t-1} obeys the recurrence of
  `linear_attention` with k, v and the decay of the token before.

  Args:
    r, k: receptance and key, [batch, time, heads, K].
    v: [batch, time, heads, V].
    decay: d, [batch, time, heads, K].
    bonus: u, [heads, K].
    **options: for the operator.
  """
  segment_ids = options.get("segment_ids")
  g = -jnp.exp(jnp.minimum(decay.astype(jnp.float32), _LARGEST_EXPONENT))
  before = [gates.previous(y, segment_ids) for y in (k, v, g)]
  out, state = linear_attention(r, *before, scale=1.0, **options)
  own = jnp.sum(r * k * bonus, axis=-1, keepdims=True)
  out = (out + own * v).astype(v.dtype)
  k, v, g = (y[:, -1].astype(jnp.float32) for y in (k, v, g))
  state = jnp.exp(g)[..., None] * state + k[..., None] * v[..., None, :]
  return out, state
