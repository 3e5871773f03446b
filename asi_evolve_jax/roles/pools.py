"""The worker processes of an Engineer, as the settings want them."""

from __future__ import annotations

import os

from asi_evolve_jax.evaluation.jail import Sandbox
from asi_evolve_jax.evaluation.limits import Limits, default_cores
from asi_evolve_jax.evaluation.workers import WorkerPool
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track


def make_pool(settings: RunSettings, track: Track) -> WorkerPool:
  """Returns a pool with the track's stages imported ahead of need."""
  workers = settings.workers
  preload = [name for stage in track.stages for name in stage.preload]
  preload += [stage.entry.partition(":")[0] for stage in track.stages]
  memory, cores = 0, (None,) * (workers.count or 1)
  if os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
    memory = int(workers.memory_gb * 2**30)
    cores = default_cores(workers.count, workers.pin)
  # An accelerator belongs to one process at a time, and its driver reserves
  # address space by the terabyte.
  return WorkerPool(
    preload,
    Limits(memory_bytes=memory, silence_s=workers.lease_ttl_s),
    cores,
    warm=workers.warm,
    sandbox=Sandbox(workers.sandbox),
  )
