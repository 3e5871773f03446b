"""`launch.bench train`: published mixers at the size of an hour's run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.tracks.architecture import harness, pipeline
from asi_evolve_jax.tracks.architecture.baselines import baselines
from asi_evolve_jax.tracks.architecture.options import (
  ModelOptions,
  RungOptions,
  StageOptions,
)
from asi_evolve_jax.training import benchmark

# As configs/architecture.py:cpu has it.
MODEL = ModelOptions(dim=128, layers=4, heads=4, mlp_ratio=4.0, chunk_size=16)
RUN = RungOptions(batch=8, time=256)


def bench_train(
  mixers: Sequence[str],
  steps: int,
  model: ModelOptions = MODEL,
  run: RungOptions = RUN,
) -> list[dict[str, Any]]:
  """Returns one row of figures a mixer.

  Args:
    mixers: names of baselines.
    steps: train steps timed for each.
    model: sizes.
    run: batch and time.

  Raises:
    ValueError: if a name is no baseline's, or a gate refuses one.
  """
  sources = {b.name: b.source for b in baselines()}
  unknown = [name for name in mixers if name not in sources]
  if unknown:
    raise ValueError(
      f"no baseline {', '.join(unknown)}; there are {', '.join(sources)}."
    )
  options = StageOptions(
    model=model,
    run=run,
    reference_source=sources["deltanet"],
    yardsticks=tuple(program_id(sources[name]) for name in sources),
  )
  return [_row(name, sources[name], options, steps) for name in mixers]


def _row(
  name: str, source: str, options: StageOptions, steps: int
) -> dict[str, Any]:
  # The way of every candidate: gates, Artifact, training.
  made = pipeline.make_artifact(source, options)
  if made.status != "ok":
    raise ValueError(f"{name} fails at {made.gate}: {made.error}")
  trainer, _ = harness.make_trainer(made.payload, options)
  flops = 3 * made.report["flops_per_token"]
  speed = benchmark.bench_train(trainer, flops, steps)
  return {
    "mixer": name,
    "parameters": trainer.parameters,
    "tokens_per_step": trainer.batch * trainer.time,
    "compile_s": trainer.compile_s,
    "step_s": speed.step_s,
    "tokens_per_second": speed.tokens_per_second,
    "train_gflops": speed.flops_per_second / 1e9,
    "matmul_gflops": speed.matmul_flops_per_second / 1e9,
    "share": speed.share,
  }
