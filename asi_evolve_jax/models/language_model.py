"""The pre-norm language model that stands around every token mixer.

Everything but the mixer is the same for all candidates: embedding, residual
stream, RMS norms, SwiGLU MLP, loss, dtypes and layer stacking. Flax NNX in
tree style: modules are built and merged inside pure functions, and parameters
cross every border as nested dicts of arrays.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Params = dict[str, Any]

_EPSILON = 1e-6  # of the RMS norms


class Mixer(Protocol):
  """The functions of a token mixer; they need no vmap rule."""

  def init(self, key: jax.Array) -> Params:
    """Returns one layer's parameters: nested dict of float32 arrays."""
    ...

  def apply(self, params: Params, x: jax.Array, depth: jax.Array) -> jax.Array:
    """Mixes tokens, each with those before it.

    Args:
      params: one layer's parameters.
      x: [batch, time, dim], in the compute dtype.
      depth: scalar float32, layer / layers, in [0, 1).

    Returns:
      [batch, time, dim], any floating dtype.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class LMConfig:
  """Sizes and numerics of a language model.

  Attributes:
    vocab: number of tokens; 256 for bytes.
    dim: width of the residual stream.
    layers: number of blocks.
    heads: heads a mixer should use; the model itself has none.
    mlp_width: hidden width of the SwiGLU MLP.
    compute_dtype: "float32" or "bfloat16", of activations and of matrix
      product operands. Parameters, norms, logits and loss are float32.
    remat: "none", or "block" to keep only what enters the two halves of each
      block and recompute the rest in the backward pass.
    tie_embeddings: whether the logits read the embedding table.
  """

  dim: int
  layers: int
  heads: int
  mlp_width: int
  vocab: int = 256
  compute_dtype: str = "float32"
  remat: str = "none"
  tie_embeddings: bool = True

  def __post_init__(self) -> None:
    for name in ("dim", "layers", "heads", "mlp_width", "vocab"):
      if getattr(self, name) < 1:
        raise ValueError(f"LMConfig.{name} must be at least 1: {self}.")
    if self.compute_dtype not in ("float32", "bfloat16"):
      raise ValueError(
        "LMConfig.compute_dtype must be 'float32' or 'bfloat16', "
        f"got {self.compute_dtype!r}."
      )
    if self.remat not in ("none", "block"):
      raise ValueError(
        f"LMConfig.remat must be 'none' or 'block', got {self.remat!r}."
      )


class RMSNorm(nnx.Module):
  """x / rms(x) * scale, computed in float32."""

  def __init__(self, dim: int):
    self.scale = nnx.Param(jnp.ones((dim,), jnp.float32))

  def __call__(self, x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide * wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(mean + _EPSILON) * self.scale[...]
    return wide.astype(x.dtype)


class SwiGLU(nnx.Module):
  """The MLP W_out (silu(W_gate x) * W_up x) of arXiv:2002.05202."""

  def __init__(self, config: LMConfig, *, rngs: nnx.Rngs):
    dim, width = config.dim, config.mlp_width
    self.gate = nnx.Param(_normal(rngs, (dim, width), dim**-0.5))
    self.up = nnx.Param(_normal(rngs, (dim, width), dim**-0.5))
    # Each block adds to the stream twice; this keeps its scale over depth.
    spread = (2 * config.layers * width) ** -0.5
    self.out = nnx.Param(_normal(rngs, (width, dim), spread))

  def __call__(self, x: jax.Array) -> jax.Array:
    # Rows are flattened because XLA on CPU takes twice as long over the
    # weight gradient of a product with two leading axes.
    rows = x.reshape(-1, x.shape[-1])
    gate = rows @ self.gate[...].astype(x.dtype)
    up = rows @ self.up[...].astype(x.dtype)
    out = (jax.nn.silu(gate) * up) @ self.out[...].astype(x.dtype)
    return out.reshape(x.shape)


class Block(nnx.Module):
  """h + mix(norm(h)), then h + mlp(norm(h)); the mixer comes from outside."""

  def __init__(self, config: LMConfig, *, rngs: nnx.Rngs):
    self.mixer_norm = RMSNorm(config.dim)
    self.mlp_norm = RMSNorm(config.dim)
    self.mlp = SwiGLU(config, rngs=rngs)

  def mix(
    self, h: jax.Array, mixer: Mixer, params: Params, depth: jax.Array
  ) -> jax.Array:
    mixed = mixer.apply(params, self.mixer_norm(h), depth)
    if mixed.shape != h.shape:
      raise ValueError(
        f"The mixer must return {h.shape} as it was given, got {mixed.shape}."
      )
    return h + mixed.astype(h.dtype)

  def feed(self, h: jax.Array) -> jax.Array:
    return h + self.mlp(self.mlp_norm(h))


class Ends(nnx.Module):
  """What is before and after the blocks: embedding, last norm, logits."""

  def __init__(self, config: LMConfig, *, rngs: nnx.Rngs):
    shape = (config.vocab, config.dim)
    # Logits of size one: from 0.02, usual in large models, a small one needs
    # a hundred steps to grow them.
    spread = config.dim**-0.5
    self.embedding = nnx.Param(_normal(rngs, shape, spread))
    self.norm = RMSNorm(config.dim)
    if not config.tie_embeddings:
      self.head = nnx.Param(_normal(rngs, shape, spread))
    self.tied = config.tie_embeddings

  def embed(self, tokens: jax.Array, dtype: Any) -> jax.Array:
    """Returns embeddings [batch, time, dim] of root mean square 1.

    A mixer's output has about that size from the first step on; next to it the
    small numbers that a table starts with would hide the current token.
    """
    rows = self.embedding[...][tokens]
    mean = jnp.mean(rows * rows, axis=-1, keepdims=True)
    return (rows * jax.lax.rsqrt(mean + _EPSILON)).astype(dtype)

  def logits(self, h: jax.Array) -> jax.Array:
    table = (self.embedding if self.tied else self.head)[...]
    rows = self.norm(h).reshape(-1, h.shape[-1])
    logits = jnp.matmul(
      rows, table.T.astype(h.dtype), preferred_element_type=jnp.float32
    )
    return logits.reshape(*h.shape[:-1], -1)


class LanguageModel:
  """Pure functions of (params, tokens) around a given mixer.

  Parameters are {"ends": ..., "blocks": ..., "mixers": ...}, nested dicts of
  float32 arrays; leaves of the last two are stacked over layers on axis 0.
  """

  def __init__(self, config: LMConfig, mixer: Mixer):
    self.config = config
    self.mixer = mixer
    self._dtype = jnp.dtype(config.compute_dtype)
    self._block = _graph(Block, config)
    self._ends = _graph(Ends, config)

  def init(self, key: jax.Array) -> Params:
    """Returns fresh parameters; can be traced, and needs no vmap rule."""
    ends_key, blocks_key, mixers_key = jax.random.split(key, 3)

    def block(layer_key: jax.Array) -> Params:
      return _pure(Block(self.config, rngs=nnx.Rngs(params=layer_key)))

    layers = self.config.layers
    return {
      "ends": _pure(Ends(self.config, rngs=nnx.Rngs(params=ends_key))),
      "blocks": jax.lax.map(block, jax.random.split(blocks_key, layers)),
      "mixers": jax.lax.map(
        self.mixer.init, jax.random.split(mixers_key, layers)
      ),
    }

  def apply(self, params: Params, tokens: jax.Array) -> jax.Array:
    """Returns logits [batch, time, vocab] float32.

    Args:
      params: as from `init`.
      tokens: [batch, time] integers below `vocab`.
    """
    ends = nnx.merge(self._ends, nnx.State(params["ends"]))

    def layer(
      h: jax.Array, xs: tuple[Params, Params, jax.Array]
    ) -> tuple[jax.Array, None]:
      block_params, mixer_params, depth = xs
      block = nnx.merge(self._block, nnx.State(block_params))

      def mix(h: jax.Array) -> jax.Array:
        return block.mix(h, self.mixer, mixer_params, depth)

      if self.config.remat == "none":
        return block.feed(mix(h)), None
      # Each half on its own: an exported mixer recomputes itself in its
      # derivative, so nothing else should run it again. Inside a scan nothing
      # can be merged with the forward pass anyway.
      h = jax.checkpoint(mix, prevent_cse=False)(h)
      return jax.checkpoint(block.feed, prevent_cse=False)(h), None

    depths = jnp.asarray(layer_depths(self.config.layers))
    h, _ = jax.lax.scan(
      layer,
      ends.embed(tokens, self._dtype),
      (params["blocks"], params["mixers"], depths),
    )
    return ends.logits(h)

  def scores(
    self, params: Params, tokens: jax.Array, targets: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns what each target costs, and whether it has the highest logit.

    Args:
      params: as from `init`.
      tokens: [batch, time] integers.
      targets: [batch, time] integers, what follows each token.

    Returns:
      (nats, float32 [batch, time]; hit, bool [batch, time]).
    """
    logits = self.apply(params, tokens)
    # A comparison fuses where a gather would need a scatter to differentiate.
    wanted = jnp.arange(logits.shape[-1]) == targets[..., None]
    picked = jnp.sum(jnp.where(wanted, logits, 0.0), axis=-1)
    best = jnp.max(jax.lax.stop_gradient(logits), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - picked, picked >= best

  def loss(
    self,
    params: Params,
    tokens: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
  ) -> jax.Array:
    """Returns the mean cross-entropy, float32, in nats a target.

    Args:
      params: as from `init`.
      tokens: [batch, time] integers.
      targets: [batch, time] integers, what follows each token.
      weights: [batch, time], how much each target counts; 0 leaves it out.
        The mean is 0 where no target counts.
    """
    nats, _ = self.scores(params, tokens, targets)
    weights = weights.astype(jnp.float32)
    weight = jnp.sum(weights)
    return jnp.sum(nats * weights) / jnp.where(weight > 0, weight, 1.0)


def layer_depths(layers: int) -> np.ndarray:
  """Returns what tells each layer's mixer its depth, float32 [layers].

  Numbers, not an expression that a compiler may round in its own way: what
  judges a mixer must ask it at the very depths that train.
  """
  return np.arange(layers, dtype=np.float32) / np.float32(layers)


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], spread: float) -> jax.Array:
  return spread * jax.random.normal(rngs.params(), shape, jnp.float32)


def _pure(module: nnx.Module) -> Params:
  return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def _graph(module: type[Any], config: LMConfig) -> Any:
  """Returns the graph definition of a module without making its arrays."""
  abstract = nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(params=0)))
  graph, _ = nnx.split(abstract, nnx.Param)
  return graph
