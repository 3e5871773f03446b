"""The suites of a rung: synthetic tasks, learned by the text's own model."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture.options import StageOptions
from asi_evolve_jax.training.synthetic.measure import measure
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
) -> dict[str, dict[str, Any]]:
  """Measures every task of the rung for one seed.

  What a Task that was cut off had measured is read from its file in `scratch`.

  Returns:
    Metric name to the fields of `synthetic.measure.Measured`.
  """
  found = {}
  for metric, steps in tasks(options).items():
    name = metric.partition("/")[2]
    path = scratch / f"{name}-{seed}.json"
    if not path.exists():
      measured = measure(trainer, TASKS[name], steps, seed)
      write_json(path, dataclasses.asdict(measured))
    found[metric] = json.loads(path.read_text())
  return found


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes all of a file or nothing."""
  part = path.with_suffix(".part")
  part.write_text(json.dumps(value))
  os.replace(part, path)
