"""Short convolution token by token: the meaning of the operator."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunks


def step(
  x: jax.Array, weight: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """One token: x [B, D], weight [W, D], state [B, W - 1, D], oldest first."""
  window = jnp.concatenate([state, x[:, None]], axis=1)
  # weight[0] belongs to the newest token.
  out = jnp.sum(window * weight[::-1], axis=1)
  return out, window[:, 1:]


def short_conv(
  x: jax.Array,
  weight: jax.Array,
  state: jax.Array,
  segments: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence in the dtype of `state`; see api.py for the shapes."""
  weight = weight.astype(state.dtype)

  def body(s, xs):
    x_t, keep = xs
    out, s = step(x_t, weight, chunks.kept(s, keep))
    return s, out

  xs = (x.astype(state.dtype).swapaxes(0, 1), chunks.continues(segments))
  state, out = jax.lax.scan(body, state, xs)
  return out.swapaxes(0, 1), state
