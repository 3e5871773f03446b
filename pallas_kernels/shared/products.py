"""How matrix products are taken: the precision of each, and its layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

EXACT = jax.lax.Precision.HIGHEST
# Tokens that share one reference token with those on both sides of them, where
# a decay a channel weighs pairs; the most that keeps the factors finite.
SUB_CHUNK = 4


class Products(Protocol):
  """Products of the last two axes.

  TPUs and GPUs round float32 operands unless told otherwise, and neither the
  CPU nor the interpreter shows it, so every product goes through here.
  """

  @property
  def sub_chunk(self) -> int:
    """Tokens that share a reference token; see decay.py."""
    ...

  @property
  def looks(self) -> bool:
    """Whether all tokens of a chunk share one where the decays allow it."""
    ...

  def nn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a @ b."""
    ...

  def nt(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a @ b^T."""
    ...

  def tn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a^T @ b."""
    ...

  def tn_lower(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a^T @ b for lower triangular a."""
    ...

  def fine(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a @ b of float32 operands to 16 bits at least."""
    ...

  def each(self, rows: Sequence[jax.Array], b: jax.Array) -> list[jax.Array]:
    """Returns a @ b for each a of rows, all of one shape."""
    ...

  def pairs(
    self, rows: Sequence[jax.Array], columns: Sequence[jax.Array]
  ) -> list[list[jax.Array]]:
    """Returns a @ b^T for each a of rows with each b of columns."""
    ...


class KernelProducts(NamedTuple):
  """Products of matrices inside a kernel, with float32 sums.

  Attributes:
    low: operands are rounded to bfloat16, one pass of the matrix unit (for
      bfloat16 arguments, which lose nothing by it where they enter as they
      are); else float32 operands in full precision.
    cuts: whether rows can be cut out of values: on TPUs, not in Triton.
    precision: of products of float32 operands.
    sub_chunk: tokens that share a reference token; see decay.py.
  """

  low: bool
  cuts: bool = True
  precision: jax.lax.Precision | jax.lax.DotAlgorithmPreset = EXACT
  sub_chunk: int = SUB_CHUNK

  @property
  def looks(self) -> bool:
    return False  # a kernel's schedule is static

  def nn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self._product(a, b, 1, 0)

  def nt(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self._product(a, b, 1, 1)

  def tn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self._product(a, b, 0, 0)

  def tn_lower(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self.tn(a, b)

  def fine(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum of three passes where `low`, of the six of full precision.

    An operand is the sum of two bfloat16; the product of the two rests, 2^-16
    of the whole, is left out.
    """
    if not self.low:
      return self.nn(a, b)
    high_a, rest_a = _split(a)
    high_b, rest_b = _split(b)
    rest = self.nn(rest_a, high_b) + self.nn(high_a, rest_b)
    return self.nn(high_a, high_b) + rest

  def each(self, rows: Sequence[jax.Array], b: jax.Array) -> list[jax.Array]:
    return [self.nn(a, b) for a in rows]

  def pairs(
    self, rows: Sequence[jax.Array], columns: Sequence[jax.Array]
  ) -> list[list[jax.Array]]:
    return [[self.nt(a, b) for b in columns] for a in rows]

  def _product(
    self, a: jax.Array, b: jax.Array, left: int, right: int
  ) -> jax.Array:
    dtype = jnp.bfloat16 if self.low else jnp.float32
    return jax.lax.dot_general(
      a.astype(dtype),
      b.astype(dtype),
      (((left,), (right,)), ((), ())),
      precision=None if self.low else self.precision,
      preferred_element_type=jnp.float32,
    )


class XlaProducts(NamedTuple):
  """Products of batches [..., rows, columns] in full precision.

  Those of `each` and `pairs` are one product: a backend gets more out of a
  large one.
  """

  sub_chunk: int = SUB_CHUNK
  looks: bool = False

  def nn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=EXACT)

  def nt(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self.nn(a, b.mT)

  def tn(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self.nn(a.mT, b)

  def tn_lower(self, a: jax.Array, b: jax.Array) -> jax.Array:
    """XLA folds a plain transpose into the product that reads it.

    On CPU products with a transposed left side are four times slower. The
    mask, which changes nothing, keeps the transpose out of the product.
    """
    upper = np.tri(a.shape[-1], dtype=bool).T
    return self.nn(jnp.where(upper, a.mT, 0), b)

  def fine(self, a: jax.Array, b: jax.Array) -> jax.Array:
    return self.nn(a, b)

  def each(self, rows: Sequence[jax.Array], b: jax.Array) -> list[jax.Array]:
    together = self.nn(jnp.concatenate(rows, axis=-2), b)
    return jnp.split(together, len(rows), axis=-2)

  def pairs(
    self, rows: Sequence[jax.Array], columns: Sequence[jax.Array]
  ) -> list[list[jax.Array]]:
    parts = self.each(rows, jnp.concatenate(columns, axis=-2).mT)
    return [jnp.split(part, len(columns), axis=-1) for part in parts]


def read_state(x: jax.Array, state: jax.Array) -> jax.Array:
  """Returns x^T state of each head: [..., K] and [..., K, V] to [..., V]."""
  return jnp.einsum("...k,...kv->...v", x, state, precision=EXACT)


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  high = x.astype(jnp.bfloat16)
  return high, (x - high.astype(jnp.float32)).astype(jnp.bfloat16)


FULL = KernelProducts(low=False)
