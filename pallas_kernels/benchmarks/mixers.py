"""The mixers that are timed: one a recurrence and decay."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.delta_rule import cost as delta_cost
from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.dplr_delta_rule import cost as dplr_cost
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import cost as linear_cost
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.shared.arguments import DECAY_FLOOR, largest_sub_chunk
from pallas_kernels.shared.cost import Cost

# Smallest log decays a step: of arXiv:2510.26692, and e^{-1/2} of 2503.14456.
KDA_DECAY = -5.0
RWKV7_DECAY = -0.606531


class Size(NamedTuple):
  batch: int
  time: int
  heads: int
  dim: int


class Mixer(NamedTuple):
  """One recurrence.

  Attributes:
    function: of q, k, v and the gates, each by name.
    gates: what it takes besides; g is a head's, G a channel's decay.
    cost: its operator's `forward_cost`.
    bound: the smallest log decay of a step.
  """

  function: Callable[..., tuple[jax.Array, jax.Array]]
  gates: tuple[str, ...]
  cost: Callable[..., Cost]
  bound: float = DECAY_FLOOR

  def forward_cost(self, size: Size, chunk: int, itemsize: int) -> Cost:
    """Returns the cost of a forward pass in chunks of `chunk` tokens."""
    kinds = {"g": "scalar", "G": "vector"}
    decay = [kinds[gate] for gate in self.gates if gate in kinds]
    return self.cost(
      size.batch,
      size.time,
      size.heads,
      size.dim,
      size.dim,
      decay_kind=decay[0] if decay else "none",
      chunk_size=chunk,
      sub_chunk=largest_sub_chunk(self.bound),
      itemsize=itemsize,
    )


def _additive(q, k, v, g=None, G=None, **options):
  return linear_attention(q, k, v, g if G is None else G, **options)


def _delta(q, k, v, beta, g=None, G=None, **options):
  return gated_delta_rule(q, k, v, beta, g if G is None else G, **options)


def _rwkv7(q, k, v, beta, G, **options):
  erase = (k * beta[..., None]).astype(k.dtype)
  return dplr_delta_rule(q, k, v, -k, erase, G, **options)


def _mixer(
  function: Callable[..., Any],
  gates: tuple[str, ...],
  cost: Callable[..., Cost],
  bound: float = DECAY_FLOOR,
) -> Mixer:
  bounded = functools.partial(function, min_log_decay=bound)
  return Mixer(bounded, gates, cost, bound)


MIXERS = {
  "linear attention": _mixer(_additive, (), linear_cost.forward_cost),
  "scalar decay (Mamba-2)": _mixer(_additive, ("g",), linear_cost.forward_cost),
  "GLA": _mixer(_additive, ("G",), linear_cost.forward_cost),
  "GLA, bounded decay": _mixer(
    _additive, ("G",), linear_cost.forward_cost, KDA_DECAY
  ),
  "DeltaNet": _mixer(_delta, ("beta",), delta_cost.gated_forward_cost),
  "Gated DeltaNet": _mixer(
    _delta, ("beta", "g"), delta_cost.gated_forward_cost
  ),
  "KDA": _mixer(_delta, ("beta", "G"), delta_cost.gated_forward_cost),
  "KDA, bounded decay": _mixer(
    _delta, ("beta", "G"), delta_cost.gated_forward_cost, KDA_DECAY
  ),
  "RWKV-7": _mixer(_rwkv7, ("beta", "G"), dplr_cost.forward_cost, RWKV7_DECAY),
}


def arguments(mixer: Mixer, size: Size, dtype: Any) -> dict[str, jax.Array]:
  """Draws normalised q and k, v, and gates as trained models have them."""
  keys = jax.random.split(jax.random.key(0), 5)
  shape = (size.batch, size.time, size.heads)

  def unit(key):
    x = jax.random.normal(key, (*shape, size.dim))
    return (x / jnp.linalg.norm(x, axis=-1, keepdims=True)).astype(dtype)

  decay = jax.nn.log_sigmoid(jax.random.normal(keys[3], (*shape, size.dim)) + 3)
  gates = {
    "beta": jax.nn.sigmoid(jax.random.normal(keys[4], shape)),
    "g": decay[..., 0],
    "G": decay,
  }
  tokens = {
    "q": unit(keys[0]),
    "k": unit(keys[1]),
    "v": jax.random.normal(keys[2], (*shape, size.dim)).astype(dtype),
  }
  return tokens | {name: gates[name] for name in mixer.gates}
