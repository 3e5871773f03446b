"""What it costs to start a candidate: a cold Python against a warm worker.

Both import jax, flax.nnx and optax and run one jitted matrix product.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from asi_evolve_jax.evaluation.limits import (
  Limits,
  default_cores,
  worker_environment,
)
from asi_evolve_jax.evaluation.stages import Stage, StageReply, StageRequest
from asi_evolve_jax.evaluation.workers import WorkerPool

PRELOAD = ("jax", "jax.numpy", "flax.nnx", "optax")
_COLD = (
  "from asi_evolve_jax.evaluation.benchmark import multiply; multiply(None)"
)


def multiply(request: StageRequest | None) -> StageReply:
  """The stage that is timed."""
  del request  # it needs nothing
  # Here, not above: the Engineer's process never imports them.
  import flax.nnx
  import jax
  import jax.numpy as jnp
  import optax

  del flax, optax  # a candidate's module would import them
  x = jnp.ones((64, 64))
  total = float(jax.jit(lambda a: a @ a)(x).sum())
  return StageReply(metrics=({"total": total},))


def bench_start(repeats: int) -> dict[str, Any]:
  """Measures how long a candidate takes to start, end to end.

  Args:
    repeats: starts timed of each kind.

  Returns:
    Medians and extremes [s] of a cold start (a fresh Python) and of a warm
    one (through the pool and into the jail, from `start` to the outcome), how
    long the fork server takes to be ready [s], and the ratio of the medians.
  """
  core = default_cores(1, pin=True)
  environment = worker_environment(single_thread=core[0] is not None)
  cold = []
  for _ in range(repeats):
    started = time.perf_counter()
    subprocess.run(
      [sys.executable, "-c", _COLD],
      env={**environment, "PYTHONPATH": ":".join(p for p in sys.path if p)},
      check=True,
    )
    cold.append(time.perf_counter() - started)
  started = time.perf_counter()
  pool = WorkerPool(PRELOAD, Limits(), core)
  try:
    _once(pool)
    ready = time.perf_counter() - started
    warm = [_once(pool) for _ in range(repeats)]
  finally:
    pool.close()
  return {
    "cold_s": statistics.median(cold),
    "cold_min_s": min(cold),
    "cold_max_s": max(cold),
    "warm_s": statistics.median(warm),
    "warm_min_s": min(warm),
    "warm_max_s": max(warm),
    "first_s": ready,
    "ratio": statistics.median(cold) / statistics.median(warm),
    "repeats": repeats,
  }


def _once(pool: WorkerPool) -> float:
  """Returns the seconds of one start.

  Raises:
    RuntimeError: if the stage did not end well.
  """
  stage = Stage(
    "multiply", "asi_evolve_jax.evaluation.benchmark:multiply", trusted=False
  )
  with tempfile.TemporaryDirectory() as scratch:
    started = time.perf_counter()
    job = pool.start(
      stage,
      StageRequest(
        source="",
        payload=b"",
        seeds=(0,),
        options={},
        scratch=scratch,
        cache="",
        deadline_s=120.0,
        author="baseline",
      ),
      pool.cores[0],
    )
    while (outcome := job.poll()) is None:
      pool.wait(1.0)
    seconds = time.perf_counter() - started
  if outcome.status != "ok":
    raise RuntimeError(f"the worker did not start: {outcome.error}")
  return seconds
