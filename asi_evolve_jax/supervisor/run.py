"""Opening a run: its folder, its Run record, and the refusal to mix configs."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation import machine
from asi_evolve_jax.evaluation.suites import check_suites
from asi_evolve_jax.proposers import registry as proposers
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import Run
from asi_evolve_jax.roles import seeding
from asi_evolve_jax.roles.embedding import prepare_embeddings
from asi_evolve_jax.roles.verifier import check_reference, check_settings
from asi_evolve_jax.search import registry as samplers
from asi_evolve_jax.settings import (
  RunSettings,
  SettingsError,
  difference,
  from_config,
  of_run,
  plain,
)
from asi_evolve_jax.tracks import registry
from asi_evolve_jax.tracks.base import Track

# Where a run lives and on what does not change what it computes.
_LOCAL = ("run_dir", "workers", "durable")


@dataclasses.dataclass(frozen=True)
class OpenRun:
  """A run as every role sees it."""

  records: Records
  settings: RunSettings
  track: Track
  run_dir: Path


def settings_from(config: Any) -> RunSettings:
  """Converts and checks a config.

  Raises:
    SettingsError: naming the key and the remedy.
  """
  settings = from_config(RunSettings, config)
  if not settings.ladder:
    raise SettingsError("config.ladder is empty: give at least one rung.")
  names = [rung.name for rung in settings.ladder]
  if settings.verify.rung is not None:
    names.append(settings.verify.rung.name)
  if len(set(names)) != len(names):
    raise SettingsError(f"rungs must have names of their own, got {names}.")
  for rung in settings.ladder:
    if not rung.seeds:
      raise SettingsError(f"rung {rung.name} has no seeds: give at least one.")
    if not 0 < rung.promote <= 1:
      raise SettingsError(
        f"rung {rung.name}: promote is a share in (0, 1], got {rung.promote}."
      )
  limits = {
    "rounds": settings.rounds,
    "patience": settings.patience,
    "workers.keep_scratch_s": settings.workers.keep_scratch_s,
    "seed_from.best": settings.seed_from.best,
    **{f"budget.{k}": v for k, v in plain(settings.budget).items()},
    **{
      f"approve_above.{k}": v for k, v in plain(settings.approve_above).items()
    },
  }
  for name, value in limits.items():
    if value < 0:
      raise SettingsError(f"config.{name} cannot be negative, got {value}.")
  check_settings(settings)
  check_suites(settings)
  proposers.check(settings)
  samplers.make_sampler(settings.sampler, random.Random(0))
  return settings


def open_or_create(settings: RunSettings) -> OpenRun:
  """Opens the run in `settings.run_dir`, or begins it there.

  Raises:
    SettingsError: if the run there was begun with another config (the message
      shows the difference), the track has no such reference baseline, or the
      embedding model cannot be had.
  """
  run_dir = Path(settings.run_dir or f"runs/{settings.name}").resolve()
  track = registry.load(settings.track, settings.track_options)
  check_reference(settings, track)
  samplers.check(settings.sampler, track)
  # Fetched once and with an error that people see, before any role wants it.
  prepare_embeddings(settings)
  for folder in ("logs", "scratch", "cache", "report"):
    (run_dir / folder).mkdir(parents=True, exist_ok=True)
  records = Records.open(
    f"file://{run_dir / 'records'}/", durable=settings.durable
  )
  begun = _begun(records)
  if begun is None:
    seeding.imports(settings, track)  # says now what is wrong with it
    record = Run(
      name=settings.name,
      track=settings.track,
      config=plain(settings),
      commit=machine.commit(),
      machine=machine.machine(),
      versions=machine.versions(),
      manifest=track.manifest(),
    )
    if not records.put(record)[0]:  # another supervisor was faster
      begun = _begun(records)
  if begun is not None:
    before = plain(of_run(begun.config))
    lines = difference(_portable(before), _portable(plain(settings)))
    if lines:
      raise SettingsError(
        f"{run_dir} holds a run with another config:\n  "
        + "\n  ".join(lines)
        + "\nRun it with its own config, or give another --config.run_dir."
      )
    _check_manifest(begun.manifest, track.manifest(), run_dir)
  return OpenRun(records, settings, track, run_dir)


def attach(url: str, run_dir: str = "") -> OpenRun:
  """Opens a run that a supervisor has begun, as a role does.

  Args:
    url: of the records.
    run_dir: folder for logs and scratch; by default the records' parent.

  Raises:
    SettingsError: if there is no run at `url`.
  """
  records = Records.open(url)
  begun = _begun(records)
  if begun is None:
    raise SettingsError(
      f"{url} holds no run: begin one with launch.evolve, or mend the URL."
    )
  settings = of_run(begun.config)
  if settings.durable:
    records = Records.open(url, durable=True)
  track = registry.load(settings.track, settings.track_options)
  folder = Path(run_dir) if run_dir else _parent(url)
  for name in ("logs", "scratch", "cache", "report"):
    (folder / name).mkdir(parents=True, exist_ok=True)
  return OpenRun(records, settings, track, folder)


def _begun(records: Records) -> Run | None:
  record = records.get(Run.kind, Run.kind)
  return record if isinstance(record, Run) else None


def _parent(url: str) -> Path:
  if "://" in url and not url.startswith("file://"):
    return Path("runs/remote").resolve()
  return Path(url.removeprefix("file://")).resolve().parent


def _portable(config: dict[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in config.items() if k not in _LOCAL}


def _check_manifest(old: Any, new: Any, run_dir: Path) -> None:
  lines = difference(old, new, "manifest")
  if lines:
    raise SettingsError(
      f"{run_dir} was measured on other data:\n  "
      + "\n  ".join(lines[:10])
      + "\nScores of different data cannot be compared: use another run_dir."
    )
