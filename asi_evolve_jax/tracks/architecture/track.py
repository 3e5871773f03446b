"""The architecture track: which token mixer makes the best language model.

Small pre-norm language models over bytes of real text, equal in everything but
the mixer and the MLP width that keeps their parameters equal.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import os
from typing import Any

from asi_evolve_jax.evaluation.stages import Stage
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records.schema import SEARCH, VERIFY, digest
from asi_evolve_jax.settings import (
  RungSettings,
  SettingsError,
  from_config,
  plain,
)
from asi_evolve_jax.tracks.architecture.baselines import USUAL, baselines
from asi_evolve_jax.tracks.architecture.expectations import EXPECTATIONS
from asi_evolve_jax.tracks.architecture.options import (
  LM_EVAL,
  StageOptions,
  TrackOptions,
  read_rung,
)
from asi_evolve_jax.tracks.architecture.space import ArchitectureSpace
from asi_evolve_jax.tracks.base import (
  MAXIMIZE,
  MINIMIZE,
  Axis,
  Baseline,
  Expectation,
  Metric,
)
from asi_evolve_jax.training import lm_eval_tasks
from asi_evolve_jax.training.synthetic.registry import TASKS

_ROOM = "asi_evolve_jax.tracks.architecture"
# Part of every shape key: raise it when the contract or a gate changes, so
# that Programs are traced and judged again.
_CONTRACT_VERSION = 4


class ArchitectureTrack:
  """See tracks.base.Track; its options are options.TrackOptions.

  Raises:
    SettingsError: if an option cannot be used.
  """

  name = "architecture"
  final_metric = Metric("held_out_bits_per_byte", MINIMIZE, "bits a byte")
  stages: tuple[Stage, ...] = (
    Stage(
      name="trace",
      entry=f"{_ROOM}.trace:run",
      trusted=False,
      preload=(
        f"{_ROOM}.trace",
        "pallas_kernels.delta_rule",
        "pallas_kernels.dplr_delta_rule",
        "pallas_kernels.linear_attention",
        "pallas_kernels.short_conv",
      ),
      budget=0.2,
    ),
    Stage(
      name="judge",
      entry=f"{_ROOM}.judge:run",
      trusted=True,
      makes_artifact=True,
      preload=(f"{_ROOM}.judge",),
      budget=0.25,
    ),
    Stage(
      name="train",
      entry=f"{_ROOM}.train:run",
      trusted=True,
      preload=(f"{_ROOM}.train",),
      budget=0.45,
      reads=("search",),
    ),
    Stage(
      name="score",
      entry=f"{_ROOM}.score:run",
      trusted=True,
      preload=(f"{_ROOM}.score",),
      budget=0.1,
      purposes=(VERIFY,),
      reads=("search", "held_out"),
    ),
  )

  def __init__(self, options: dict[str, Any]):
    self.options = from_config(TrackOptions, options, "track_options")
    # Schedules matter where time does.
    fitness = self.options.fitness
    self._timed = fitness.step_time_weight > 0
    self._fit = self._timed or fitness.modelled_cycles_weight > 0
    self.metric = Metric(
      "fitness" if self._fit else "bits_per_byte",
      MINIMIZE,
      "bits a byte",
      timed=self._timed,
    )
    self.space = ArchitectureSpace(schedule=self._fit)
    self._published = baselines()
    names = [b.name for b in self._published]
    wanted = self.options.baselines or USUAL
    named = (
      self.options.reference,
      fitness.step_time_reference,
      *self.options.yardsticks,
      *wanted,
    )
    for name in named:
      if name not in names:
        raise SettingsError(
          f"track_options names the baseline {name!r}; there are "
          f"{', '.join(names)}."
        )
    self._baselines = tuple(b for b in self._published if b.name in wanted)
    if self.options.lm_eval.tasks:
      *others, score = self.stages
      reads = (*score.reads, *self._lm_eval_folders())
      self.stages = (*others, dataclasses.replace(score, reads=reads))

  @functools.cached_property
  def brief(self) -> str:
    """The contract, for people and for language models."""
    return importlib.resources.files(_ROOM).joinpath("brief.md").read_text()

  def baselines(self) -> tuple[Baseline, ...]:
    """Returns the published mixers that are wanted; see baselines.py."""
    return self._baselines

  def shape_key(self, rung: RungSettings, purpose: str = SEARCH) -> str:
    """Names all that an Artifact and its gates depend on beside the Program."""
    options = self._stage_options(rung)
    # What was judged for the search is judged again, by more gates.
    more = [VERIFY, options.preflight] if purpose == VERIFY else []
    return digest(
      _CONTRACT_VERSION,
      plain(options.model),
      options.run.batch,
      options.kept_lengths(),
      options.platform,
      program_id(options.reference_source),
      *([True] if options.check_kernels else []),
      *([options.preflight] if options.modelled_cycles_weight else []),
      *more,
    )

  def stage_options(self, rung: RungSettings) -> dict[str, Any]:
    """Returns a StageOptions as JSON.

    Raises:
      SettingsError: if the rung's options cannot be used.
    """
    return plain(self._stage_options(rung))

  def _stage_options(self, rung: RungSettings) -> StageOptions:
    model, run = read_rung(
      self.options, rung.options, f"options of rung {rung.name!r}"
    )
    lm_eval = self.options.lm_eval
    if run.generalisation.lm_eval and not (
      lm_eval.tasks and model.vocab == 256
    ):
      raise SettingsError(
        f"rung {rung.name!r} asks for generalisation.lm_eval: name tasks in "
        "track_options.lm_eval.tasks, and leave model.vocab at 256, the bytes "
        "that their text becomes."
      )
    sources = {b.name: b.source for b in self._published}
    fitness = self.options.fitness
    return StageOptions(
      model=model,
      run=run,
      reference_source=sources[self.options.reference],
      yardsticks=tuple(
        program_id(sources[name]) for name in self.options.yardsticks
      ),
      platform=self.options.platform,
      check_kernels=self.options.check_kernels,
      preflight=self.options.preflight,
      lm_eval=lm_eval,
      step_time_weight=fitness.step_time_weight,
      step_time_source=(
        sources[fitness.step_time_reference] if self._timed else ""
      ),
      modelled_cycles_weight=fitness.modelled_cycles_weight,
    )

  def work(self, rung: RungSettings, purpose: str = SEARCH) -> float:
    """Returns about the multiply-adds of one seed's training.

    Of the weights alone: a mixer's own work a token is not known before it is
    traced, and grows with the width as theirs does.
    """
    options = self._stage_options(rung)
    model, run = options.model, options.run
    a_layer = (4.0 + 2.0 * model.mlp_ratio) * model.dim
    a_token = model.dim * (model.layers * a_layer + model.vocab)
    return a_token * run.batch * run.time * run.seed_steps(purpose)

  def manifest(self) -> dict[str, Any]:
    """Builds the corpus where it is not there yet; returns its manifest.

    With tasks of lm-evaluation-harness it fetches their data too, and "lm_eval"
    says what they are.
    """
    from asi_evolve_jax.training import corpus

    options = self.options.lm_eval
    try:
      found = corpus.build(**plain(self.options.corpus)).manifest
      if options.tasks:
        tasks = lm_eval_tasks.prepare(
          options.tasks, options.include_path, options.data_dir
        )
        found = {**found, "lm_eval": tasks}
      return found
    except corpus.CorpusError as error:
      raise SettingsError(f"track_options.corpus: {error}") from error
    except lm_eval_tasks.LmEvalError as error:
      raise SettingsError(str(error)) from error

  def folders(self) -> dict[str, str]:
    """Returns the corpus's two folders, "search" and "held_out", and more.

    With tasks of lm-evaluation-harness: "lm_eval", where their data lies, and
    "lm_eval_tasks", where task files lie.
    """
    return self._folders

  @functools.cached_property
  def _folders(self) -> dict[str, str]:
    from asi_evolve_jax.training import corpus

    options = plain(self.options.corpus)
    del options["wheels_dir"]
    home = corpus.locate(**options)
    found = {name: str(home / name) for name in set(corpus.FOLDERS.values())}
    return found | self._lm_eval_folders()

  def _lm_eval_folders(self) -> dict[str, str]:
    options = self.options.lm_eval
    if not options.tasks:
      return {}
    home = lm_eval_tasks.data_home(options.data_dir)
    found = {"lm_eval": str(home.absolute())}
    if options.include_path:
      found["lm_eval_tasks"] = os.path.abspath(options.include_path)
    return found

  def metrics(self) -> tuple[Metric, ...]:
    """Returns the scores on texts and on tasks."""
    raw = [Metric("bits_per_byte", MINIMIZE, "bits a byte")]
    return (
      self.metric,
      *(raw if self._fit else []),
      self.final_metric,
      Metric("other_bits_per_byte", MINIMIZE, "bits a byte"),
      Metric("gen/code_bits_per_byte", MINIMIZE, "bits a byte"),
      Metric("gen/length_bits_per_byte", MINIMIZE, "bits a byte"),
      *(
        Metric(f"{suite}/{name}", MAXIMIZE, "of the answers")
        for suite in ("dev", "gen")
        for name in TASKS
      ),
      *(
        Metric(
          f"{LM_EVAL}{task}",
          MINIMIZE if lm_eval_tasks.is_lower_better(metric) else MAXIMIZE,
          metric,
        )
        for task, metric in self.options.lm_eval.tasks.items()
      ),
      # Runs before the suites called it so.
      Metric("recall", MAXIMIZE, "of the answers"),
    )

  def expectations(self) -> tuple[Expectation, ...]:
    """Returns how the literature orders the baselines."""
    return EXPECTATIONS

  def axes(self) -> tuple[Axis, ...]:
    """Returns the operator family and, where time counts, the step time."""
    speed = (Axis("step_time_ratio", (0.8, 1.0, 1.25)),) if self._timed else ()
    return (Axis("update"), Axis("decay"), *speed)

  def columns(self) -> tuple[str, ...]:
    """Names what stands beside the score in a leaderboard."""
    return (
      *(("bits_per_byte",) if self._fit else ()),
      *(("step_time_ratio",) if self._timed else ()),
      *(("modelled_cycles",) if self.options.preflight else ()),
      "recall",  # runs before the suites called it so
      *(f"dev/{name}" for name in TASKS),
      *(f"gen/{name}" for name in TASKS),
      *(f"{LM_EVAL}{task}" for task in self.options.lm_eval.tasks),
      "other_bits_per_byte",
      "gen/code_bits_per_byte",
      "parameters",
      "gen/length_bits_per_byte",
      "flops_per_token",
      "decode_flops_per_token",
      "step_time_s",
      "train_memory_bytes",
      "state_size",
    )
