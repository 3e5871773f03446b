"""How long a train step takes beside the reference's, and what that costs.

Timings of two runs are no comparison: cores are shared and clocks change. So
both models make their steps in turns, in one process, and the least of each
counts: what is slowed down by others is never the least.
"""

from __future__ import annotations

import math
import time

import jax
import numpy as np

from asi_evolve_jax.programs import artifact
from asi_evolve_jax.tracks.architecture import contract, harness
from asi_evolve_jax.tracks.architecture.options import StageOptions
from asi_evolve_jax.training.trainer import Trainer
from pallas_kernels import compiling_for

# Steps of each model; the least of so few is within some 2 % of the least of
# many on a core that others disturb now and then.
_STEPS = 8
_RATE = 1e-6  # of learning: what the steps learn is thrown away


def relative_step_time(trainer: Trainer, options: StageOptions) -> float:
  """Returns the least time of a step over that of the reference.

  The reference is a published Program, so its Python may run here; it is
  traced and compiled (from the cache, but for the first Task of a rung).

  Args:
    trainer: of the candidate.
    options: of the stage; its `step_time_source` is the reference.
  """
  run = options.run
  mixer = contract.execute(options.step_time_source, "reference_program.py")
  with compiling_for(options.platform):
    payload = artifact.trace(
      getattr(mixer, contract.CLASS),
      contract.mixer_config(options.model),
      batch=run.batch,
      time=run.time,
      dtype=options.model.compute_dtype,
      platform=options.platform,
    )
  reference, _ = harness.make_trainer(payload, options)
  mine, others = least_step_times([trainer, reference])
  return mine / others


def least_step_times(trainers: list[Trainer]) -> list[float]:
  """Returns the least seconds of a train step of each, steps in turns."""
  rng = np.random.default_rng(0)
  first = trainers[0]
  windows = rng.integers(0, 256, (first.batch, first.time + 1), np.uint8)
  states = [trainer.init(0) for trainer in trainers]
  least = [math.inf] * len(trainers)
  for step in range(_STEPS + 1):
    for n, trainer in enumerate(trainers):
      start = time.perf_counter()
      states[n], metrics = trainer.step(states[n], windows, _RATE)
      jax.block_until_ready((states[n], metrics))
      if step:  # the first one allocates
        least[n] = min(least[n], time.perf_counter() - start)
  return least


def charge(amount: float, weight: float) -> float:
  """Returns `weight` for each doubling of `amount` from 1 on, bits a byte."""
  return weight * math.log2(amount)
