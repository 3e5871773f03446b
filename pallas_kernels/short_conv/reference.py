"""Short convolution token by token: the meaning of the operator."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def step(
  x: jax.Array, weight: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """One token: x [B, D], weight [W, D], state [B, W - 1, D], oldest first."""
  window = jnp.concatenate([state, x[:, None]], axis=1)
  # weight[0] belongs to the newest token.
  out = jnp.sum(window * weight[::-1], axis=1)
  return out, window[:, 1:]


def short_conv(
  x: jax.Array, weight: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The recurrence in the dtype of `state`; see api.py for the shapes."""
  weight = weight.astype(state.dtype)

  def body(s, x_t):
    out, s = step(x_t, weight, s)
    return s, out

  state, out = jax.lax.scan(body, state, x.astype(state.dtype).swapaxes(0, 1))
  return out.swapaxes(0, 1), state
