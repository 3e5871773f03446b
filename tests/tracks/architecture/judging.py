"""Runs Programs of a few lines through the trace stage and the judge."""

from mixer_sources import GOOD

from asi_evolve_jax.tracks.architecture import pipeline
from asi_evolve_jax.tracks.architecture.options import (
  ModelOptions,
  RungOptions,
  StageOptions,
)

DIM, LAYERS, BATCH, TIME = 16, 2, 2, 32


def options(**changes):
  model = ModelOptions(
    dim=DIM,
    layers=LAYERS,
    heads=2,
    vocab=64,
    chunk_size=8,
    **changes.pop("model", {}),
  )
  run = RungOptions(**{"batch": BATCH, "time": TIME, **changes.pop("run", {})})
  return StageOptions(model=model, run=run, reference_source=GOOD, **changes)


def run(source, seed=0, **changes):
  """Returns the reply of the judge, or of the trace stage if that refuses."""
  return pipeline.make_artifact(source, options(**changes), seed)
