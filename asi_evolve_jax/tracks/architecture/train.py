"""The train stage: a language model around an Artifact, per seed.

Trusted: it runs StableHLO that `programs.artifact` has checked, and no
candidate's Python. It reads training and development text; held-out text is
for score.py, which gets the parameters from here.
"""

from __future__ import annotations

import json
import pathlib
import time

import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture import harness, suites
from asi_evolve_jax.tracks.architecture.options import StageOptions, read_stage
from asi_evolve_jax.training import corpus
from asi_evolve_jax.training.train import Diverged, Outcome, Run, train
from asi_evolve_jax.training.trainer import Trainer


def run(request: StageRequest) -> StageReply:
  """Trains and scores the Artifact in `request.payload` for every seed.

  A Task that was cut off goes on from its checkpoints in `request.scratch`;
  seeds that were finished are not trained again. To verify, the parameters are
  kept in `request.scratch` and the payload is `harness.pack`'s.
  """
  options = read_stage(request.options)
  harness.cache_compilations(request.cache)
  start = time.monotonic()
  trainer, config = harness.make_trainer(request.payload, options)
  ready_s = time.monotonic() - start
  text = harness.open_text(request)
  scratch = pathlib.Path(request.scratch)
  try:
    seeds = [_seed(trainer, text, options, s, scratch) for s in request.seeds]
  except Diverged as error:
    return StageReply(status="failed", error=str(error))
  trigram = harness.trigram(text, "dev", options, request.seeds[0])
  step_s = min(s["cost"]["step_s"] for s in seeds)
  tokens = options.run.batch * options.run.time
  report = {
    "parameters": trainer.parameters,
    "mlp_width": config.mlp_width,
    "corpus": text.hash,
    "step_time_s": step_s,
    "tokens_per_second": tokens / step_s if step_s else 0.0,
    "train_memory_bytes": trainer.memory_bytes,
    "chance": seeds[0]["chance"],
    # For reports: scores, at this rung, that are no Program's.
    "yardsticks": {"byte trigram": trigram},
  }
  cost = {
    name: sum(s["cost"][name] for s in seeds)
    for name in ("train_s", "eval_s", "suites_s")
  }
  cost["tokens"] = float(tokens * options.run.steps * len(seeds))
  metrics = [s["metrics"] for s in seeds]
  verify = options.purpose == VERIFY
  return StageReply(
    payload=harness.pack(metrics, request.payload) if verify else b"",
    metrics=tuple(metrics),
    report=report,
    curves={
      "loss": np.array([s["train"] for s in seeds], np.float32),
      "dev": np.array([s["dev"] for s in seeds], np.float32),
    },
    cost={"compile_s": ready_s, **cost},
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
  dev = harness.windows(text, "dev", options)
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
  measured = _measure(trainer, options, seed, outcome, scratch)
  if options.purpose == VERIFY:
    harness.save_params(scratch / f"params-{seed}.npz", outcome.state["params"])
  suites.write_json(finished, measured)
  return measured


def _measure(
  trainer: Trainer,
  options: StageOptions,
  seed: int,
  outcome: Outcome,
  scratch: pathlib.Path,
) -> dict:
  metrics = {"bits_per_byte": outcome.bits_per_byte}
  start = time.monotonic()
  found = suites.accuracies(trainer, options, seed, scratch)
  metrics |= {name: task["accuracy"] for name, task in found.items()}
  return {
    "metrics": metrics,
    "chance": {name: task["chance"] for name, task in found.items()},
    "train": outcome.train.tolist(),
    "dev": outcome.dev.tolist(),
    "cost": {
      "step_s": outcome.step_s,
      "train_s": outcome.train_s,
      "eval_s": outcome.eval_s,
      "suites_s": time.monotonic() - start,
    },
  }
