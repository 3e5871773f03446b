"""The last stage: held-out text, read for verification alone.

It gets the Artifact and the parameters that the train stage has saved, in a
process that neither saw the candidate's Python nor trained anything. What reads
ahead with these parameters, at a length that is scored, gets no score.
"""

from __future__ import annotations

import pathlib
import time
from typing import Any

import numpy as np

from asi_evolve_jax.evaluation.gates import Rejected
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.tracks.architecture import harness, trained, tuning
from asi_evolve_jax.tracks.architecture.options import (
  LM_EVAL,
  StageOptions,
  read_stage,
)
from asi_evolve_jax.training import lm_eval_tasks
from asi_evolve_jax.training.examples import Examples, text_examples
from asi_evolve_jax.training.trainer import Trainer

_SPLITS = {
  "held_out_bits_per_byte": "held_out",
  "other_bits_per_byte": "held_out_other",
}


def run(request: StageRequest) -> StageReply:
  """Adds the held-out scores of every seed to what the train stage measured.

  The parameters are at `tuning.params_path`. The reply is "rejected" where the
  gate of trained.py says no.
  """
  options = read_stage(request.options)
  harness.cache_compilations(request.cache)
  start = time.monotonic()
  rate, metrics, payload = harness.unpack(request.payload)
  trainer, _ = harness.make_trainer(payload, options)
  text = harness.open_text(request)
  held_out = harness.windows(text, "held_out", options)
  texts: dict[str, np.ndarray | Examples] = {
    name: harness.windows(text, split, options)
    for name, split in _SPLITS.items()
  }
  if options.run.generalisation.code:
    texts["gen/code_bits_per_byte"] = harness.code_windows(options)
  judged = [text_examples(held_out)]
  if options.run.generalisation.length:
    longer = harness.long_examples(text, options)
    texts["gen/length_bits_per_byte"] = longer
    judged.append(longer)
  like = trainer.init(0)["params"]
  causality_s = 0.0
  windows = []
  for seed, measured in zip(request.seeds, metrics, strict=True):
    path = tuning.params_path(pathlib.Path(request.scratch), seed, rate)
    params = harness.load_params(path, like)
    begun = time.monotonic()
    try:
      for examples in judged:
        trained.check(trainer, params, examples, options.model)
    except Rejected as rejection:
      return StageReply(
        status="rejected", gate=trained.GATE, error=str(rejection)
      )
    causality_s += time.monotonic() - begun
    for name, data in texts.items():
      measured[name] = trainer.evaluate(params, data)[0]
    windows.append(trainer.window_bits(params, held_out))
    if options.run.generalisation.lm_eval:
      measured.update(lm_eval(trainer, params, options, request))
  trigram = harness.trigram(text, "held_out", options, request.seeds[0])
  return StageReply(
    metrics=tuple(metrics),
    report={"yardsticks": {"byte trigram": trigram}},
    # By the name of the metric that is their mean (reporting/windows.py).
    curves={"held_out_bits_per_byte": np.array(windows, np.float32)},
    cost={
      "score_s": time.monotonic() - start,
      "trained_causality_s": causality_s,
    },
  )


def lm_eval(
  trainer: Trainer,
  params: dict[str, Any],
  options: StageOptions,
  request: StageRequest,
) -> dict[str, float]:
  """Returns the scores on the tasks of lm-evaluation-harness, by metric.

  Raises:
    LmEvalError: if it is not installed, or a task has no such metric.
  """
  wanted, folders = options.lm_eval, request.folders
  lm_eval_tasks.offline(
    pathlib.Path(folders["lm_eval"]), pathlib.Path(request.scratch)
  )
  scores = lm_eval_tasks.measure(
    trainer,
    params,
    wanted.tasks,
    include_path=folders.get("lm_eval_tasks", ""),
    limit=wanted.limit,
  )
  return {f"{LM_EVAL}{task}": score for task, score in scores.items()}
