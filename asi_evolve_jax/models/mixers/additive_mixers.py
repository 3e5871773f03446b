"""Mixers whose memory only adds, on `linear_attention`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from asi_evolve_jax.models.language_model import RMSNorm
from asi_evolve_jax.models.mixers import additive
from asi_evolve_jax.models.mixers.base import (
  ConvolvedMixer,
  Dense,
  LinearMixer,
  MixerConfig,
  SoftplusDecay,
  Stream,
  constant,
  split,
)
from asi_evolve_jax.models.mixers.token_shift import ShiftedMixer

_GATE_RANK = 16  # of GLA's decay


class LinearAttention(LinearMixer):
  """Linear attention; the norm of the output replaces the normaliser."""

  paper = "2006.16236"

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    return additive.linear(*self.qkv(x, ctx), **options)


class RetNet(LinearMixer):
  """Multi-scale retention: rotated q and k, a fixed decay a head."""

  paper = "2307.08621"
  gate = "silu"
  centred = True

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    start = ctx.before.get("place", 0)
    tokens = jnp.full((x.shape[0], 1, 1), x.shape[1], jnp.float32)
    ctx.after["place"] = start + tokens
    return additive.retention(*self.qkv(x, ctx), start=start, **options)


class Mamba2(ConvolvedMixer):
  """Mamba-2: one C and B for twice as many heads, one decay a head."""

  paper = "2405.21060"
  gate = "silu"
  shared_keys = True
  expand = 2

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.decay = SoftplusDecay(config.dim, self.heads, rngs=rngs)
    self.skip = constant(1.0, self.heads)

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    rate = jnp.exp(self.decay.log_rate[...])
    return additive.mamba2(
      *self.qkv(x, ctx), self.decay.step(x), rate, self.skip[...], **options
    )


class Mamba3(LinearMixer):
  """Mamba-3 without MIMO: trapezoid steps and rotations for convolutions.

  C and B are normalised, and biased a head; half of their channels turn.
  """

  paper = "2603.15569"
  gate = "silu"
  shared_keys = True
  expand = 2

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    dim, width, heads = config.dim, config.head_dim, self.heads
    self.decay = SoftplusDecay(dim, heads, rngs=rngs)
    self.rate = Dense(dim, heads, rngs=rngs)
    self.trapezoid = Dense(dim, heads, rngs=rngs)
    self.angle = Dense(dim, max(1, width // 4), rngs=rngs)
    self.skip = constant(1.0, heads)
    self.norms = nnx.List([RMSNorm(width), RMSNorm(width)])
    self.biases = nnx.List([constant(1.0, heads, width) for _ in range(2)])

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    c, b, v = self.qkv(x, ctx)
    c, b = (
      (norm(y) + bias[...]).astype(x.dtype)
      for y, norm, bias in zip((c, b), self.norms, self.biases, strict=True)
    )
    dt = self.decay.step(x)
    # In Mamba-3 the rate itself depends on the token, around a learned one.
    rate = jax.nn.softplus(self.rate.wide(x) + self.decay.log_rate[...])
    names, last = additive.Last._fields, None
    if ctx.before:
      last = additive.Last(*(ctx.before[name] for name in names))
    out, memory, last = additive.mamba3(
      c,
      b,
      v,
      -dt * rate,
      dt,
      self.trapezoid.wide(x),
      split(self.angle.wide(x), 1),
      self.skip[...],
      last=last,
      **options,
    )
    ctx.after.update(zip(names, last, strict=True))
    return out, memory


class GLA(LinearMixer):
  """Gated linear attention: one data-dependent decay a channel."""

  paper = "2312.06635"
  gate = "silu"

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    width = config.heads * config.head_dim
    self.decay = Dense(config.dim, width, rngs=rngs, rank=_GATE_RANK, bias=0.0)

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    decay = split(self.decay.wide(x), self.heads)
    return additive.gla(*self.qkv(x, ctx), decay, **options)


class HGRN2(LinearMixer):
  """HGRN2: the key is one minus the forget gate, whose floor rises.

  The paper learns the floors, cumulative sums of a softmax over layers. A layer
  alone knows its depth, the value that they start from.
  """

  paper = "2404.07904"
  activation = "silu"

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    q, v = self.q(x, ctx, "q"), self.v(x, ctx, "v")
    z = split(self.k.project.wide(x), self.heads)
    forget = ctx.depth + (1 - ctx.depth) * jax.nn.sigmoid(z)
    return additive.hgrn2(q, forget, v, **options)


class RWKV6(ShiftedMixer):
  """RWKV-6: shifted inputs, one data-dependent decay a channel, a bonus."""

  paper = "2404.05892"
  gate = "silu"
  centred = True
  inputs = ("r", "k", "v", "decay", "gate")
  dynamic_shift = True

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.decay = self.lora(config, rngs=rngs, bias=-3.0)
    self.bonus = constant(0.5, self.heads, config.head_dim)

  def recur_shifted(
    self, xs: dict[str, jax.Array], ctx: Stream, **options: Any
  ):
    decay = split(self.decay.wide(xs["decay"]), self.heads)
    r = self.q(xs["r"], ctx, "q")
    k, v = self.k(xs["k"], ctx, "k"), self.v(xs["v"], ctx, "v")
    return additive.rwkv6(r, k, v, decay, self.bonus[...], **options)
