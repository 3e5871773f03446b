"""What a layer adds around a recurrence, written once for all mixers.

  q, k, v projections, a short convolution and an activation, the recurrence, a
  norm over each head's output, an output gate, the output projection.

A named mixer says which of these it has in class attributes, adds what its
gates need in `__init__`, and calls its parameterisation in `recur`. All
variables are float32 `nnx.Param`s; what multiplies x is cast to x's dtype,
gates are computed in float32.

A sequence whole or token by token is the same code: whatever looks back takes
what it needs from `Stream.before` and leaves it in `Stream.after`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from asi_evolve_jax.models.language_model import RMSNorm
from asi_evolve_jax.models.mixers import gates
from pallas_kernels.short_conv import short_conv


class MixerConfig(Protocol):
  """What a mixer is built from; head_dim is dim // heads."""

  @property
  def dim(self) -> int: ...
  @property
  def heads(self) -> int: ...
  @property
  def head_dim(self) -> int: ...
  @property
  def chunk_size(self) -> int: ...


class MixerContext(Protocol):
  """What a mixer is told besides its input.

  Attributes:
    depth: place of the layer in the stack, in [0, 1), scalar.
    segment_ids: [batch, time] of packed sequences, or None.
  """

  @property
  def depth(self) -> jax.Array: ...
  @property
  def segment_ids(self) -> jax.Array | None: ...


@dataclasses.dataclass(frozen=True)
class Stream:
  """A MixerContext, with what is carried from call to call.

  Attributes:
    depth, segment_ids: as in MixerContext.
    before: float32 arrays [batch, ...] that the call before has left, by name;
      empty where a sequence starts.
    after: what this call leaves, filled in as it goes.
  """

  depth: jax.Array
  segment_ids: jax.Array | None = None
  before: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
  after: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

  def previous(self, name: str, x: jax.Array) -> jax.Array:
    """As `gates.previous`, over the border of calls."""
    self.after[name] = x[:, -1:].astype(jnp.float32)
    return gates.previous(x, self.segment_ids, self.before.get(name))


def normal(rngs: nnx.Rngs, *shape: int) -> nnx.Param:
  """Returns weights that keep the scale of what has shape[0] entries."""
  noise = jax.random.normal(rngs.params(), shape, jnp.float32)
  return nnx.Param(shape[0] ** -0.5 * noise)


def constant(value: float, *shape: int) -> nnx.Param:
  """Returns a float32 parameter that starts at `value` everywhere."""
  return nnx.Param(jnp.full(shape, value, jnp.float32))


class Dense(nnx.Module):
  """x W + b with x [..., inputs]; of low rank, activation(x A) B + b.

  Calling it keeps x's dtype; `wide` returns float32, for gates.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    rngs: nnx.Rngs,
    bias: float | None = None,
    rank: int | None = None,
    activation: str = "identity",
  ):
    self.activation = activation
    if rank is not None:
      self.down = normal(rngs, inputs, rank)
    self.low_rank = rank is not None
    self.weight = normal(rngs, inputs if rank is None else rank, outputs)
    self.bias = None if bias is None else constant(bias, outputs)

  def wide(self, x: jax.Array) -> jax.Array:
    # Rows are flattened because XLA on CPU takes twice as long over the
    # weight gradient of a product with two leading axes.
    rows = x.reshape(-1, x.shape[-1])
    if self.low_rank:
      rows = _activate(self.activation, rows @ self.down[...].astype(x.dtype))
    out = jnp.matmul(
      rows,
      self.weight[...].astype(x.dtype),
      preferred_element_type=jnp.float32,
    )
    if self.bias is not None:
      out = out + self.bias[...]
    return out.reshape(*x.shape[:-1], -1)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.wide(x).astype(x.dtype)


class Heads(nnx.Module):
  """x [batch, time, dim] -> [batch, time, heads, width].

  A projection, a short convolution if taps > 0, an activation.
  """

  def __init__(
    self,
    dim: int,
    heads: int,
    width: int,
    *,
    rngs: nnx.Rngs,
    taps: int = 0,
    activation: str = "identity",
  ):
    self.heads = heads
    self.activation = activation
    self.project = Dense(dim, heads * width, rngs=rngs)
    self.taps = normal(rngs, taps, heads * width) if taps else None

  def __call__(self, x: jax.Array, ctx: Stream, name: str) -> jax.Array:
    y = self.project(x)
    if self.taps is not None:
      y, ctx.after[name] = short_conv(
        y,
        self.taps[...],
        initial_state=ctx.before.get(name),
        segment_ids=ctx.segment_ids,
      )
    return split(_activate(self.activation, y), self.heads)


class SoftplusDecay(nnx.Module):
  """Mamba-2's log decay and step size from x, started as published.

  The rate e^A starts between 1 and 16, steps between 0.001 and 0.1 tokens.
  """

  def __init__(
    self,
    dim: int,
    heads: int,
    *,
    rngs: nnx.Rngs,
    channels: int | None = None,
    rank: int | None = None,
  ):
    shape = (heads,) if channels is None else (heads, channels)
    self.project = Dense(dim, math.prod(shape), rngs=rngs, rank=rank)
    rate = jax.random.uniform(rngs.params(), (heads,), minval=1, maxval=16)
    log_step = jax.random.uniform(
      rngs.params(), shape, minval=math.log(1e-3), maxval=math.log(0.1)
    )
    self.log_rate = nnx.Param(jnp.log(rate))
    # The inverse of softplus, so that a zero logit gives this step.
    self.bias = nnx.Param(jnp.log(jnp.expm1(jnp.exp(log_step))))

  def step(self, x: jax.Array) -> jax.Array:
    """Returns the step sizes softplus(.), float32, positive."""
    return jax.nn.softplus(self._logits(x) + self.bias[...])

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns the log decay [batch, time, heads] or [..., channels]."""
    rate = self.log_rate[...]
    if self.bias.ndim == 2:
      rate = rate[:, None]
    return gates.log_decay(self._logits(x), rate, self.bias[...])

  def _logits(self, x: jax.Array) -> jax.Array:
    return self.project.wide(x).reshape(*x.shape[:2], *self.bias.shape)


class Mixer(nnx.Module):
  """A token mixer around `recur`; maps x to the same shape and dtype.

  Attributes:
    paper: arXiv id of what it follows.
    taps: of the short convolutions of q, k and v; 0 for none.
    activation: name in jax.nn of that of q and k, as the others are.
    value_activation: that of v.
    gate: of the output, or None for no gate.
    gate_rank: whether the gate's projection is of rank head_dim.
    gate_inner: the activation inside it then.
    centred: whether the norm of each head's output subtracts the mean.
    shared_keys: whether one head of q and k serves all heads of v.
    expand: heads of v and of the state, as a multiple of config.heads.
    steps: keys and values a token, [batch, time, steps * heads, head_dim].
  """

  paper: ClassVar[str]
  taps: ClassVar[int] = 0
  activation: ClassVar[str] = "identity"
  value_activation: ClassVar[str] = "identity"
  gate: ClassVar[str | None] = None
  gate_rank: ClassVar[bool] = False
  gate_inner: ClassVar[str] = "identity"
  centred: ClassVar[bool] = False
  shared_keys: ClassVar[bool] = False
  expand: ClassVar[int] = 1
  steps: ClassVar[int] = 1

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    dim, width = config.dim, config.head_dim
    self.chunk_size = config.chunk_size
    self.heads = self.expand * config.heads
    keys = 1 if self.shared_keys else self.heads

    def heads(number: int, activation: str) -> Heads:
      return Heads(
        dim, number, width, rngs=rngs, taps=self.taps, activation=activation
      )

    self.q = heads(keys, self.activation)
    self.k = heads(self.steps * keys, self.activation)
    self.v = heads(self.steps * self.heads, self.value_activation)
    self.norm = RMSNorm(width)
    values = self.heads * width
    if self.gate is not None:
      rank = width if self.gate_rank else None
      self.to_gate = Dense(
        dim, values, rngs=rngs, rank=rank, activation=self.gate_inner
      )
    self.out = Dense(values, dim, rngs=rngs)

  def recur(
    self, x: jax.Array, ctx: Stream, **options: Any
  ) -> tuple[jax.Array, Any]:
    """Returns (out [batch, time, heads, head_dim], what is left at the end).

    Args:
      x: [batch, time, dim].
      ctx: of this call.
      **options: for the operator: chunk_size, segment_ids and initial_state.
    """
    raise NotImplementedError(f"{type(self).__name__} must define recur.")

  def qkv(
    self, x: jax.Array, ctx: Stream
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns q, k and v, [batch, time, heads, head_dim]."""
    return self.q(x, ctx, "q"), self.k(x, ctx, "k"), self.v(x, ctx, "v")

  def read_out(self, out: jax.Array, x: jax.Array) -> jax.Array:
    """Norm, gate and projection of what the recurrence has read."""
    if self.centred:
      out = out - jnp.mean(out, axis=-1, keepdims=True)
    y = self.norm(out).reshape(*x.shape[:2], -1)
    if self.gate is not None:
      y = y * _activate(self.gate, self.to_gate(x))
    return self.out(y.astype(x.dtype))

  def options(self, ctx: Stream) -> dict[str, Any]:
    """Returns what an operator is told beside its tensors."""
    return {
      "chunk_size": self.chunk_size,
      "segment_ids": ctx.segment_ids,
      "initial_state": ctx.before.get("memory"),
    }

  def advance(self, x: jax.Array, ctx: Stream) -> jax.Array:
    """As the call, for a part of a sequence."""
    out, ctx.after["memory"] = self.recur(x, ctx, **self.options(ctx))
    return self.read_out(out, x)

  def __call__(self, x: jax.Array, ctx: MixerContext) -> jax.Array:
    return self.advance(x, Stream(ctx.depth, ctx.segment_ids))


class LinearMixer(Mixer):
  """A mixer whose state does not grow: it runs token by token too."""

  def init_state(self, batch: int) -> dict[str, jax.Array]:
    """Returns what stands before the first token, zeros [batch, ...]."""

    def left(x: jax.Array) -> dict[str, jax.Array]:
      ctx = Stream(jnp.float32(0.0))
      self.advance(x, ctx)
      return ctx.after

    dim = self.out.weight.shape[1]
    token = jax.ShapeDtypeStruct((batch, 1, dim), jnp.float32)
    return jax.tree.map(
      lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(left, token)
    )

  def step(
    self, x: jax.Array, state: Mapping[str, jax.Array], ctx: MixerContext
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns y [batch, dim] of one token x [batch, dim], and the next state.

    Args:
      x: in any dtype.
      state: from `init_state`, or from the step before.
      ctx: as in the call; its segment ids do not count.
    """
    token = Stream(ctx.depth, before=state)
    return self.advance(x[:, None], token)[:, 0], token.after


class ConvolvedMixer(LinearMixer):
  """With short convolutions and SiLU on q, k and v, as since Mamba-2."""

  taps = 4
  activation = "silu"
  value_activation = "silu"


def split(y: jax.Array, heads: int) -> jax.Array:
  """Returns y [batch, time, heads * width] with an axis of heads."""
  return y.reshape(*y.shape[:2], heads, -1)


def _activate(name: str, y: jax.Array) -> jax.Array:
  return getattr(jax.nn, name)(y)
