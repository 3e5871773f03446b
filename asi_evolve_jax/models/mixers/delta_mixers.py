"""Mixers whose memory corrects what it holds, by one or more rank-one steps."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
from flax import nnx

from asi_evolve_jax.models.mixers import delta, dplr
from asi_evolve_jax.models.mixers.base import (
  ConvolvedMixer,
  Dense,
  MixerConfig,
  SoftplusDecay,
  Stream,
  constant,
  split,
)
from asi_evolve_jax.models.mixers.token_shift import ShiftedMixer


class DeltaNet(ConvolvedMixer):
  """DeltaNet, and what differs from it by a decay alone.

  Attributes:
    largest_beta: 1, or 2 for eigenvalues of the transition down to -1.
    decay_kind: "none", "scalar" or "vector".
  """

  paper = "2406.06484"
  largest_beta: ClassVar[float] = 1.0
  decay_kind: ClassVar[str] = "none"

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    dim, heads, width = config.dim, self.heads, config.head_dim
    self.rate = Dense(dim, self.steps * heads, rngs=rngs)
    if self.decay_kind == "scalar":
      self.decay = SoftplusDecay(dim, heads, rngs=rngs)
    elif self.decay_kind == "vector":
      self.decay = SoftplusDecay(
        dim, heads, rngs=rngs, channels=width, rank=width
      )

  def beta(self, x: jax.Array) -> jax.Array:
    """Returns the rates of writing, [batch, time, steps * heads], float32."""
    return self.largest_beta * jax.nn.sigmoid(self.rate.wide(x))

  def log_decay(self, x: jax.Array) -> jax.Array | None:
    """Returns g as `delta_rule` takes it."""
    return None if self.decay_kind == "none" else self.decay(x)

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    q, k, v = self.qkv(x, ctx)
    return delta.deltanet(q, k, v, self.beta(x), self.log_decay(x), **options)


class DeltaNetNegative(DeltaNet):
  """DeltaNet with beta in (0, 2): eigenvalues down to -1."""

  paper = "2411.12537"
  largest_beta = 2.0


class GatedDeltaNet(DeltaNet):
  """Gated DeltaNet: one decay a head and a gated output."""

  paper = "2412.06464"
  gate = "silu"
  decay_kind = "scalar"


class KDA(DeltaNet):
  """Kimi Delta Attention: one decay a channel, low-rank output gate."""

  paper = "2510.26692"
  gate = "sigmoid"
  gate_rank = True
  decay_kind = "vector"


class GDN2(ConvolvedMixer):
  """Gated DeltaNet-2: KDA with a gate to erase and one to write for beta."""

  paper = "2605.22791"
  gate = "sigmoid"
  gate_rank = True

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    dim, heads, width = config.dim, self.heads, config.head_dim
    self.decay = SoftplusDecay(
      dim, heads, rngs=rngs, channels=width, rank=width
    )
    self.erase = Dense(dim, heads * width, rngs=rngs)
    self.write = Dense(dim, heads * width, rngs=rngs)

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    q, k, v = self.qkv(x, ctx)
    erase, write = (
      split(jax.nn.sigmoid(gate.wide(x)), self.heads)
      for gate in (self.erase, self.write)
    )
    return delta.gdn2(q, k, v, erase, write, self.decay(x), **options)


class DeltaProduct(DeltaNet):
  """DeltaProduct: two delta steps a token, beta in (0, 2)."""

  paper = "2502.10297"
  largest_beta = 2.0
  steps = 2

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    q, k, v = self.qkv(x, ctx)
    k, v, beta = (
      y.reshape(*y.shape[:2], self.steps, self.heads, *y.shape[3:])
      for y in (k, v, self.beta(x))
    )
    return delta.deltaproduct(q, k, v, beta, self.log_decay(x), **options)


class GatedDeltaProduct(DeltaProduct):
  """DeltaProduct with one decay a head and a gated output."""

  gate = "silu"
  decay_kind = "scalar"


class Comba(GatedDeltaNet):
  """Comba: weaker feedback than writing, and a corrected query."""

  paper = "2506.02475"
  gate = "sigmoid"

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.feedback = constant(1.0, self.heads)
    # What the paper found best for small models.
    self.correction = constant(0.02, self.heads)

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    return dplr.comba(
      *self.qkv(x, ctx),
      self.beta(x),
      self.decay(x),
      jax.nn.sigmoid(self.feedback[...]),
      self.correction[...],
      **options,
    )


class RWKV7(ShiftedMixer):
  """RWKV-7, without the values that later layers take from the first."""

  paper = "2503.14456"
  gate = "identity"
  gate_inner = "sigmoid"
  gate_rank = True
  centred = True
  inputs = ("r", "k", "v", "decay", "rate", "gate")

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    shape = (self.heads, config.head_dim)
    self.decay = self.lora(config, rngs=rngs, bias=-3.0)
    self.rate = self.lora(config, rngs=rngs, bias=0.0)
    self.remove = constant(0.7, *shape)
    self.replace = constant(1.0, *shape)
    self.bonus = constant(0.0, *shape)

  def recur_shifted(
    self, xs: dict[str, jax.Array], ctx: Stream, **options: Any
  ):
    return dplr.rwkv7(
      self.q(xs["r"], ctx, "q"),
      self.k(xs["k"], ctx, "k"),
      self.v(xs["v"], ctx, "v"),
      split(self.decay.wide(xs["decay"]), self.heads),
      split(self.rate.wide(xs["rate"]), self.heads),
      self.remove[...],
      self.replace[...],
      self.bonus[...],
      **options,
    )
