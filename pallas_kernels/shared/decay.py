"""Products between tokens of one chunk, weighted by the decay between them.

The log decay inside a chunk is given by its running sum G, [..., chunk, 1] for
one decay a head and [..., chunk, K] for one a channel; None is no decay. Every
exponent taken here is a sum of log decays, so at most 0: nothing overflows
however strong the decay is, and nothing is divided by a vanished factor.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_FAR = -1e30  # an exponent whose exp is 0; the mask goes in before exp


def decayed(x: jax.Array, exponent: jax.Array | None) -> jax.Array:
  """Returns x * exp(exponent), or x for None."""
  return x if exponent is None else x * jnp.exp(exponent)


def to_end(total: jax.Array | None) -> jax.Array | None:
  """Returns the log decay from each token to the chunk's last, G_C - G."""
  return None if total is None else total[..., -1:, :] - total


def causal(chunk: int, *, strict: bool) -> np.ndarray:
  """Returns the mask [chunk, chunk] of pairs (query, earlier or same key)."""
  return np.tril(np.ones((chunk, chunk), bool), -1 if strict else 0)


def gram(
  a: jax.Array, b: jax.Array, total: jax.Array | None, *, strict: bool
) -> jax.Array:
  """Returns M_ij = sum_c a_ic b_jc exp(G_ic - G_jc) for j <= i, else 0.

  Args:
    a, b: [..., chunk, K].
    total: G, [..., chunk, 1 or K], or None.
    strict: leave the diagonal out.
  """
  chunk = a.shape[-2]
  mask = causal(chunk, strict=strict)
  if total is None:
    return jnp.where(mask, _outer(a, b), 0)
  if total.shape[-1] == 1:
    return _outer(a, b) * _weights(total, mask)
  out = jnp.zeros((), a.dtype)
  if not strict:
    diagonal = jnp.sum(a * b, -1, keepdims=True)
    out = jnp.where(np.eye(chunk, dtype=bool), diagonal, 0)
  for factor, pairs in _levels(total):
    out = out + jnp.where(pairs, _outer(a * factor, b * factor), 0)
  return jnp.broadcast_to(out, (*a.shape[:-1], chunk))


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
  chunk = a.shape[-2]
  mask = causal(chunk, strict=strict)
  if total is None or total.shape[-1] == 1:
    if total is None:
      dm = jnp.where(mask, dm, 0)
    else:
      dm = dm * _weights(total, mask)
    return _matmul(dm, b), _matmul(dm.mT, a)
  da, db = jnp.zeros_like(a), jnp.zeros_like(b)
  if not strict:
    diagonal = jnp.diagonal(dm, axis1=-2, axis2=-1)[..., None]
    da, db = diagonal * b, diagonal * a
  for factor, pairs in _levels(total):
    part = jnp.where(pairs, dm, 0)
    da = da + factor * _matmul(part, b * factor)
    db = db + factor * _matmul(part.mT, a * factor)
  return da, db


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
  return _matmul(a, b.mT)


def _weights(total: jax.Array, mask: np.ndarray) -> jax.Array:
  return jnp.exp(jnp.where(mask, total - total.mT, _FAR))


def _levels(total: jax.Array) -> list[tuple[jax.Array, np.ndarray]]:
  """Splits the pairs of a chunk into levels with a reference token each.

  At the level of half-width h the chunk is cut into blocks of 2h tokens, and
  a pair belongs to it if its key is in the first half of a block and its query
  in the second half of the same block. Measured from the last token of the
  first half, r, both exp(G_i - G_r) and exp(G_r - G_j) are at most 1, and
  their product is the wanted exp(G_i - G_j). Every pair i > j has one level.

  Returns:
    For each level the factor of each token, [..., chunk, K], and the pairs.
  """
  chunk = total.shape[-2]
  index = np.arange(chunk)
  levels = []
  half = chunk // 2
  while half:
    late = (index // half) % 2 == 1
    reference = total[..., index // (2 * half) * (2 * half) + half - 1, :]
    since = total - reference
    factor = jnp.exp(jnp.where(late[:, None], since, -since))
    same = index[:, None] // (2 * half) == index[None, :] // (2 * half)
    levels.append((factor, same & late[:, None] & ~late[None, :]))
    half //= 2
  return levels
