"""The second stage: trains a language model around an Artifact and scores it.

Trusted: it runs StableHLO that `programs.artifact` has checked, and no
candidate's Python. Held-out text is opened for verification alone.
"""

from __future__ import annotations

import json
import os
import pathlib
import time

import jax
import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.models.language_model import LanguageModel
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.settings import plain
from asi_evolve_jax.tracks.architecture import contract
from asi_evolve_jax.tracks.architecture.options import StageOptions, read_stage
from asi_evolve_jax.training import corpus, recall
from asi_evolve_jax.training.batches import evaluation_windows, train_batches
from asi_evolve_jax.training.train import Diverged, Outcome, Run, train
from asi_evolve_jax.training.trainer import Optimizer, Trainer
from asi_evolve_jax.training.trigram import Trigram

_HELD_OUT = {
  "held_out_bits_per_byte": "held_out",
  "other_bits_per_byte": "held_out_other",
}


def run(request: StageRequest) -> StageReply:
  """Trains and scores the Artifact in `request.payload` for every seed.

  A Task that was cut off goes on from its checkpoints in `request.scratch`;
  seeds that were finished are not trained again.
  """
  options = read_stage(request.options)
  _cache_compilations(request.cache)
  start = time.monotonic()
  mixer = artifact.load(request.payload)
  config = contract.model_config(options, mixer.header.parameter_count)
  trainer = Trainer(
    LanguageModel(config, mixer),
    _optimizer(options),
    batch=options.run.batch,
    time=options.run.time,
  )
  ready_s = time.monotonic() - start
  text = corpus.build(**plain(options.corpus))
  scratch = pathlib.Path(request.scratch)
  try:
    seeds = [_seed(trainer, text, options, s, scratch) for s in request.seeds]
  except Diverged as error:
    return StageReply(status="failed", error=str(error))
  trigram = _trigram(text, options, request.seeds[0])
  step_s = min(s["cost"]["step_s"] for s in seeds)
  tokens = options.run.batch * options.run.time
  report = {
    "parameters": trainer.parameters,
    "mlp_width": config.mlp_width,
    "corpus": text.hash,
    "step_time_s": step_s,
    "tokens_per_second": tokens / step_s if step_s else 0.0,
    "train_memory_bytes": trainer.memory_bytes,
    # For reports: scores, at this rung, that are no Program's.
    "yardsticks": {"byte trigram": trigram},
  }
  cost = {
    name: sum(s["cost"][name] for s in seeds)
    for name in ("train_s", "eval_s", "recall_s")
  }
  return StageReply(
    metrics=tuple(s["metrics"] for s in seeds),
    report=report,
    curves={
      "loss": np.array([s["train"] for s in seeds], np.float32),
      "dev": np.array([s["dev"] for s in seeds], np.float32),
    },
    cost={"compile_s": ready_s, **cost},
  )


def _cache_compilations(folder: str) -> None:
  """Keeps compiled programs in `folder`, small and quick ones too."""
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _optimizer(options: StageOptions) -> Optimizer:
  run = options.run
  return Optimizer(
    learning_rate=run.lr,
    warmup=run.warmup,
    weight_decay=run.weight_decay,
    clip=run.clip,
  )


def _seed(
  trainer: Trainer,
  text: corpus.Corpus,
  options: StageOptions,
  seed: int,
  scratch: pathlib.Path,
) -> dict:
  """Returns what one seed measured, from its file if it was finished before."""
  finished = scratch / f"seed-{seed}.json"
  if finished.exists():
    return json.loads(finished.read_text())
  run = options.run
  keep = run.checkpoint_s > 0
  dev = _windows(text, "dev", options)
  outcome = train(
    trainer,
    text.load("train"),
    dev,
    Run(
      steps=run.steps,
      seed=seed,
      eval_every=run.eval_every,
      checkpoint_s=run.checkpoint_s,
      checkpoints=str(scratch / f"checkpoints-{seed}") if keep else "",
    ),
  )
  measured = _measure(trainer, text, options, seed, outcome)
  part = finished.with_suffix(".part")
  part.write_text(json.dumps(measured))
  os.replace(part, finished)
  return measured


def _measure(
  trainer: Trainer,
  text: corpus.Corpus,
  options: StageOptions,
  seed: int,
  outcome: Outcome,
) -> dict:
  metrics = {"bits_per_byte": outcome.bits_per_byte}
  params = outcome.state["params"]
  if options.purpose == VERIFY:
    for name, split in _HELD_OUT.items():
      windows = _windows(text, split, options)
      metrics[name] = trainer.evaluate(params, windows)[0]
  start = time.monotonic()
  if options.run.recall_steps:
    metrics["recall"] = recall.measure(trainer, options.run.recall_steps, seed)
  return {
    "metrics": metrics,
    "train": outcome.train.tolist(),
    "dev": outcome.dev.tolist(),
    "cost": {
      "step_s": outcome.step_s,
      "train_s": outcome.train_s,
      "eval_s": outcome.eval_s,
      "recall_s": time.monotonic() - start,
    },
  }


def _windows(
  text: corpus.Corpus, split: str, options: StageOptions
) -> np.ndarray:
  return evaluation_windows(
    text.load(split),
    count=options.run.eval_windows,
    time=options.run.time,
  )


def _trigram(text: corpus.Corpus, options: StageOptions, seed: int) -> float:
  """Returns bits a byte of a trigram counted on the bytes of one seed's run.

  On the text that the rung's score is read from: held-out text to verify.
  """
  run = options.run
  split = "held_out" if options.purpose == VERIFY else "dev"
  batches = train_batches(
    text.load("train"), batch=run.batch, time=run.time, seed=seed
  )
  seen = np.concatenate([next(batches) for _ in range(run.steps)])
  return Trigram(seen).bits_per_byte(_windows(text, split, options))
