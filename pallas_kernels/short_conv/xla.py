"""Short convolution as a sum of shifted copies, for any XLA backend.

Depthwise convolutions of a few taps are memory-bound; shifted multiply-adds
fuse into one pass where a convolution call would not. The backward pass is
written out as the same sum over later tokens: autodiff would add up one padded
array a tap.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def short_conv(
  x: jax.Array,
  weight: jax.Array,
  state: jax.Array,
  segments: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
  """The sum of reference.py; accumulates in the dtype of `state`."""
  dtype = state.dtype
  x, weight = x.astype(dtype), weight.astype(dtype)
  if segments is not None:
    return _packed(x, weight, state, segments)
  out = _convolve(x, weight, state)
  return out, jnp.concatenate([state, x], axis=1)[:, x.shape[1] :]


def _packed(
  x: jax.Array, weight: jax.Array, state: jax.Array, segments: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Leaves out the taps that lie in another sequence; by autodiff."""
  reach, time = state.shape[1], x.shape[1]
  padded = jnp.concatenate([state, x], axis=1)
  owners = jnp.pad(segments, ((0, 0), (reach, 0)))  # the state is the first's
  out = jnp.zeros_like(x)
  for j in range(reach + 1):
    start = reach - j
    same = owners[:, start : start + time] == segments
    tap = padded[:, start : start + time]
    out = out + weight[j] * jnp.where(same[..., None], tap, 0)
  last = owners[:, time:] == segments[:, -1:]
  return out, jnp.where(last[..., None], padded[:, time:], 0)


@jax.custom_vjp
def _convolve(x: jax.Array, weight: jax.Array, state: jax.Array) -> jax.Array:
  return _taps(jnp.concatenate([state, x], axis=1), weight[::-1])


def _forward(
  x: jax.Array, weight: jax.Array, state: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
  return _convolve(x, weight, state), (x, weight, state)


def _backward(
  saved: tuple[jax.Array, jax.Array, jax.Array], dout: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  x, weight, state = saved
  width, time = weight.shape[0], x.shape[1]
  none = jnp.zeros_like(state)
  dx = _taps(jnp.concatenate([dout, none], axis=1), weight)
  # Only the first tokens read the state.
  early = jnp.concatenate([none, dout, none], axis=1)[:, : 2 * (width - 1)]
  dstate = _taps(early, weight)
  padded = jnp.concatenate([state, x], axis=1)
  dweight = [
    jnp.sum(dout * padded[:, width - 1 - j : width - 1 - j + time], (0, 1))
    for j in range(width)
  ]
  return dx, jnp.stack(dweight), dstate


_convolve.defvjp(_forward, _backward)


def _taps(x: jax.Array, weight: jax.Array) -> jax.Array:
  """Returns sum_j weight_j x_{t+j} for each t that has all of its taps."""
  width = weight.shape[0]
  time = x.shape[1] - width + 1
  out = weight[0] * x[:, :time]
  for j in range(1, width):
    out = out + weight[j] * x[:, j : j + time]
  return out
