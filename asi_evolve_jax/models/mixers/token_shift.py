"""RWKV's token shift: inputs that lie between a token and the one before."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
from flax import nnx

from asi_evolve_jax.models.mixers.base import (
  Dense,
  LinearMixer,
  MixerConfig,
  Stream,
  constant,
)


def lora_rank(dim: int) -> int:
  """Returns the rank of RWKV's small projections."""
  return max(8, dim // 16)


class TokenShift(nnx.Module):
  """x_t + mu (x_{t-1} - x_t) for several learned mu, [number, dim].

  If dynamic, mu depends on the token, mu + tanh(x' A) B (arXiv:2404.05892,
  equations 11 to 14, with one A for all).
  """

  def __init__(self, number: int, dim: int, *, dynamic: bool, rngs: nnx.Rngs):
    self.shares = constant(0.5, number, dim)
    self.dynamic = dynamic
    if dynamic:
      self.first = constant(0.5, dim)
      self.moves = nnx.List(
        [
          Dense(dim, dim, rngs=rngs, rank=lora_rank(dim), activation="tanh")
          for _ in range(number)
        ]
      )

  def __call__(self, x: jax.Array, ctx: Stream) -> list[jax.Array]:
    delta = ctx.previous("x", x) - x
    shares = self.shares[...].astype(x.dtype)
    if not self.dynamic:
      return [x + delta * share for share in shares]
    first = x + delta * self.first[...].astype(x.dtype)
    return [
      x + delta * (share + move(first))
      for share, move in zip(shares, self.moves, strict=True)
    ]


class ShiftedMixer(LinearMixer):
  """A mixer with an input of its own for each projection.

  Attributes:
    inputs: names of the inputs; "gate" is that of the output gate.
    dynamic_shift: whether the shift depends on the token.
  """

  inputs: ClassVar[tuple[str, ...]]
  dynamic_shift: ClassVar[bool] = False

  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.shift = TokenShift(
      len(self.inputs), config.dim, dynamic=self.dynamic_shift, rngs=rngs
    )

  def lora(self, config: MixerConfig, *, rngs: nnx.Rngs, bias: float) -> Dense:
    """Returns a projection to all channels of low rank, tanh inside."""
    return Dense(
      config.dim,
      config.heads * config.head_dim,
      rngs=rngs,
      rank=lora_rank(config.dim),
      activation="tanh",
      bias=bias,
    )

  def recur_shifted(
    self, xs: dict[str, jax.Array], ctx: Stream, **options: Any
  ) -> tuple[jax.Array, Any]:
    """As `recur`, with the shifted inputs by name."""
    raise NotImplementedError(f"{type(self).__name__} must define it.")

  def advance(self, x: jax.Array, ctx: Stream) -> jax.Array:
    xs = dict(zip(self.inputs, self.shift(x, ctx), strict=True))
    out, ctx.after["memory"] = self.recur_shifted(xs, ctx, **self.options(ctx))
    return self.read_out(out, xs["gate"])
