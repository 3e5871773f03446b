"""The last stage: held-out text, read for verification alone.

It gets the Artifact and the parameters that the train stage has saved, in a
process that neither saw the candidate's Python nor trained anything.
"""

from __future__ import annotations

import pathlib
import time

import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.tracks.architecture import harness, tuning
from asi_evolve_jax.tracks.architecture.options import read_stage
from asi_evolve_jax.training.examples import Examples

_SPLITS = {
  "held_out_bits_per_byte": "held_out",
  "other_bits_per_byte": "held_out_other",
}


def run(request: StageRequest) -> StageReply:
  """Adds the held-out scores of every seed to what the train stage measured.

  The parameters are at `tuning.params_path`.
  """
  options = read_stage(request.options)
  harness.cache_compilations(request.cache)
  start = time.monotonic()
  rate, metrics, payload = harness.unpack(request.payload)
  trainer, _ = harness.make_trainer(payload, options)
  text = harness.open_text(request)
  texts: dict[str, np.ndarray | Examples] = {
    name: harness.windows(text, split, options)
    for name, split in _SPLITS.items()
  }
  if options.run.generalisation.code:
    texts["gen/code_bits_per_byte"] = harness.code_windows(options)
  if options.run.generalisation.length:
    texts["gen/length_bits_per_byte"] = harness.long_examples(text, options)
  like = trainer.init(0)["params"]
  for seed, measured in zip(request.seeds, metrics, strict=True):
    path = tuning.params_path(pathlib.Path(request.scratch), seed, rate)
    params = harness.load_params(path, like)
    for name, data in texts.items():
      measured[name] = trainer.evaluate(params, data)[0]
  trigram = harness.trigram(text, "held_out", options, request.seeds[0])
  return StageReply(
    metrics=tuple(metrics),
    report={"yardsticks": {"byte trigram": trigram}},
    cost={"score_s": time.monotonic() - start},
  )
