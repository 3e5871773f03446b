"""Weights between tokens of one chunk: products times the decay between them.

The log decay inside a chunk is given by its running sum G, [..., chunk, 1] for
one decay a head and [..., chunk, K] for one a channel; None is no decay. One
step decays by no more than the caller says (min_log_decay, e^-30 by default),
so every exponent taken here is at most 60 and nothing overflows.

The functions take arrays with any leading axes and use what Pallas lowers for
TPUs: neither gather nor cumsum, and masks made from iota.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.shared.products import SUB_CHUNK, Products

# Factors of up to e^60 can be formed: two of them overflow only where a mask
# drops the product.
LARGEST_EXPONENT = 60.0
_FAR = -1e30  # an exponent whose exp is 0; the mask goes in before exp
_SUBLANES = 8  # rows of a TPU tile: finer blocks are picked inside one


class Rows(NamedTuple):
  """Rows of a chunk's Decay, for kernels that load what they cannot slice.

  Attributes:
    last: the last of `total`, [1, 1 or K].
    segment: the last of `segment`, [1, 1], or None.
    picked: `picked` of `total`, by (block, row).
  """

  last: jax.Array
  segment: jax.Array | None
  picked: Callable[[int, int], jax.Array]


class Decay(NamedTuple):
  """The decay of chunks, and where packed sequences begin.

  Attributes:
    total: G, the log decay from the chunk's start to each token, its own
      included, [..., chunk, 1 or K].
    early: the same with its own left out, for reads before the decay; None
      where no reader needs it.
    segment: the number of each token's sequence, float32 [..., chunk, 1]; None
      for one sequence a row.
    before: that of the token before the chunk, [..., 1, 1].
    rows: its rows, or None to slice them out.
  """

  total: jax.Array
  early: jax.Array | None = None
  segment: jax.Array | None = None
  before: jax.Array | None = None
  rows: Rows | None = None


class Reader(NamedTuple):
  """Vectors that read what writers have put into the memory.

  Attributes:
    x: the vectors, [..., chunk, K].
    early: reads before its token decays.
    strict: does not see its own token's write.
  """

  x: jax.Array
  early: bool = False
  strict: bool = False


def since_start(reader: Reader, decay: Decay | None) -> jax.Array | None:
  """Returns the log decay from the chunk's start to each read of the state."""
  if decay is None:
    return None
  since = _own(reader, decay)
  if decay.segment is None:
    return since
  return jnp.where(decay.segment == decay.before, since, _FAR)


def decayed(x: jax.Array, exponent: jax.Array | None) -> jax.Array:
  """Returns x * exp(exponent), or x for None."""
  return x if exponent is None else x * jnp.exp(exponent)


def to_end(decay: Decay | None) -> jax.Array | None:
  """Returns the log decay from each token to the chunk's last, G_C - G."""
  if decay is None:
    return None
  end, segment = _last(decay)
  late = end - decay.total
  if segment is None:
    return late
  return jnp.where(decay.segment == segment, late, _FAR)


def across(decay: Decay | None) -> jax.Array | None:
  """Returns the decay over each chunk, e^{G_C}, [..., 1, 1 or K]."""
  if decay is None:
    return None
  end, segment = _last(decay)
  factor = jnp.exp(end)
  if segment is None:
    return factor
  return jnp.where(segment == decay.before, factor, 0)


def carried(state: jax.Array, factor: jax.Array | None) -> jax.Array:
  """Returns the state times `factor`, laid out to broadcast with it."""
  return state if factor is None else factor * state


def gram(
  reader: Reader, key: jax.Array, decay: Decay | None, products: Products
) -> jax.Array:
  """Returns the weights r_i . k_j e^{G_i - G_j} of earlier tokens, else 0."""
  return grams([reader], [key], decay, products)[0][0]


def grams(
  readers: Sequence[Reader],
  keys: Sequence[jax.Array],
  decay: Decay | None,
  products: Products,
) -> list[list[jax.Array]]:
  """Returns `gram` of each reader with each key, by reader.

  With a decay a channel all pairs pass its levels together: a kernel would
  keep the factors of all levels for the next pair, and has no room for them.
  """
  masks = [_visible(reader, keys[0], decay) for reader in readers]

  def at(n: int, level: _Level) -> list[jax.Array]:
    x, seen = readers[n].x * level.late, masks[n] & level.pairs
    rows = [products.nt(x, key * level.early) for key in keys]
    return [jnp.where(seen, row, 0) for row in rows]

  if decay is not None and decay.total.shape[-1] > 1:
    return _over_levels(readers, decay, at, products)
  out = []
  for reader, mask in zip(readers, masks, strict=True):
    rows = [products.nt(reader.x, key) for key in keys]
    if decay is not None:
      weights = _weights(_own(reader, decay), decay.total, mask)
      rows = [row * weights for row in rows]
    out.append([jnp.where(mask, row, 0) for row in rows])
  return out


def grams_vjp(
  dms: Sequence[Sequence[jax.Array]],
  readers: Sequence[Reader],
  keys: Sequence[jax.Array],
  decay: Decay | None,
  products: Products,
) -> tuple[list[jax.Array], list[jax.Array]]:
  """Returns the gradients of readers and keys of `grams` for its cotangents.

  That of G is r . dr - k . dk, so callers get it without a product.
  """
  masks = [_visible(reader, keys[0], decay) for reader in readers]

  def pulled(parts, x, keys):
    dreader = functools.reduce(operator.add, map(products.nn, parts, keys))
    return dreader, [products.tn_lower(part, x) for part in parts]

  def at(n: int, level: _Level) -> tuple[jax.Array, list[jax.Array]]:
    seen = masks[n] & level.pairs
    dreader, dkeys = pulled(
      [jnp.where(seen, dm, 0) for dm in dms[n]],
      readers[n].x * level.late,
      [key * level.early for key in keys],
    )
    return level.late * dreader, [level.early * dkey for dkey in dkeys]

  if decay is not None and decay.total.shape[-1] > 1:
    out = _over_levels(readers, decay, at, products)
  else:
    out = []
    for reader, mask, row in zip(readers, masks, dms, strict=True):
      if decay is not None:
        weights = _weights(_own(reader, decay), decay.total, mask)
        row = [dm * weights for dm in row]
      parts = [jnp.where(mask, dm, 0) for dm in row]
      out.append(pulled(parts, reader.x, keys))
  dkeys = functools.reduce(_added, [dkeys for _, dkeys in out])
  return [dreader for dreader, _ in out], dkeys


def gram_products(chunk: int, sub_chunk: int = SUB_CHUNK) -> int:
  """Returns the matrix products of one `gram` with a decay a channel."""
  return 1 + max(0, (chunk // sub_chunk).bit_length() - 1)


def iota(shape: tuple[int, ...], axis: int) -> jax.Array:
  """Returns the index along `axis`, int32."""
  return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def lower(chunk: int, *, strict: bool = False) -> jax.Array:
  """Returns the mask of pairs (i, j) with j <= i, or j < i."""
  row, column = iota((chunk, chunk), 0), iota((chunk, chunk), 1)
  return row > column if strict else row >= column


def same_block(chunk: int, block: int) -> jax.Array:
  """Returns the pairs that lie in one block of `block` tokens."""
  row, column = iota((chunk, chunk), 0), iota((chunk, chunk), 1)
  return _block(row, block) == _block(column, block)


def across_halves(chunk: int, half: int) -> jax.Array:
  """Returns the pairs (i, j) in one block of two halves, i in the second."""
  row, column = iota((chunk, chunk), 0), iota((chunk, chunk), 1)
  later = (_block(row, half) & 1 == 1) & (_block(column, half) & 1 == 0)
  return later & same_block(chunk, 2 * half)


def picked(x: jax.Array, block: int, row: int) -> jax.Array:
  """Returns, for each row of x, the given row of its block of rows."""
  *lead, size, width = x.shape
  tile = min(max(block, _SUBLANES), size)
  tiles = x.reshape(*lead, size // tile, tile, width)
  out = jnp.broadcast_to(tiles[..., row : row + 1, :], tiles.shape)
  for start in range(block, tile, block):
    one = tiles[..., start + row : start + row + 1, :]
    out = jnp.where(iota((tile, width), 0) >= start, one, out)
  return out.reshape(x.shape)


def _reference(block: int) -> int:
  """Returns the token of a block that serves its others as a reference."""
  return (block - 1) // 2


def _own(reader: Reader, decay: Decay) -> jax.Array:
  """Returns the log decay to each read, whatever sequence it belongs to."""
  if not reader.early:
    return decay.total
  assert decay.early is not None
  return decay.early


def _last(decay: Decay) -> tuple[jax.Array, jax.Array | None]:
  """Returns the last rows of G and of the segments."""
  if decay.rows is not None:
    return decay.rows.last, decay.rows.segment
  segment = None if decay.segment is None else decay.segment[..., -1:, :]
  return decay.total[..., -1:, :], segment


def _visible(reader: Reader, key: jax.Array, decay: Decay | None) -> jax.Array:
  mask = lower(key.shape[-2], strict=reader.strict)
  if decay is None or decay.segment is None:
    return mask
  return mask & (decay.segment == decay.segment.mT)


def _block(index: jax.Array, block: int) -> jax.Array:
  """index // block for a power of two (// asks TPUs which kind they are)."""
  # An amount of the same dtype: with 64 bits enabled a number would have 64.
  places = jax.lax.full_like(index, block.bit_length() - 1)
  return jax.lax.shift_right_logical(index, places)


def _weights(since: jax.Array, total: jax.Array, mask: jax.Array) -> jax.Array:
  return jnp.exp(jnp.where(mask, since - total.mT, _FAR))


class _Level(NamedTuple):
  """Factors of readers and of keys, and the pairs they are for."""

  late: jax.Array
  early: jax.Array
  pairs: jax.Array


def _over_levels(
  readers: Sequence[Reader],
  decay: Decay,
  at: Callable[[int, _Level], Any],
  products: Products,
) -> list[Any]:
  """Returns the sums of `at(n, level)` over the levels of each reader n.

  Where nothing was promised and `products` looks, the decays that are there
  decide: one level if they are as weak as it needs.
  """

  def over(sub_chunk: int) -> list[Any]:
    sums: dict[int, Any] = {}
    for early in sorted({reader.early for reader in readers}):
      same = [n for n, reader in enumerate(readers) if reader.early == early]
      levels = _levels(_own(readers[same[0]], decay), decay, early, sub_chunk)
      parts = ({n: at(n, level) for n in same} for level in levels)
      sums |= functools.reduce(_added, parts)
    return [sums[n] for n in range(len(readers))]

  chunk = decay.total.shape[-2]
  if not products.looks or products.sub_chunk >= chunk:
    return over(products.sub_chunk)
  return jax.lax.cond(
    _weak(decay.total),
    lambda: over(chunk),
    lambda: over(products.sub_chunk),
  )


@jax.custom_batching.custom_vmap
def _weak(total: jax.Array) -> jax.Array:
  """Returns whether no half of a chunk decays by more than e^-60, one bool."""
  middle = _reference(total.shape[-2])
  first = total[..., middle, :]
  second = total[..., -1, :] - first
  least = jnp.minimum(jnp.min(first), jnp.min(second))
  return least >= -LARGEST_EXPONENT


@_weak.def_vmap
def _(axis_size, in_batched, total):
  """One answer for all: a `cond` that differs would compute both branches."""
  del axis_size, in_batched
  return _weak(total), False


def _added(a: Any, b: Any) -> Any:
  return jax.tree.map(operator.add, a, b)


def _levels(
  since: jax.Array, decay: Decay, early: bool, sub_chunk: int
) -> Iterator[_Level]:
  """Splits the pairs of a chunk into levels with a reference token each.

  exp(G_i - G_j) for each channel is no matrix product of tokens, but
  exp(G_i - G_r) exp(G_r - G_j) is, for one r. Where r lies between j and i
  neither factor exceeds 1. At the level of half-width h the chunk is cut into
  blocks of 2h tokens; a key of the first half and a reader of the second half
  of the same block have its middle between them (sub-chunks as in GLA,
  arXiv:2312.06635, section 4.3, at every scale). In blocks of `sub_chunk`
  tokens the middle one serves all pairs, with factors of at most e^60 where
  the decay of half a block's steps is no stronger
  (arguments.largest_sub_chunk).

  Args:
    since: log decay to each reader.
    decay: of the chunk; its total is the log decay to each writer.
    early: whether they differ.
    sub_chunk: tokens of the smallest blocks, a power of two.

  Yields:
    For each level the factor of readers and that of writers, [..., chunk, K],
    and its pairs [chunk, chunk]; every pair j <= i is in one level. One at a
    time, so that a kernel need not keep the factors of all.
  """
  total = decay.total
  chunk, width = total.shape[-2:]
  pick = functools.partial(picked, total)
  if decay.rows is not None:
    pick = decay.rows.picked
  token = iota((chunk, width), 0)
  block = min(sub_chunk, chunk)
  middle = pick(block, _reference(block))
  yield _Level(
    jnp.exp(since - middle),
    jnp.exp(middle - total),
    same_block(chunk, block),
  )
  while block < chunk:
    middle = pick(2 * block, block - 1)
    second = _block(token, block) & 1 == 1
    if early:
      late = jnp.exp(jnp.where(second, since - middle, 0))
      before = jnp.exp(jnp.where(second, 0, middle - total))
    else:  # readers of one half, writers of the other: one exp for both
      gap = total - middle
      late = before = jnp.exp(jnp.where(second, gap, -gap))
    yield _Level(late, before, across_halves(chunk, block))
    block *= 2
