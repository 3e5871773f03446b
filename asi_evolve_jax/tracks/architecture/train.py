"""The train stage: a language model around an Artifact, per seed.

Trusted: it runs StableHLO that `programs.artifact` has checked, and no
candidate's Python. It reads training and development text; held-out text is
for score.py, which gets the parameters from here.
"""

from __future__ import annotations

import pathlib
import time

import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.records.schema import REJECTED, VERIFY
from asi_evolve_jax.tracks.architecture import (
  harness,
  step_time,
  suites,
  trained,
  tuning,
)
from asi_evolve_jax.tracks.architecture.options import read_stage

FLOPS_GATE = "flops"


def run(request: StageRequest) -> StageReply:
  """Trains and scores the Artifact in `request.payload` for every seed.

  A Task that was cut off goes on from its checkpoints in `request.scratch`;
  what was finished is not trained again. To verify, the parameters are kept in
  `request.scratch` and the payload is `harness.pack`'s.
  """
  options = read_stage(request.options)
  tokens = options.run.batch * options.run.time
  steps = options.run.seed_steps(options.purpose)
  if options.run.flops:
    # Forward once, and backward twice as much.
    per_token = 3.0 * request.facts["flops_per_token"]
    if per_token * tokens * steps > options.run.flops:
      return StageReply(
        status="rejected",
        gate=FLOPS_GATE,
        error=(
          f"A seed would take {per_token * tokens * steps:.3g} FLOPs to "
          f"train ({per_token:.3g} a token) and the rung allows "
          f"{options.run.flops:.3g}: use a mixer with less work a token."
        ),
      )
  harness.cache_compilations(request.cache)
  start = time.monotonic()
  trainer, config = harness.make_trainer(request.payload, options)
  ready_s = time.monotonic() - start
  text = harness.open_text(request)
  scratch = pathlib.Path(request.scratch)
  try:
    tuned = tuning.tune(trainer, text, options, request.seeds, scratch)
  except tuning.Untrained as error:
    return StageReply(
      status=error.status,
      gate=trained.GATE if error.status == REJECTED else "",
      error=str(error),
      cost={"tokens": float(error.steps * tokens)},
    )
  start = time.monotonic()
  measured = [
    suites.accuracies(trainer, options, seed, scratch) for seed in request.seeds
  ]
  suites_s = time.monotonic() - start
  a_seed = len(options.run.rates) * sum(suites.tasks(options).values())
  on_suites = len(request.seeds) * a_seed
  trigram = harness.trigram(text, "dev", options, request.seeds[0])
  step_s = tuned.cost.pop("step_s")
  report = {
    "parameters": trainer.parameters,
    "mlp_width": config.mlp_width,
    "corpus": text.hash,
    "step_time_s": step_s,
    "tokens_per_second": tokens / step_s if step_s else 0.0,
    "train_memory_bytes": trainer.memory_bytes,
    "lr": tuned.rate,
    "by_lr": {f"{rate:g}": mean for rate, mean in tuned.by_rate.items()},
    "suites": [suites.summary(found) for found in measured],
    "chance": suites.chance(options),
    # For reports: scores, at this rung, that are no Program's.
    "yardsticks": {"byte trigram": trigram},
  }
  metrics = [
    {"bits_per_byte": text_run["bits_per_byte"], **suites.metrics(found)}
    for text_run, found in zip(tuned.seeds, measured, strict=True)
  ]
  charges = []
  if options.step_time_weight:
    ratio = step_time.relative_step_time(trainer, options)
    report["step_time_ratio"] = ratio
    charges.append(step_time.charge(ratio, options.step_time_weight))
  if options.modelled_cycles_weight:
    cycles = request.facts["modelled_cycles"] / tokens
    charges.append(step_time.charge(cycles, options.modelled_cycles_weight))
  if charges:
    for values in metrics:
      values["fitness"] = values["bits_per_byte"] + sum(charges)
  payload = b""
  if options.purpose == VERIFY:
    payload = harness.pack(tuned.rate, metrics, request.payload)
  return StageReply(
    payload=payload,
    metrics=tuple(metrics),
    report=report,
    curves={
      "loss": np.array([s["train"] for s in tuned.seeds], np.float32),
      "dev": np.array([s["dev"] for s in tuned.seeds], np.float32),
    },
    cost={
      "compile_s": ready_s,
      **tuned.cost,
      "suites_s": suites_s,
      # Of the whole grid and all suites; what diverges on text stops early.
      "tokens": float(tokens * (tuned.steps + on_suites)),
    },
  )
