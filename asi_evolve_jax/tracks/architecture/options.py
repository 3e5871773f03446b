"""Settings of the architecture track: what configs say and stages read.

No jax here: the track is made in every role, the stages run in workers.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.settings import SettingsError, from_config, plain
from asi_evolve_jax.training.synthetic.registry import TASKS

CPU = "cpu"
LM_EVAL = "gen/lm_eval/"  # begins the metrics of LmEvalOptions.tasks
PLATFORMS = (CPU, "tpu", "cuda")
# Tokens a chunk that suit the operators of pallas_kernels: on CPUs by
# docs/results/kernels_cpu.md, on TPUs by docs/results/kernels_tpu.md, on GPUs
# the rows of a warp group's product.
_CHUNKS = {"cpu": 16, "tpu": 128, "cuda": 64}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
  """Sizes of the language model; the same for every candidate but the MLP.

  Attributes:
    mlp_ratio: MLP width over dim in the reference model. A candidate's width
      is what gives its model the reference's number of parameters.
    chunk_size: tokens a chunk that a mixer's operators should use, a power of
      two; 0 is what suits the platform, and no more than a sequence has.
    compute_dtype: of the activations: "float32" or "bfloat16".
    remat: "none", or "block" to recompute blocks in the backward pass.
  """

  dim: int = 64
  layers: int = 2
  heads: int = 2
  vocab: int = 256
  mlp_ratio: float = 2.0
  chunk_size: int = 0
  compute_dtype: str = "float32"
  remat: str = "none"
  tie_embeddings: bool = True

  def __post_init__(self) -> None:
    for name in ("dim", "layers", "heads", "vocab"):
      if getattr(self, name) < 1:
        raise SettingsError(f"model.{name} must be at least 1.")
    if self.chunk_size < 0 or self.chunk_size & (self.chunk_size - 1):
      raise SettingsError(
        f"model.chunk_size is {self.chunk_size}: make it a power of two, or 0 "
        "for what suits the platform."
      )
    if self.dim % self.heads:
      raise SettingsError(
        f"model.dim is {self.dim}, which {self.heads} heads do not divide."
      )
    if self.mlp_ratio <= 0:
      raise SettingsError("model.mlp_ratio must be positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusOptions:
  """Which text: the arguments of `training.corpus.build`."""

  name: str = "floor-v1"
  data_dir: str = ""
  slice_mb: float = 0.0
  sources: tuple[str, ...] = ()
  wheels_dir: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LmEvalOptions:
  """Tasks of lm-evaluation-harness, for rungs that ask for them.

  Attributes:
    tasks: name of a task or a group to the metric that counts, as the harness
      calls it: "acc", or "exact_match,strict-match" where it has filters.
    include_path: folder with task files (YAML) beside the harness's own.
    data_dir: where the data sets lie; "": in the cache of this machine.
    limit: documents a task, the first; 0: all.
  """

  tasks: dict[str, str] = dataclasses.field(default_factory=dict)
  include_path: str = ""
  data_dir: str = ""
  limit: int = 0

  def __post_init__(self) -> None:
    if self.limit < 0:
      raise SettingsError(
        f"track_options.lm_eval.limit is {self.limit}: use a number of "
        "documents, or 0 for all."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generalisation:
  """What no search may see; refused in the ladder (evaluation/suites.py).

  Attributes:
    tasks: synthetic task to steps of training on it.
    code: whether to score on C headers, as `gen/code_bits_per_byte`.
    length: how many times as long as in training held-out text is read, what
      lies beyond the trained length scored as `gen/length_bits_per_byte`; 0
      leaves it out.
    lm_eval: whether to score on the tasks of LmEvalOptions.
  """

  tasks: dict[str, int] = dataclasses.field(default_factory=dict)
  code: bool = False
  length: int = 0
  lm_eval: bool = False

  def __post_init__(self) -> None:
    if self.length < 0 or self.length == 1:
      raise SettingsError(
        f"the rung's options.generalisation.length is {self.length}: use 2 or "
        "more, or 0 for none."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RungOptions:
  """`RungSettings.options` of this track.

  Attributes:
    batch: sequences a step.
    time: tokens a sequence, a multiple of the model's chunk size.
    steps: optimiser steps.
    lr: peak learning rate.
    lrs: a grid of them instead: every Program is trained at each, baselines
      alike, on text and on every task, and the best on development data
      counts (tuning.py).
    warmup: steps of linear warm-up.
    weight_decay: of matrices.
    clip: largest norm of the gradient.
    eval_windows: windows of `time` tokens read for a score.
    eval_every: steps between evaluations on the way; 0: only at the end.
    development: synthetic task to steps of training on it, measured with every
      score as `dev/<task>`; may guide the search.
    generalisation: what verify alone measures, as `gen/<task>`.
    checkpoint_s: seconds between checkpoints; 0: none.
    flops: most that training one seed may take, at all rates and on all tasks;
      a Program that needs more is rejected before a step. 0: no limit.
    more_times: further lengths in tokens, multiples of `time`, at which the
      Artifact can run too.
    model: fields of ModelOptions that differ at this rung.
  """

  batch: int = 8
  time: int = 128
  steps: int = 200
  lr: float = 3e-3
  lrs: tuple[float, ...] = ()
  warmup: int = 20
  weight_decay: float = 0.1
  clip: float = 1.0
  eval_windows: int = 64
  eval_every: int = 0
  development: dict[str, int] = dataclasses.field(default_factory=dict)
  generalisation: Generalisation = Generalisation()
  checkpoint_s: float = 20.0
  flops: float = 0.0
  more_times: tuple[int, ...] = ()
  model: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    for name in ("batch", "time", "steps", "eval_windows"):
      if getattr(self, name) < 1:
        raise SettingsError(f"the rung's options.{name} must be at least 1.")
    if min(self.rates) <= 0 or len(set(self.rates)) < len(self.rates):
      raise SettingsError(
        f"the rung's learning rates are {self.rates}: make them positive, each "
        "given once."
      )
    if not 0 <= self.flops < math.inf:
      raise SettingsError(
        f"the rung's options.flops is {self.flops}: make it 0 or more."
      )
    for time in self.more_times:
      if time < self.time or time % self.time:
        raise SettingsError(
          f"the rung's options.more_times holds {time}: use multiples of "
          f"options.time, {self.time}."
        )
    _check_tasks(self.development, self.time, "development")
    _check_tasks(self.generalisation.tasks, self.time, "generalisation.tasks")

  @property
  def rates(self) -> tuple[float, ...]:
    """The learning rates that every Program is trained at."""
    return self.lrs or (self.lr,)

  def seed_steps(self, purpose: str) -> int:
    """Returns the optimiser steps of one seed, at all rates and on all tasks.

    Args:
      purpose: of the Task; tasks of `generalisation` are learned for VERIFY.
    """
    tasks = [self.development]
    if purpose == VERIFY:
      tasks.append(self.generalisation.tasks)
    learned = sum(steps for some in tasks for steps in some.values())
    return len(self.rates) * (self.steps + learned)


def _check_tasks(tasks: Mapping[str, Any], time: int, where: str) -> None:
  for name, steps in tasks.items():
    if name not in TASKS:
      raise SettingsError(
        f"the rung's options.{where} names the task {name!r}; there are "
        f"{', '.join(TASKS)}."
      )
    if not isinstance(steps, int) or steps < 1:
      raise SettingsError(
        f"the rung's options.{where}.{name} is a number of steps, got "
        f"{steps!r}."
      )
    if time < TASKS[name].least_time:
      raise SettingsError(
        f"the rung's options.time is {time}, too short for the task {name}: "
        f"use {TASKS[name].least_time} or more, or leave the task out."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitnessOptions:
  """What the search ranks by beside quality; see docs/kernels.md.

  Attributes:
    step_time_weight: bits a byte that a doubling of the step time costs, over
      the reference's at the same rung on the same machine; 0: only quality
      counts and no time is compared.
    step_time_reference: name of the baseline whose step takes 1.
    modelled_cycles_weight: bits a byte that a doubling of the mixer's modelled
      cycles costs, on the first TPU topology of `TrackOptions.preflight`; 0:
      they do not count, and nothing compiles for TPUs before verification.
  """

  step_time_weight: float = 0.0
  step_time_reference: str = "deltanet"
  modelled_cycles_weight: float = 0.0

  def __post_init__(self) -> None:
    for name in ("step_time_weight", "modelled_cycles_weight"):
      weight = getattr(self, name)
      if not 0 <= weight < math.inf:
        raise SettingsError(
          f"track_options.fitness.{name} is {weight}: make it 0 or more bits "
          "a byte."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackOptions:
  """`RunSettings.track_options` of this track.

  Attributes:
    reference: name of the baseline whose parameter count all models match.
    yardsticks: names of baselines that may cost more than linear time.
    baselines: names of those to measure; empty: `baselines.USUAL`.
    platform: what Artifacts are exported for: "cpu", "tpu" or "cuda".
    fitness: what the search ranks by.
    lm_eval: tasks for rungs with `generalisation.lm_eval`.
    check_kernels: whether kernels are compared with the XLA form on "cpu" too,
      where nothing trains with them; for the other platforms they always are.
    preflight: TPU topologies, such as "v5e:4x4", that a Program must compile
      for before it is verified, or before it is trained if modelled cycles are
      part of the fitness.
  """

  corpus: CorpusOptions = CorpusOptions()
  model: ModelOptions = ModelOptions()
  reference: str = "deltanet"
  yardsticks: tuple[str, ...] = ("softmax",)
  baselines: tuple[str, ...] = ()
  platform: str = "cpu"
  fitness: FitnessOptions = FitnessOptions()
  lm_eval: LmEvalOptions = LmEvalOptions()
  check_kernels: bool = False
  preflight: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    if self.platform not in PLATFORMS:
      raise SettingsError(
        f"track_options.platform is {self.platform!r}; use one of "
        f"{', '.join(PLATFORMS)}."
      )
    for topology in self.preflight:
      if not re.fullmatch(r"v\d+[a-z]*:\d+x\d+(x\d+)?", topology):
        raise SettingsError(
          f"track_options.preflight names {topology!r}: use generation and "
          "shape, such as 'v5e:4x4' or 'v5p:2x2x2'."
        )
    if self.fitness.modelled_cycles_weight and not self.preflight:
      raise SettingsError(
        "track_options.fitness.modelled_cycles_weight is "
        f"{self.fitness.modelled_cycles_weight}, and there is no TPU to model: "
        "name one in track_options.preflight, such as ('v5e:2x2',)."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopOptions:
  """The reference's curve that a candidate must keep up with.

  Attributes:
    reference: its name.
    steps: done at its evaluations.
    scores: there, bits a byte, mean over its seeds.
    margin: bits a byte that one may be behind.
    after: steps before which nobody stops.
  """

  reference: str
  steps: tuple[int, ...]
  scores: tuple[float, ...]
  margin: float
  after: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOptions:
  """`StageRequest.options` of this track, as the stages read them.

  Attributes:
    model: with the rung's changes made and a chunk size.
    run: the rung's own options.
    reference_source: source of the Program whose count is matched.
    yardsticks: ids of the Programs that may cost more than linear time.
    platform: what to export for.
    check_kernels: as in TrackOptions.
    preflight: as in TrackOptions.
    lm_eval: as in TrackOptions.
    step_time_weight: see FitnessOptions.
    step_time_source: source of the Program whose step takes 1; "" where the
      weight is 0.
    modelled_cycles_weight: see FitnessOptions.
    rung: its name.
    purpose: of the Task.
    program: id of the Program.
    stop: when to stop early; None: never.
  """

  model: ModelOptions
  run: RungOptions
  reference_source: str
  yardsticks: tuple[str, ...] = ()
  platform: str = "cpu"
  check_kernels: bool = False
  preflight: tuple[str, ...] = ()
  lm_eval: LmEvalOptions = LmEvalOptions()
  step_time_weight: float = 0.0
  step_time_source: str = ""
  modelled_cycles_weight: float = 0.0
  rung: str = ""
  purpose: str = "search"
  program: str = ""
  stop: StopOptions | None = None

  def __post_init__(self) -> None:
    if not self.model.chunk_size:
      raise SettingsError(
        "model.chunk_size is 0, which read_rung or with_chunk replaces by what "
        "suits the platform: call one of them first."
      )

  def kept_lengths(self) -> tuple[int, ...]:
    """Returns the lengths [tokens] of the Artifact, its own first."""
    run = self.run
    times = [run.time, *run.more_times]
    if run.generalisation.length:
      times.append(run.generalisation.length * run.time)
    return tuple(dict.fromkeys(times))

  def growing_lengths(self) -> tuple[int, int, int]:
    """Returns three lengths [tokens], each twice the one before.

    From the first of them on a quadratic part shows beside the projections.
    """
    time = self.run.time
    start = time * -(-2 * self.model.dim // time)
    return start, 2 * start, 4 * start

  def half_length(self) -> int | None:
    """Returns half of the length that trains, if it has room for chunks.

    It shows a window over all of it. Room is for four chunks of the config, as
    Programs may take larger ones; None without.
    """
    half = self.run.time // 2
    chunk = self.model.chunk_size
    return half if half >= 4 * chunk and half % chunk == 0 else None

  def lengths(self) -> tuple[int, ...]:
    """Returns all lengths [tokens] to trace, the Artifact's own first."""
    half = self.half_length()
    others = (*self.growing_lengths(), *([half] if half else []))
    return tuple(dict.fromkeys((*self.kept_lengths(), *others)))


def read_rung(
  track: TrackOptions, options: Mapping[str, Any], where: str
) -> tuple[ModelOptions, RungOptions]:
  """Returns a rung's model and options, both validated.

  Args:
    track: the track's options.
    options: `RungSettings.options`.
    where: how error messages name them.

  Raises:
    SettingsError: on a value that cannot be used.
  """
  run = from_config(RungOptions, options, where)
  model = from_config(
    ModelOptions, {**plain(track.model), **run.model}, f"{where}.model"
  )
  model = with_chunk(model, track.platform, run.time)
  if run.time % model.chunk_size:
    raise SettingsError(
      f"{where}.time is {run.time}: make it a multiple of the model's "
      f"chunk_size, {model.chunk_size}, or set another model.chunk_size."
    )
  return model, run


def with_chunk(model: ModelOptions, platform: str, time: int) -> ModelOptions:
  """Returns `model` with the chunk size that it has or that suits.

  Args:
    model: with any chunk size.
    platform: one of PLATFORMS.
    time: tokens a sequence.
  """
  if model.chunk_size:
    return model
  longest = 1 << (time.bit_length() - 1)
  chunk = min(_CHUNKS[platform], longest)
  return dataclasses.replace(model, chunk_size=chunk)


def read_stage(options: Mapping[str, Any]) -> StageOptions:
  """Returns `StageRequest.options` as a StageOptions."""
  return from_config(StageOptions, options, "options")
