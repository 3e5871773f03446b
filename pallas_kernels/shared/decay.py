"""Products between tokens of one chunk, weighted by the decay between them.

The log decay inside a chunk is given by its running sum G, [..., chunk, 1] for
one decay a head and [..., chunk, K] for one a channel; None is no decay. One
step decays by at most e^-30 (arguments.DECAY_FLOOR), so every exponent taken
here is at most 60 and nothing overflows, however strong the decay is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.shared import chunks
from pallas_kernels.shared.chunks import matmul, turned

_FAR = -1e30  # an exponent whose exp is 0; the mask goes in before exp
_BLOCK = 4  # tokens that share one reference token with those on both sides


def running_sum(
  g: jax.Array | None, chunk: int, dtype: np.dtype
) -> jax.Array | None:
  """Returns G, [chunks, batch, heads, chunk, 1 or K], for g as in api.py."""
  if g is None:
    return None
  g = g if g.ndim == 4 else g[..., None]
  return jnp.cumsum(chunks.split(g, chunk, dtype), axis=-2)


def decayed(x: jax.Array, exponent: jax.Array | None) -> jax.Array:
  """Returns x * exp(exponent), or x for None."""
  return x if exponent is None else x * jnp.exp(exponent)


def to_end(total: jax.Array | None) -> jax.Array | None:
  """Returns the log decay from each token to the chunk's last, G_C - G."""
  return None if total is None else total[..., -1:, :] - total


def across(total: jax.Array | None) -> jax.Array | None:
  """Returns the decay over each chunk, e^{G_C}, as [chunks, ..., 1 or K, 1]."""
  return None if total is None else jnp.exp(total[..., -1:, :]).mT


def carried(state: jax.Array, factor: jax.Array | None) -> jax.Array:
  """Returns the state [..., K, V] times one chunk's `across`."""
  return state if factor is None else factor * state


def total_vjp(
  inner: jax.Array,
  late: jax.Array,
  states: jax.Array,
  dstates: jax.Array,
  total: jax.Array,
) -> jax.Array:
  """Returns the gradient of G in both chunked forms.

  Args:
    inner: q . dq + p . dp - k . dk, [..., chunk, K].
    late: k . dk of the part of dk that comes through the next state.
    states, dstates: transposed states before each chunk and gradients of those
      after it, [..., V, K].
    total: G.
  """
  decay = jnp.exp(total[..., -1, :])
  end = jnp.sum(late, -2) + decay * jnp.sum(states * dstates, -2)
  out = inner.at[..., -1, :].add(end)
  if total.shape[-1] == 1:
    out = jnp.sum(out, -1, keepdims=True)
  return out


def gram(
  a: jax.Array, b: jax.Array, total: jax.Array | None, *, strict: bool
) -> jax.Array:
  """Returns M_ij = sum_c a_ic b_jc exp(G_ic - G_jc) for j <= i, else 0.

  Args:
    a, b: [..., chunk, K].
    total: G, [..., chunk, 1 or K], or None.
    strict: leave the diagonal out.
  """
  mask = _causal(a, strict)
  if total is None:
    return jnp.where(mask, matmul(a, b.mT), 0)
  if total.shape[-1] == 1:
    return jnp.where(mask, matmul(a, b.mT) * _weights(total), 0)
  parts = [
    jnp.where(mask & pairs, matmul(a * late, (b * early).mT), 0)
    for late, early, pairs in _levels(total)
  ]
  return sum(parts[1:], parts[0])


def gram_vjp(
  dm: jax.Array,
  a: jax.Array,
  b: jax.Array,
  total: jax.Array | None,
  *,
  strict: bool,
) -> tuple[jax.Array, jax.Array]:
  """Returns the gradients (da, db) of `gram` for its cotangent dm.

  The gradient for G is a . da - b . db, so callers get it without a product.
  """
  mask = _causal(a, strict)
  if total is None or total.shape[-1] == 1:
    if total is None:
      dm = jnp.where(mask, dm, 0)
    else:
      dm = jnp.where(mask, dm * _weights(total), 0)
    return matmul(dm, b), matmul(turned(dm), a)
  da, db = jnp.zeros_like(a), jnp.zeros_like(b)
  for late, early, pairs in _levels(total):
    part = jnp.where(mask & pairs, dm, 0)
    da = da + late * matmul(part, b * early)
    db = db + early * matmul(turned(part), a * late)
  return da, db


def gram_products(chunk: int) -> int:
  """Returns the matrix products of one `gram` with a decay a channel."""
  return 1 + max(0, (chunk // _BLOCK).bit_length() - 1)


def _causal(a: jax.Array, strict: bool) -> np.ndarray:
  chunk = a.shape[-2]
  return np.tri(chunk, k=-1 if strict else 0, dtype=bool)


def _weights(total: jax.Array) -> jax.Array:
  mask = np.tri(total.shape[-2], dtype=bool)
  return jnp.exp(jnp.where(mask, total - total.mT, _FAR))


def _levels(
  total: jax.Array,
) -> list[tuple[jax.Array, jax.Array, np.ndarray]]:
  """Splits the pairs of a chunk into levels with a reference token each.

  exp(G_i - G_j) for each channel is no matrix product of tokens, but
  exp(G_i - G_r) exp(G_r - G_j) is, for one r. Where r lies between j and i
  neither factor exceeds 1. At the level of half-width h the chunk is cut into
  blocks of 2h tokens; a key of the first half and a query of the second half
  of the same block have its middle between them (sub-chunks as in GLA,
  arXiv:2312.06635, section 4.3, at every scale). In blocks of four tokens the
  second one serves all pairs, with factors of at most e^60.

  Returns:
    For each level the factor of queries and that of keys, [..., chunk, K], and
    its pairs [chunk, chunk]; every pair j <= i is in one level.
  """
  chunk = total.shape[-2]
  index = np.arange(chunk)
  block = min(_BLOCK, chunk)
  since = total - total[..., index // block * block + (block - 1) // 2, :]
  same = index[:, None] // block == index // block
  levels = [(jnp.exp(since), jnp.exp(-since), same)]
  while block < chunk:
    late = (index // block) % 2 == 1
    middle = index // (2 * block) * (2 * block) + block - 1
    since = total - total[..., middle, :]
    factor = jnp.exp(jnp.where(late[:, None], since, -since))
    same = index[:, None] // (2 * block) == index // (2 * block)
    levels.append((factor, factor, same & late[:, None] & ~late))
    block *= 2
  return levels
