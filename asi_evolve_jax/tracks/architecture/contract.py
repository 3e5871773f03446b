"""The contract of an architecture Program, as code. Imported by workers only.

class TokenMixer(nnx.Module):
  def __init__(self, config: MixerConfig, *, rngs: nnx.Rngs): ...
  def __call__(self, x, ctx: MixerContext): ...  # [batch, time, dim]
  # Optional, both or none: the same token by token.
  def init_state(self, batch: int): ...  # a pytree of arrays
  def step(self, x, state, ctx): ...  # [batch, dim] -> the same, next state
"""

from __future__ import annotations

import dataclasses
import functools
import linecache
import sys
import types
from typing import Any

from asi_evolve_jax.models.language_model import LMConfig
from asi_evolve_jax.models.sizes import match_mlp_width, parameter_count
from asi_evolve_jax.programs.traceable import (
  MixerContext,
  Traceable,
  parameter_total,
)
from asi_evolve_jax.tracks.architecture.options import (
  ModelOptions,
  StageOptions,
)

__all__ = [
  "CLASS",
  "FILENAME",
  "MixerConfig",
  "MixerContext",
  "execute",
  "mixer_config",
  "model_config",
  "reference_parameters",
]

CLASS = "TokenMixer"
FILENAME = "program.py"  # what tracebacks call a Program


@dataclasses.dataclass(frozen=True)
class MixerConfig:
  """What a TokenMixer is built from.

  Attributes:
    dim: width of its input and output.
    heads: heads it should use.
    head_dim: dim // heads.
    chunk_size: tokens a chunk for chunked operators; divides time.
  """

  dim: int
  heads: int
  head_dim: int
  chunk_size: int


def mixer_config(model: ModelOptions) -> MixerConfig:
  """Returns what a Program's constructor gets at these sizes."""
  return MixerConfig(
    model.dim, model.heads, model.dim // model.heads, model.chunk_size
  )


def execute(source: str, filename: str = FILENAME) -> types.ModuleType:
  """Runs a Program's source as a module, once, and returns the module.

  Its lines can be read in tracebacks. Whatever it raises is raised.
  """
  lines = source.splitlines(keepends=True)
  linecache.cache[filename] = (len(source), None, lines, filename)
  module = types.ModuleType(filename.removesuffix(".py"))
  module.__file__ = filename
  # Dataclasses look their module up by name.
  sys.modules[module.__name__] = module
  exec(compile(source, filename, "exec"), module.__dict__)
  return module


def reference_parameters(options: StageOptions) -> int:
  """Returns the number of parameters that every model must have, within 1 %.

  It is the count of the reference Program's model at these sizes.
  """
  return _reference(options.reference_source, options.model)


@functools.lru_cache(maxsize=8)
def _reference(source: str, model: ModelOptions) -> int:
  module = execute(source, "reference_program.py")
  mixer = Traceable(getattr(module, CLASS), mixer_config(model))
  width = max(1, round(model.mlp_ratio * model.dim))
  return parameter_count(_lm(model, width), parameter_total(mixer.params))


def model_config(options: StageOptions, mixer_parameters: int) -> LMConfig:
  """Returns the language model around a mixer, its MLP width matched.

  Args:
    options: of the stage.
    mixer_parameters: parameters of one layer's mixer.

  Raises:
    ValueError: if no MLP width brings the model to the reference's count.
  """
  base = _lm(options.model, 1)
  width = match_mlp_width(base, mixer_parameters, reference_parameters(options))
  return dataclasses.replace(base, mlp_width=width)


def _lm(model: ModelOptions, mlp_width: int) -> LMConfig:
  fields: dict[str, Any] = {
    f.name: getattr(model, f.name)
    for f in dataclasses.fields(LMConfig)
    if f.name != "mlp_width"
  }
  return LMConfig(mlp_width=mlp_width, **fields)
