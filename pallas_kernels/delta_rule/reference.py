"""The delta rule token by token: the meaning of the operator."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import chunks
from pallas_kernels.shared.products import read_state


def step(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  g: jax.Array | None,
  state: jax.Array,
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """One token: q, k, p [B, H, K], v [B, H, V], g None, [B, H] or [B, H, K]."""
  q, k, v, p, g = jax.tree.map(lambda x: x.astype(state.dtype), (q, k, v, p, g))
  if g is not None:
    g = g if g.ndim == 3 else g[..., None]
    state = state * jnp.exp(g)[..., None]
  error = v - read_state(p, state)
  state = state + k[..., :, None] * error[..., None, :]
  return scale * read_state(q, state), state


def delta_rule(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  p: jax.Array,
  g: jax.Array | None,
  state: jax.Array,
  segments: jax.Array | None,
  scale: float,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence in the dtype of `state`; see api.py for the shapes."""

  def body(s, xs):
    (q, k, v, p, g), keep = xs
    out, s = step(q, k, v, p, g, chunks.kept(s, keep), scale)
    return s, out

  tokens = jax.tree.map(lambda x: x.swapaxes(0, 1), (q, k, v, p, g))
  xs = (tokens, chunks.continues(segments))
  state, out = jax.lax.scan(body, state, xs)
  return out.swapaxes(0, 1).astype(v.dtype), state
