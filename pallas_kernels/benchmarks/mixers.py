"""The mixers that are timed: one a recurrence and decay."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import linear_attention

# Smallest log decays a step: of arXiv:2510.26692, and e^{-1/2} of 2503.14456.
KDA_DECAY = -5.0
RWKV7_DECAY = -0.606531


class Mixer(NamedTuple):
  """One recurrence.

  Attributes:
    function: of q, k, v and the gates, each by name.
    gates: what it takes besides; g is a head's, G a channel's decay.
  """

  function: Callable[..., tuple[jax.Array, jax.Array]]
  gates: tuple[str, ...]


def _additive(q, k, v, g=None, G=None, **options):
  return linear_attention(q, k, v, g if G is None else G, **options)


def _delta(q, k, v, beta, g=None, G=None, **options):
  return gated_delta_rule(q, k, v, beta, g if G is None else G, **options)


def _rwkv7(q, k, v, beta, G, **options):
  erase = (k * beta[..., None]).astype(k.dtype)
  return dplr_delta_rule(
    q, k, v, -k, erase, G, min_log_decay=RWKV7_DECAY, **options
  )


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
  """Returns `function` with decays of at most e^-5 a step, as KDA bounds it."""
  return functools.partial(function, min_log_decay=KDA_DECAY)


MIXERS = {
  "linear attention": Mixer(_additive, ()),
  "scalar decay (Mamba-2)": Mixer(_additive, ("g",)),
  "GLA": Mixer(_additive, ("G",)),
  "GLA, bounded decay": Mixer(_bounded(_additive), ("G",)),
  "DeltaNet": Mixer(_delta, ("beta",)),
  "Gated DeltaNet": Mixer(_delta, ("beta", "g")),
  "KDA": Mixer(_delta, ("beta", "G")),
  "KDA, bounded decay": Mixer(_bounded(_delta), ("beta", "G")),
  "RWKV-7": Mixer(_rwkv7, ("beta", "G")),
}


class Size(NamedTuple):
  batch: int
  time: int
  heads: int
  dim: int


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
