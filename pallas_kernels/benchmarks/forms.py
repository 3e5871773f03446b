"""What our forms are timed against: published JAX code and public kernels.

A form is a function of the arguments of `mixers.arguments` that returns the
output. Public kernels are no dependencies: where one is not installed or does
not run here, the row says so.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pallas_kernels.benchmarks.mixers import MIXERS, RWKV7_DECAY
from pallas_kernels.shared.products import XlaProducts
from pallas_kernels.shared.triangular import unit_lower_inverse

_EXACT = jax.lax.Precision.HIGHEST


def own(mixer: str, implementation: str) -> Callable[..., jax.Array]:
  """Returns one of our forms."""

  def run(**args: jax.Array) -> jax.Array:
    function = MIXERS[mixer].function
    return function(**args, implementation=implementation)[0]

  return run


def autodiff_chunks(chunk: int = 64) -> Callable[..., jax.Array]:
  """Returns Gated DeltaNet as public JAX training code writes it.

  The formulas of MaxText's chunked form (chunk 64, WY by a triangular solve,
  a scan over chunks, gradients by autodiff), written from the formulas. The
  solve takes our inverse and keeps the derivative of a solve: XLA's own on CPU
  (jaxlib 0.10.2) leaves such a program waiting for ever, within seconds.
  """

  def run(q, k, v, beta, g):
    batch, time, heads, dim = q.shape
    if time % chunk:
      raise ValueError(f"time must be a multiple of {chunk}, got {time}.")

    def split(x):
      x = x.reshape(batch, time // chunk, chunk, heads, -1)
      return x.transpose(1, 0, 3, 2, 4).astype(jnp.float32)

    matmul = functools.partial(jnp.matmul, precision=_EXACT)
    q, k, v = split(q) * dim**-0.5, split(k), split(v)
    beta, total = split(beta[..., None]), jnp.cumsum(split(g[..., None]), -2)
    mask = jnp.tril(jnp.ones((chunk, chunk), bool))
    gap = jnp.where(mask, total - total.mT, -1e30)
    weights = jnp.exp(gap)
    system = jnp.tril(beta * matmul(k, k.mT) * weights, -1)
    rows = jnp.concatenate([beta * v, beta * jnp.exp(total) * k], -1)
    inverse = unit_lower_inverse(jax.lax.stop_gradient(system), XlaProducts())
    solved = jax.lax.custom_linear_solve(
      lambda x: x + matmul(system, x),
      rows,
      lambda _, y: matmul(inverse, y),
      lambda _, y: matmul(inverse.mT, y),
    )
    u, w = solved[..., :dim], solved[..., dim:]
    scores = matmul(q, k.mT) * weights
    end = total[..., -1:, :]

    def visit(state, xs):
      q_read, w, u, scores, k_late, factor = xs
      values = u - matmul(w, state)
      out = matmul(q_read, state) + matmul(scores, values)
      return factor * state + matmul(k_late.mT, values), out

    state = jnp.zeros((batch, heads, dim, dim))
    late = k * jnp.exp(end - total)
    xs = (q * jnp.exp(total), w, u, scores, late, jnp.exp(end))
    _, out = jax.lax.scan(visit, state, xs)
    return out.transpose(1, 0, 3, 2, 4).reshape(batch, time, heads, dim)

  return run


# Kinds of jax-linear-attention and functions of flash-linear-attention. Neither
# takes our promise of a weak decay: where we do, theirs are of any decay.
_BOUNDED = ", bounded decay"
_JLA = {
  "scalar decay (Mamba-2)": "simple_gla",
  "GLA": "gla",
  "DeltaNet": "deltanet",
  "Gated DeltaNet": "gated_deltanet",
  "KDA": "kda",
  "RWKV-7": "rwkv7",
}
_FLA = {
  "linear attention": ("fla.ops.linear_attn", "chunk_linear_attn"),
  "scalar decay (Mamba-2)": ("fla.ops.simple_gla", "chunk_simple_gla"),
  "GLA": ("fla.ops.gla", "chunk_gla"),
  "DeltaNet": ("fla.ops.delta_rule", "chunk_delta_rule"),
  "Gated DeltaNet": ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule"),
  "KDA": ("fla.ops.kda", "chunk_kda"),
  "RWKV-7": ("fla.ops.generalized_delta_rule", "chunk_dplr_delta_rule"),
}


def jla(mixer: str) -> Callable[..., jax.Array]:
  """Returns jax-linear-attention's form for this device.

  Raises:
    LookupError: if it is not installed or has no such mixer.
  """
  mixer = mixer.removesuffix(_BOUNDED)
  if mixer not in _JLA:
    raise LookupError("jla has no such mixer")
  try:
    ops = importlib.import_module("jla.ops")
  except ImportError as error:
    raise LookupError("jla is not installed") from error

  def run(q, k, v, beta=None, g=None, G=None):
    gates = {"beta": beta, "g": g if G is None else G}
    given = {name: x for name, x in gates.items() if x is not None}
    return ops.linear_attention(_JLA[mixer], q, k, v, **given)[0]

  def rwkv7(q, k, v, beta, G):
    erase = (k * beta[..., None]).astype(k.dtype)
    decay = jnp.maximum(G, RWKV7_DECAY)
    options = {"scale": q.shape[-1] ** -0.5, "lower_bound": RWKV7_DECAY}
    return ops.linear_attention(
      "rwkv7", q, k, v, w=decay, a=-k, b=erase, **options
    )[0]

  return rwkv7 if mixer == "RWKV-7" else run


def fla(mixer: str) -> Callable[..., Any]:
  """Returns flash-linear-attention's function, of torch tensors.

  Raises:
    LookupError: if it is not installed or has no such mixer.
  """
  mixer = mixer.removesuffix(_BOUNDED)
  if mixer not in _FLA:
    raise LookupError("fla has no such mixer here")
  module, name = _FLA[mixer]
  try:
    function = getattr(importlib.import_module(module), name)
  except (ImportError, AttributeError) as error:
    raise LookupError("fla is not installed") from error

  def run(q, k, v, beta=None, g=None, G=None):
    gates = {"beta": beta, "g": g if G is None else G}
    given = {name: x for name, x in gates.items() if x is not None}
    if mixer == "linear attention":
      given["normalize"] = False  # by a sum of keys, which ours is without
    return function(q=q, k=k, v=v, **given)[0]

  def rwkv7(q, k, v, beta, G):
    erase = (k * beta[..., None]).to(k.dtype)
    decay = G.clamp(min=RWKV7_DECAY)
    scale = q.shape[-1] ** -0.5
    return function(q=q, k=k, v=v, a=-k, b=erase, gk=decay, scale=scale)[0]

  return rwkv7 if mixer == "RWKV-7" else run
