"""The train loop: flat, resumable to the bit, honest about failure."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from asi_evolve_jax.training.batches import train_batches
from asi_evolve_jax.training.checkpoint import Checkpoints
from asi_evolve_jax.training.trainer import State, Trainer

_BITS = 1 / math.log(2)  # a nat


class Ended(RuntimeError):
  """Training ended without a score.

  Attributes:
    steps: done by then, those before a restart included.
  """

  def __init__(self, message: str, steps: int):
    super().__init__(message)
    self.steps = steps


class Diverged(Ended):
  """Training produced a loss or a gradient that is no number."""


class Stopped(Ended):
  """Training ended early because a score on the way was too bad."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """How long and how closely watched.

  Attributes:
    steps: optimiser steps.
    seed: of initialisation and of the order of the text.
    learning_rate: at the peak; None: the trainer's own.
    eval_every: steps between evaluations on the way; 0: only at the end.
    checkpoint_s: seconds between checkpoints; 0: none.
    checkpoints: folder for them; "": none.
    watch: called with (steps done, bits a byte) at each evaluation on the way;
      may raise Stopped.
  """

  steps: int
  seed: int = 0
  learning_rate: float | None = None
  eval_every: int = 0
  checkpoint_s: float = 0.0
  checkpoints: str = ""
  watch: Callable[[int, float], None] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a run gave.

  Attributes:
    state: the trained state.
    bits_per_byte: on the development windows, at the end.
    train: bits a byte on each step's batch, float32 [steps].
    dev: (steps done, bits a byte), float32 [evaluations, 2].
    step_s: median seconds of a step; 0 if none was timed.
    train_s: seconds in steps.
    eval_s: seconds in evaluations.
    resumed_from: step of the checkpoint it went on from; 0: none.
  """

  state: State
  bits_per_byte: float
  train: np.ndarray
  dev: np.ndarray
  step_s: float
  train_s: float
  eval_s: float
  resumed_from: int


def train(
  trainer: Trainer, data: np.ndarray, dev: np.ndarray, run: Run
) -> Outcome:
  """Trains from scratch, or from the latest checkpoint of the same run.

  Args:
    trainer: the compiled steps.
    data: training text, uint8 [bytes].
    dev: development windows, uint8 [count, time + 1].
    run: length, seed, checkpoints.

  Raises:
    Diverged: names the step and what was not finite.
    Stopped: from `run.watch`.
  """
  rates = trainer.optimizer.schedule(run.steps, run.learning_rate)
  batches = train_batches(
    data, batch=trainer.batch, time=trainer.time, seed=run.seed
  )
  state = trainer.init(run.seed)
  losses: list[float] = []
  points: list[tuple[float, float]] = []

  # A run that was cut off continues with its very next batch.
  start = 0
  keeper = Checkpoints(run.checkpoints) if run.checkpoints else None
  restored = keeper.restore(state, batches) if keeper else None
  if restored is not None:
    start, state = restored.step, restored.state
    losses = restored.curves["losses"].tolist()
    points = [tuple(p) for p in restored.curves.get("points", ())]

  # Metrics are read one step late, so that the device never waits for us.
  pending: dict | None = None

  def settle() -> None:
    nonlocal pending
    if pending is not None:
      loss, norm = float(pending["loss"]), float(pending["norm"])
      if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
          f"diverged at step {len(losses)} of {run.steps}: loss {loss}, "
          f"gradient norm {norm}; the losses before were "
          f"{', '.join(f'{x:.3f}' for x in losses[-3:]) or 'none'}.",
          steps=len(losses) + 1,
        )
      losses.append(loss)
      pending = None

  eval_s, durations = 0.0, []
  train_start = mark = saved = time.monotonic()
  for step in range(start, run.steps):
    state, metrics = trainer.step(state, next(batches), rates[step])
    settle()
    pending = metrics
    now = time.monotonic()
    durations.append(now - mark)
    mark = now

    done = step + 1
    if run.eval_every and done % run.eval_every == 0 and done < run.steps:
      settle()
      before = time.monotonic()
      points.append((done, trainer.evaluate(state["params"], dev)[0]))
      mark = time.monotonic()
      eval_s += mark - before
      if run.watch is not None:
        run.watch(done, points[-1][1])
    due = run.checkpoint_s and mark - saved >= run.checkpoint_s
    if keeper and due and done < run.steps:
      settle()
      curves = {"losses": np.array(losses), "points": np.array(points)}
      keeper.save(done, state, batches, curves)
      mark = saved = time.monotonic()
  settle()
  end = time.monotonic()
  bits = trainer.evaluate(state["params"], dev)[0]
  if not math.isfinite(bits):
    raise Diverged(
      f"diverged: {bits} bits a byte after the last step.", steps=run.steps
    )
  points.append((run.steps, bits))
  if keeper:
    keeper.close()
  return Outcome(
    state=state,
    bits_per_byte=bits,
    train=np.array(losses, np.float32) * np.float32(_BITS),
    dev=np.array(points, np.float32).reshape(-1, 2),
    # The first waits for nothing and the second for two.
    step_s=statistics.median(durations[2:]) if durations[2:] else 0.0,
    train_s=end - train_start - eval_s,
    eval_s=eval_s + time.monotonic() - end,
    resumed_from=start,
  )
