"""The published mixers that are evaluated before any candidate.

All but one are genomes of the space, rendered as candidates are. Softmax
attention has no place in a space of linear mixers and is written by hand.
"""

from __future__ import annotations

from asi_evolve_jax.tracks.architecture.published import PUBLISHED, Published
from asi_evolve_jax.tracks.architecture.space import ArchitectureSpace
from asi_evolve_jax.tracks.base import Baseline

# Kept out of the landmarks that candidates are named after: each is one move
# away from a published mixer, and there to show what that move does.
_NEGATIVE = (
  " with an erase rate in (0, 2), so that the state's transition has negative "
  "eigenvalues (Grazzi et al. 2024, arXiv:2411.12537): what tracking a state "
  "takes."
)
_NO_CONV = " without its short convolution, to see what that is worth."
VARIANTS: dict[str, Published] = {
  f"{name}_{suffix}": Published(
    {**PUBLISHED[name].genes, **genes}, f"{title}{text}"
  )
  for suffix, genes, text in (
    ("negative", {"beta": "negative"}, _NEGATIVE),
    ("no_conv", {"conv": 0}, _NO_CONV),
  )
  for name, title in (
    ("deltanet", "DeltaNet (arXiv:2406.06484)"),
    ("gated_deltanet", "Gated DeltaNet (arXiv:2412.06464)"),
  )
}

LINEAR = (
  "linear",
  "retnet",
  "scalar_gated",
  "deltanet",
  "gated_deltanet",
  "gla",
  "hgrn2",
  "mamba2",
  "kda",
)
USUAL = ("softmax", *LINEAR)

SOFTMAX = '''\
"""Token mixer: softmax attention, the yardstick."""

import jax
import jax.numpy as jnp
from flax import nnx

from pallas_kernels.short_conv import short_conv


def rotate(y, angle):
  """Rotates pairs of channels by angle [..., time, 1, channels / 2]."""
  a, b = jnp.split(y.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turned = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return turned.astype(y.dtype)


class TokenMixer(nnx.Module):
  """Maps [batch, time, dim] to the same shape and dtype, at quadratic cost."""

  def __init__(self, config, *, rngs):
    dim = config.dim
    self.heads = config.heads
    width = config.heads * config.head_dim

    def weight(*shape):
      noise = jax.random.normal(rngs.params(), shape, jnp.float32)
      return nnx.Param(shape[0] ** -0.5 * noise)

    self.w_q = weight(dim, width)
    self.taps_q = weight(4, width)
    self.w_k = weight(dim, width)
    self.taps_k = weight(4, width)
    self.w_v = weight(dim, width)
    self.taps_v = weight(4, width)
    self.w_o = weight(width, dim)

  def __call__(self, x, ctx):
    def convolved(weight, taps):
      y = x @ weight[...].astype(x.dtype)
      return short_conv(y, taps[...], segment_ids=ctx.segment_ids)[0]

    def split(y):
      return y.reshape(*y.shape[:2], self.heads, -1)

    # Short convolution of 4 taps over q, k, v, as the linear baselines have.
    q = split(convolved(self.w_q, self.taps_q))
    k = split(convolved(self.w_k, self.taps_k))
    v = split(jax.nn.silu(convolved(self.w_v, self.taps_v)))

    # Rotation by position (RoPE, 2104.09864).
    half = k.shape[-1] // 2
    frequency = 10_000.0 ** -(jnp.arange(half) / half)
    angle = (jnp.arange(x.shape[1])[:, None] * frequency)[:, None]
    q, k = rotate(q, angle), rotate(k, angle)

    # Causal attention (1706.03762).
    o = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    o = o.reshape(*x.shape[:2], -1)
    return o @ self.w_o[...].astype(x.dtype)
'''


def baselines() -> tuple[Baseline, ...]:
  """Returns all that a config may name, the `USUAL` ones first.

  All but those named `_no_conv` have the short convolution of 4 taps, so that
  neighbours differ in what their papers are about. Softmax attention is a
  yardstick: its cost is quadratic, which no candidate may be.
  """
  space = ArchitectureSpace()
  softmax = Baseline(
    name="softmax",
    source=SOFTMAX,
    motivation="Softmax attention (Vaswani et al. 2017, arXiv:1706.03762) "
    "with rotary positions and the short convolution that the linear "
    "baselines have: the yardstick for recall, at quadratic cost.",
  )
  rest = [name for name in PUBLISHED if name not in LINEAR]
  linear = []
  for name in (*LINEAR, *rest, *VARIANTS):
    published = PUBLISHED.get(name) or VARIANTS[name]
    genome = space.genome(**published.genes)
    linear.append(
      Baseline(
        name=name,
        source=space.render(genome),
        motivation=published.motivation,
        genome=genome,
      )
    )
  return (softmax, *linear)
