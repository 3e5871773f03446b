"""Functions of single tensors that several parameterisations share."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def unit(x: jax.Array) -> jax.Array:
  """Returns x [..., dim] with an L2 norm of 1 along the last axis.

  Delta rules need it of their keys: the state stays bounded.
  """
  wide = x.astype(jnp.float32)
  square = jnp.sum(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(square + 1e-6)).astype(x.dtype)


def log_decay(z: jax.Array, log_rate: jax.Array, bias: jax.Array) -> jax.Array:
  """Returns the log decay -e^A softplus(z + bias), float32, at most 0.

  The gate of Mamba-2 (arXiv:2405.21060), and of Gated DeltaNet, KDA and what
  came after them.

  Args:
    z: [batch, time, heads] or [batch, time, heads, K].
    log_rate: A, [heads] or [heads, 1].
    bias: [heads] or [heads, K].
  """
  return -jnp.exp(log_rate) * jax.nn.softplus(z.astype(jnp.float32) + bias)


def rotate(x: jax.Array, angle: jax.Array) -> jax.Array:
  """Rotates channels n and N + n of x by the angle n (arXiv:2104.09864).

  Args:
    x: [..., dim].
    angle: radians, [..., N] with 2 N at most dim; further channels stay.

  Returns:
    The result, in x's dtype.
  """
  pairs = angle.shape[-1]
  a, b, rest = jnp.split(x.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turned = [a * cos - b * sin, a * sin + b * cos]
  shape = (*turned[0].shape[:-1], rest.shape[-1])
  turned.append(jnp.broadcast_to(rest, shape))
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def positions(time: int, dim: int, start: jax.Array | int = 0) -> jax.Array:
  """Returns the angles of RoPE for `rotate`, [(batch,) time, 1, dim // 2].

  Packed sequences may count through: only differences matter.

  Args:
    time: tokens.
    dim: channels that turn.
    start: position of the first token, [batch, 1, 1] or one for all.
  """
  pairs = dim // 2
  frequency = 10_000.0 ** -(jnp.arange(pairs) / max(1, pairs))
  place = start + jnp.arange(time)[:, None]
  return (place * frequency)[..., None, :]


def previous(
  x: jax.Array,
  segment_ids: jax.Array | None,
  first: jax.Array | None = None,
) -> jax.Array:
  """Returns for each token what x holds for the one before it.

  Args:
    x: [batch, time, ...].
    segment_ids: [batch, time] of packed sequences, or None.
    first: what stands before the first token, [batch, 1, ...]; None is zero.

  Returns:
    As x; zero for the first token of each sequence that starts here.
  """
  if first is None:
    first = jnp.zeros_like(x[:, :1])
  out = jnp.concatenate([first.astype(x.dtype), x[:, :-1]], axis=1)
  if segment_ids is None:
    return out
  same = segment_ids[:, 1:] == segment_ids[:, :-1]
  same = jnp.pad(same, ((0, 0), (1, 0)), constant_values=True)
  return jnp.where(same.reshape(*same.shape, *(1,) * (x.ndim - 2)), out, 0)
