"""Every Program at every learning rate of the rung's grid.

A baseline that was not tuned is a strawman: candidates and baselines get the
same few rates, each with the same bytes in the same order, and the score is
that of the rate with the least bits a byte on development text, over all seeds
of the Task. Held-out text chooses nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from asi_evolve_jax.evaluation.gates import Rejected
from asi_evolve_jax.records.schema import FAILED, REJECTED, STOPPED, VERIFY
from asi_evolve_jax.tracks.architecture import harness, trained
from asi_evolve_jax.tracks.architecture.options import (
  StageOptions,
  StopOptions,
)
from asi_evolve_jax.training import corpus
from asi_evolve_jax.training.examples import text_examples
from asi_evolve_jax.training.train import Ended, Run, Stopped, train
from asi_evolve_jax.training.trainer import Trainer


class Untrained(RuntimeError):
  """Training on text gave no score.

  Attributes:
    status: of the Result: "failed", "stopped" or "rejected".
    steps: done by then, at all rates and seeds.
  """

  def __init__(self, error: Exception, status: str, steps: int):
    super().__init__(str(error))
    self.status = status
    self.steps = steps


@dataclasses.dataclass(frozen=True)
class Tuned:
  """What training on text gave.

  Attributes:
    rate: the learning rate that was chosen.
    seeds: of each seed at that rate: "bits_per_byte" on development text, the
      curves "train" and "dev", and "cost" in seconds.
    by_rate: mean bits a byte of each rate; None where training diverged or
      stopped, too far behind the reference.
    cost: seconds of all rates together, and "step_s" of the fastest.
    steps: done at all rates and seeds.
  """

  rate: float
  seeds: list[dict[str, Any]]
  by_rate: dict[float, float | None]
  cost: dict[str, float]
  steps: int


def tune(
  trainer: Trainer,
  text: corpus.Corpus,
  options: StageOptions,
  seeds: Sequence[int],
  scratch: pathlib.Path,
) -> Tuned:
  """Trains at each rate and seed, and chooses the rate.

  What was finished before is read from its file in `scratch`. To verify, the
  parameters of every run are left at `params_path`.

  Raises:
    Untrained: if no rate trains every seed, or what was trained reads ahead;
      see trained.py.
  """
  runs: dict[float, list[dict[str, Any]]] = {}
  done: list[dict[str, Any]] = []
  faults: list[Ended] = []
  steps = 0
  for rate in options.run.rates:
    found = []
    try:
      for seed in seeds:
        found.append(_train(trainer, text, options, seed, rate, scratch))
        steps += options.run.steps
    except Ended as error:
      steps += error.steps
      faults.append(error)
    except Rejected as error:
      steps += options.run.steps
      raise Untrained(error, REJECTED, steps) from error
    else:
      runs[rate] = found
    done += found
  if not runs:
    # A rate that diverges is no news beside one that trains, if badly.
    fault = next((f for f in faults if isinstance(f, Stopped)), faults[0])
    status = STOPPED if isinstance(fault, Stopped) else FAILED
    raise Untrained(fault, status, steps) from fault
  means = {
    rate: math.fsum(s["bits_per_byte"] for s in found) / len(found)
    for rate, found in runs.items()
  }
  best = min(means, key=means.__getitem__)
  cost = {
    name: math.fsum(s["cost"][name] for s in done)
    for name in ("train_s", "eval_s")
  }
  cost["step_s"] = min(s["cost"]["step_s"] for s in done)
  by_rate = {rate: means.get(rate) for rate in options.run.rates}
  return Tuned(best, runs[best], by_rate, cost, steps)


def params_path(scratch: pathlib.Path, seed: int, rate: float) -> pathlib.Path:
  """Returns where the parameters of a run are kept to be scored."""
  return scratch / f"params-{seed}-{rate!r}.npz"


def _watch(stop: StopOptions | None) -> Callable[[int, float], None] | None:
  """Returns what raises Stopped where a run is too far behind."""
  if stop is None:
    return None
  expected = dict(zip(stop.steps, stop.scores, strict=True))

  def watch(done: int, bits: float) -> None:
    behind = bits - expected.get(done, math.inf)
    if done >= stop.after and behind > stop.margin:
      raise Stopped(
        f"stopped after {done} of {stop.steps[-1]} steps: {bits:.4f} bits a "
        f"byte, {behind:.4f} behind {stop.reference} at equal tokens (more "
        f"than {stop.margin:.4g} ends a run).",
        steps=done,
      )

  return watch


def _train(
  trainer: Trainer,
  text: corpus.Corpus,
  options: StageOptions,
  seed: int,
  rate: float,
  scratch: pathlib.Path,
) -> dict[str, Any]:
  finished = scratch / f"seed-{seed}-{rate!r}.json"
  if finished.exists():
    return json.loads(finished.read_text())
  run = options.run
  dev = harness.windows(text, "dev", options)
  folder = scratch / f"checkpoints-{seed}-{rate!r}"
  outcome = train(
    trainer,
    text.load("train"),
    dev,
    Run(
      steps=run.steps,
      seed=seed,
      learning_rate=rate,
      eval_every=run.eval_every,
      checkpoint_s=run.checkpoint_s,
      checkpoints=str(folder) if run.checkpoint_s > 0 else "",
      watch=_watch(options.stop),
    ),
  )
  params = outcome.state["params"]
  trained.check(trainer, params, text_examples(dev), options.model)
  if options.purpose == VERIFY:
    path = params_path(scratch, seed, rate)
    harness.save_params(path, params)
  measured = {
    "bits_per_byte": outcome.bits_per_byte,
    "train": outcome.train.tolist(),
    "dev": outcome.dev.tolist(),
    "cost": {
      "step_s": outcome.step_s,
      "train_s": outcome.train_s,
      "eval_s": outcome.eval_s,
    },
  }
  harness.write_json(finished, measured)
  return measured
