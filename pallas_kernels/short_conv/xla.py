"""Short convolution as a sum of shifted copies, for any XLA backend.

Depthwise convolutions of a few taps are memory-bound; shifted multiply-adds
fuse into one pass where a convolution call would not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def short_conv(
  x: jax.Array, weight: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The sum of reference.py; accumulates in the dtype of `state`."""
  width = weight.shape[0]
  time = x.shape[1]
  weight = weight.astype(state.dtype)
  padded = jnp.concatenate([state, x.astype(state.dtype)], axis=1)
  out = jnp.zeros_like(padded[:, :time])
  for j in range(width):
    start = width - 1 - j
    out = out + weight[j] * padded[:, start : start + time]
  return out, padded[:, time:]
