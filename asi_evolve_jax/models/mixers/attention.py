"""Softmax attention, the yardstick: on no core, at quadratic cost.

It has no form token by token: keys and values pile up where others have a
state.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from asi_evolve_jax.models.mixers import gates
from asi_evolve_jax.models.mixers.base import Mixer, Stream


class SoftmaxAttention(Mixer):
  """Causal softmax attention with rotated q and k (arXiv:2104.09864).

  Attributes:
    window: tokens that each sees, itself included; None for all.
  """

  paper = "1706.03762"
  window: ClassVar[int | None] = None

  def recur(self, x: jax.Array, ctx: Stream, **options: Any):
    q, k, v = self.qkv(x, ctx)
    time = x.shape[1]
    angle = gates.positions(time, q.shape[-1])
    distance = jnp.arange(time)[:, None] - jnp.arange(time)
    seen = distance >= 0
    if self.window is not None:
      seen = seen & (distance < self.window)
    seen = seen[None]
    ids = ctx.segment_ids
    if ids is not None:
      seen = seen & (ids[:, :, None] == ids[:, None, :])
    out = jax.nn.dot_product_attention(
      gates.rotate(q, angle),
      gates.rotate(k, angle),
      v,
      mask=seen[:, None],
    )
    return out, (k, v)


class SlidingWindowAttention(SoftmaxAttention):
  """The same over the last 64 tokens (arXiv:2004.05150)."""

  paper = "2004.05150"
  window = 64
