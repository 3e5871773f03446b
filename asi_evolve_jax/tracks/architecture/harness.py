"""What the trusted stages share: the model around an Artifact, and the text."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.models.language_model import LanguageModel, LMConfig
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.tracks.architecture import contract
from asi_evolve_jax.tracks.architecture.options import StageOptions
from asi_evolve_jax.training import corpus, sources
from asi_evolve_jax.training.batches import evaluation_windows, train_batches
from asi_evolve_jax.training.examples import Examples, text_examples
from asi_evolve_jax.training.trainer import Optimizer, Trainer
from asi_evolve_jax.training.trigram import Trigram


def cache_compilations(folder: str) -> None:
  """Keeps compiled programs in `folder`, small and quick ones too."""
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def make_trainer(
  payload: bytes, options: StageOptions
) -> tuple[Trainer, LMConfig]:
  """Returns the compiled language model around an Artifact, and its sizes.

  Raises:
    ArtifactError: if it is none, or not what it says it is.
  """
  mixer = artifact.load(payload)
  config = contract.model_config(options, mixer.header.parameter_count)
  run = options.run
  trainer = Trainer(
    LanguageModel(config, mixer),
    Optimizer(
      learning_rate=run.lr,
      warmup=run.warmup,
      weight_decay=run.weight_decay,
      clip=run.clip,
    ),
    batch=run.batch,
    time=run.time,
  )
  return trainer, config


def open_text(request: StageRequest) -> corpus.Corpus:
  """Returns the corpus whose folders the request names.

  Raises:
    CorpusError: if it has not been built on this machine.
  """
  return corpus.open_corpus(pathlib.Path(request.folders["search"]).parent)


def code_windows(options: StageOptions) -> np.ndarray:
  """Returns windows of C headers, uint8 [count, time + 1], always the same."""
  text = np.frombuffer(sources.header_text(), np.uint8)
  run = options.run
  return evaluation_windows(text, count=run.eval_windows, time=run.time)


def long_examples(text: corpus.Corpus, options: StageOptions) -> Examples:
  """Returns held-out text in windows longer than any that trained.

  uint8 [count, length * time]; what lies beyond the trained time counts.
  """
  run = options.run
  times = run.generalisation.length
  windows = evaluation_windows(
    text.load("held_out"),
    count=max(1, run.eval_windows // times),
    time=times * run.time,
  )
  examples = text_examples(windows)
  examples.weights[:, : run.time] = 0.0
  return examples


def windows(
  text: corpus.Corpus, split: str, options: StageOptions
) -> np.ndarray:
  """Returns the windows of `split` that scores are read from.

  uint8 [count, time + 1], always the same.
  """
  return evaluation_windows(
    text.load(split),
    count=options.run.eval_windows,
    time=options.run.time,
  )


def trigram(
  text: corpus.Corpus, split: str, options: StageOptions, seed: int
) -> float:
  """Returns bits a byte on `split` of a trigram counted on one seed's bytes."""
  run = options.run
  batches = train_batches(
    text.load("train"), batch=run.batch, time=run.time, seed=seed
  )
  seen = np.concatenate([next(batches) for _ in range(run.steps)])
  return Trigram(seen).bits_per_byte(windows(text, split, options))


def save_params(path: pathlib.Path, params: dict[str, Any]) -> None:
  """Writes parameters; a file that is there is whole."""
  leaves = map(np.asarray, jax.tree.leaves(params))
  part = path.with_suffix(".part")
  with open(part, "wb") as file:
    np.savez(file, *leaves)
  os.replace(part, path)


def load_params(path: pathlib.Path, like: dict[str, Any]) -> dict[str, Any]:
  """Returns saved parameters on the shardings of `like`.

  Raises:
    ValueError: if they are another model's.
  """
  leaves, structure = jax.tree.flatten(like)
  with np.load(path, allow_pickle=False) as file:
    saved = [file[f"arr_{i}"] for i in range(len(file.files))]
  found = [(a.shape, a.dtype) for a in saved]
  if found != [(a.shape, a.dtype) for a in leaves]:
    raise ValueError(
      f"{path.name} holds the parameters of another model: remove the Task's "
      "scratch folder and measure it again."
    )
  placed = [
    jax.device_put(a, b.sharding) for a, b in zip(saved, leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, placed)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes all of a file or nothing."""
  part = path.with_suffix(".part")
  part.write_text(json.dumps(value))
  os.replace(part, path)


def pack(rate: float, metrics: list[dict[str, float]], payload: bytes) -> bytes:
  """Returns one payload of the learning rate, the metrics and the Artifact."""
  return json.dumps([rate, metrics]).encode() + b"\n" + payload


def unpack(payload: bytes) -> tuple[float, list[dict[str, float]], bytes]:
  """Inverse of `pack`."""
  head, _, payload = payload.partition(b"\n")
  rate, metrics = json.loads(head)
  return rate, metrics, payload
