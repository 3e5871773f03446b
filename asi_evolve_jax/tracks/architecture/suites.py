"""The suites of a rung: synthetic tasks, learned by the text's own model."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture import harness
from asi_evolve_jax.tracks.architecture.options import StageOptions
from asi_evolve_jax.training.synthetic.measure import Measured, measure
from asi_evolve_jax.training.synthetic.registry import TASKS
from asi_evolve_jax.training.trainer import Trainer


def tasks(options: StageOptions) -> dict[str, int]:
  """Returns metric name to steps: `dev/<task>`, and `gen/<task>` to verify."""
  run = options.run
  wanted = {f"dev/{name}": steps for name, steps in run.development.items()}
  if options.purpose == VERIFY:
    for name, steps in run.generalisation.tasks.items():
      wanted[f"gen/{name}"] = steps
  return wanted


def accuracies(
  trainer: Trainer, options: StageOptions, seed: int, scratch: pathlib.Path
) -> dict[str, Measured]:
  """Measures every task of the rung for one seed, each at its best rate.

  What a Task that was cut off had measured is read from its file in `scratch`.

  Returns:
    Metric name to what was measured.
  """
  found = {}
  for metric, steps in tasks(options).items():
    name = metric.partition("/")[2]
    path = scratch / f"{metric.replace('/', '-')}-{seed}.json"
    if not path.exists():
      measured = measure(trainer, TASKS[name], steps, seed, options.run.rates)
      harness.write_json(path, dataclasses.asdict(measured))
    found[metric] = Measured(**json.loads(path.read_text()))
  return found


def metrics(found: dict[str, Measured]) -> dict[str, float]:
  """Returns the accuracies."""
  return {name: measured.accuracy for name, measured in found.items()}


def summary(found: dict[str, Measured]) -> dict[str, dict[str, Any]]:
  """Returns what else a record should know of one seed's tasks."""
  return {
    name: {"lr": measured.rate, "by_lr": measured.by_rate}
    for name, measured in found.items()
  }


def chance(options: StageOptions) -> dict[str, float]:
  """Returns what guessing gets in every task of the rung."""
  return {
    metric: TASKS[metric.partition("/")[2]].chance(options.run.time)
    for metric in tasks(options)
  }
