"""The linear pass over one chunk, which every operator of the family shares.

Readers (q, and p where a memory is read before it is written) see the state S
before the chunk and the tokens before them; writers (k, and e) put their values
there. With G the running sum of the log decay,
  read_i = S^T (r_i e^{G_i}) + sum_j [r_i . k_j e^{G_i - G_j}] value_j,
  S <- diag(e^{G_C}) S + sum_j (k_j e^{G_C - G_j}) value_j^T.
Linear attention has value = v; the delta rules have values that solve a
triangular system of the reads of p. So weights (decay.py), the pass over the
state, and all gradients but those of that system are written once, for arrays
with any leading axes: [chunks, batch, heads, ...] in the XLA forms, none in a
kernel, which computes one chunk of one head.

States are transposed, [..., V, K]: a decay a channel is then a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.decay import Decay, Reader
from pallas_kernels.shared.products import KernelProducts, Products


class Recurrence(Protocol):
  """What an operator's `chunk.py` offers kernels; arrays are of one head."""

  matrices: int  # what `solve` returns
  inverses: int  # how many of them, the first, are better kept than redone
  early: bool  # whether a reader reads before its token decays

  def solve(
    self,
    tokens: tuple[jax.Array, ...],
    decay: Decay | None,
    products: KernelProducts,
    known: tuple[jax.Array, ...] = (),
  ) -> tuple[jax.Array, ...]:
    """Returns the [chunk, chunk] arrays that no state enters.

    `known` gives the inverses, if they were kept.
    """
    ...

  def forward(
    self,
    tokens: tuple[jax.Array, ...],
    decay: Decay | None,
    solved: tuple[jax.Array, ...],
    state: jax.Array,
    products: KernelProducts,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns (out [chunk, V], next state [V, K])."""
    ...

  def backward(
    self,
    tokens: tuple[jax.Array, ...],
    decay: Decay | None,
    solved: tuple[jax.Array, ...],
    state: jax.Array,
    dout: jax.Array,
    dstate: jax.Array,
    products: KernelProducts,
  ) -> tuple[tuple[jax.Array, ...], Decay | None, jax.Array]:
    """Returns (gradients of tokens, of the decay, of the state before)."""
    ...


class Gradients(NamedTuple):
  """What `gradients` returns; shapes as the arguments'."""

  readers: tuple[jax.Array, ...]
  keys: tuple[jax.Array, ...]
  decay: Decay | None


def saved_by_name(operator: str, arrays: Any) -> Any:
  """Names what backward keeps, so that policies of jax.checkpoint find it."""
  return jax.tree.map(lambda x: checkpoint_name(x, f"{operator}_saved"), arrays)


def read(
  reader: Reader, decay: Decay | None, state: jax.Array, products: Products
) -> jax.Array:
  """Returns what the reader sees of the state before the chunk."""
  since = decays.since_start(reader, decay)
  return products.nt(decays.decayed(reader.x, since), state)


def write(
  keys: Sequence[jax.Array],
  values: Sequence[jax.Array],
  decay: Decay | None,
  state: jax.Array,
  products: Products,
) -> jax.Array:
  """Returns the state after the chunk."""
  late = decays.to_end(decay)
  state = decays.carried(state, decays.across(decay))
  for key, value in zip(keys, values, strict=True):
    state = state + products.tn(value, decays.decayed(key, late))
  return state


def start_gradient(
  readers: Sequence[Reader],
  dreads: Sequence[jax.Array],
  decay: Decay | None,
  dstate: jax.Array,
  products: Products,
) -> jax.Array:
  """Returns the gradient of the state before the chunk."""
  out = decays.carried(dstate, decays.across(decay))
  for reader, dread in zip(readers, dreads, strict=True):
    since = decays.since_start(reader, decay)
    out = out + products.tn(dread, decays.decayed(reader.x, since))
  return out


def gradients(
  readers: Sequence[Reader],
  dreads: Sequence[jax.Array],
  keys: Sequence[jax.Array],
  values: Sequence[jax.Array],
  decay: Decay | None,
  state: jax.Array,
  dstate: jax.Array,
  products: Products,
) -> Gradients:
  """Returns the gradients of readers, keys and decay.

  Args:
    readers, dreads: each reader and the cotangent of what it reads.
    keys, values: each writer and what it writes.
    decay: of the chunk.
    state, dstate: before the chunk, and the cotangent of the one after it.
    products: how products are taken.
  """
  late = decays.to_end(decay)
  dkeys_late = [
    decays.decayed(dkey, late) for dkey in products.each(values, dstate)
  ]
  dms = products.pairs(dreads, values)
  dreaders, dkeys = decays.grams_vjp(dms, readers, keys, decay, products)
  dkeys = [a + b for a, b in zip(dkeys, dkeys_late, strict=True)]
  before = products.each(dreads, state)
  for n, (reader, dread) in enumerate(zip(readers, before, strict=True)):
    since = decays.since_start(reader, decay)
    dreaders[n] = dreaders[n] + decays.decayed(dread, since)
  ddecay, factor = None, decays.across(decay)
  if decay is not None and factor is not None:
    end = factor * jnp.sum(state * dstate, -2, keepdims=True)
    for key, dlate in zip(keys, dkeys_late, strict=True):
      end = end + jnp.sum(key * dlate, -2, keepdims=True)
    ddecay = _decay_gradient(readers, dreaders, keys, dkeys, end, decay)
  return Gradients(tuple(dreaders), tuple(dkeys), ddecay)


def _decay_gradient(readers, dreaders, keys, dkeys, end, decay) -> Decay:
  """Exponents gain what readers gain and lose what writers do: no product."""
  chunk, width = decay.total.shape[-2:]

  def summed(x):
    return jnp.sum(x, -1, keepdims=True) if width == 1 else x

  dtotal, dearly = jnp.zeros_like(decay.total), decay.early
  if dearly is not None:
    dearly = jnp.zeros_like(dearly)
  for reader, dreader in zip(readers, dreaders, strict=True):
    gain = summed(reader.x * dreader)
    if reader.early and dearly is not None:
      dearly = dearly + gain
    else:
      dtotal = dtotal + gain
  for key, dkey in zip(keys, dkeys, strict=True):
    dtotal = dtotal - summed(key * dkey)
  last = decays.iota((chunk, width), 0) == chunk - 1
  dtotal = dtotal + jnp.where(last, summed(end), 0)
  none = jax.tree.map(jnp.zeros_like, (decay.segment, decay.before))
  return Decay(dtotal, dearly, *none)
