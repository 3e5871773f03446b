"""Training a model on a synthetic task and measuring it on fresh sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from asi_evolve_jax.training.synthetic.task import Task
from asi_evolve_jax.training.trainer import Trainer

# Streams beyond any step: one to choose the learning rate, one to report.
_CHOICE = 1 << 40
_REPORT = _CHOICE + 1


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a model can do after some steps.

  Attributes:
    accuracy: in [0, 1], on sequences that chose nothing.
    rate: the learning rate that was chosen.
    by_rate: (learning rate, accuracy on the sequences that chose it) of all.
  """

  accuracy: float
  rate: float
  by_rate: list[tuple[float, float]]


def measure(
  trainer: Trainer,
  task: Task,
  steps: int,
  seed: int,
  rates: Sequence[float] = (),
  count: int = 64,
) -> Measured:
  """Trains a fresh model on `task` at each rate and measures the best.

  A rate at which training diverges scores 0 and is not chosen.

  Args:
    trainer: the compiled steps of the text model.
    task: from the registry.
    steps: optimiser steps, each on fresh sequences.
    seed: of initialisation and data; all rates see the same.
    rates: peak learning rates; none: the trainer's own.
    count: sequences to choose on, and as many to report.
  """
  batch, time = trainer.batch, trainer.time
  choice = task.batch(count, time, seed, _CHOICE)
  report = task.batch(count, time, seed, _REPORT)
  by_rate: list[tuple[float, float]] = []
  reported: list[float] = []
  for rate in rates or (trainer.optimizer.learning_rate,):
    state = trainer.init(seed)
    for step, now in enumerate(trainer.optimizer.schedule(steps, rate)):
      data = task.batch(batch, time, seed, step)
      state, _ = trainer.step(state, data, now)
    params = state["params"]
    by_rate.append((rate, trainer.evaluate(params, choice)[1]))
    reported.append(trainer.evaluate(params, report)[1])
  best = max(range(len(by_rate)), key=lambda i: by_rate[i][1])
  return Measured(reported[best], by_rate[best][0], by_rate)
