"""Programs that come into a run from elsewhere: of another run, of a person.

Nothing that the other run measured is believed: it chooses who comes and is
told in the motivation and the origin, and that is all.
"""

from __future__ import annotations

import ast
import pathlib
from typing import Any

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records import RecordError, Records, StoreError, View
from asi_evolve_jax.records.archive import ArchiveError, read_archive
from asi_evolve_jax.records.schema import IMPORT, Program, Proposal
from asi_evolve_jax.settings import RunSettings, SettingsError
from asi_evolve_jax.tracks.base import Track

AUTHOR = "import"
PERSON = "person"
PRIORITY = 60  # behind the baselines, before anything new


def imports(
  settings: RunSettings, track: Track
) -> list[tuple[Program, Proposal]]:
  """Returns the Programs of `settings.seed_from`, each once.

  A person's files come first, then the other run's Programs, best first.

  Args:
    settings: of this run.
    track: of this run; the other's must be the same.

  Raises:
    SettingsError: if a file cannot be read as Python or holds a baseline, or
      if there is no such run, it has another track, or none of its candidates
      has a score.
  """
  seed = settings.seed_from
  found = [_written(name, settings, track) for name in seed.programs]
  if seed.records and seed.best:
    found += _best(settings, track)
  once: dict[str, tuple[Program, Proposal]] = {}
  for program, proposal in found:
    once.setdefault(program.hash, (program, proposal))
  return list(once.values())


def _written(
  name: str, settings: RunSettings, track: Track
) -> tuple[Program, Proposal]:
  where = f"config.seed_from.programs names {name}"
  try:
    source = pathlib.Path(name).read_text(encoding="utf-8")
    tree = ast.parse(source)
  except (OSError, UnicodeDecodeError) as e:
    raise SettingsError(f"{where}, which cannot be read: {e}.") from e
  except (SyntaxError, ValueError) as e:
    raise SettingsError(f"{where}, which is no Python: {e}.") from e
  program = program_id(source)
  for baseline in track.baselines():
    if program == program_id(baseline.source):
      raise SettingsError(
        f"{where}, which is the baseline {baseline.name}: take it out."
      )
  record = Program(hash=program, track=settings.track, source=source)
  return record, Proposal(
    program=program,
    track=settings.track,
    name=pathlib.Path(name).stem.replace("_", "-"),
    author=PERSON,
    round=0,
    operator=IMPORT,
    motivation=ast.get_docstring(tree) or f"From the file {name}.",
    origin={"file": name},
  )


def _best(
  settings: RunSettings, track: Track
) -> list[tuple[Program, Proposal]]:
  where = settings.seed_from.records
  view, seal = _read(where, track)
  run = view.run
  if run is None:
    raise SettingsError(
      f"config.seed_from.records is {where!r}, which holds no run: give an "
      "archive of `launch.records export` or the URL of a run's records."
    )
  if run.track != settings.track:
    raise SettingsError(
      f"config.seed_from.records is a run of {run.track}, this one is of "
      f"{settings.track}: Programs of one track mean nothing to another."
    )
  own = {program_id(baseline.source) for baseline in track.baselines()}
  published = own | set(view.baselines)
  ladder = [rung["name"] for rung in run.config.get("ladder", ())]
  for rung in reversed(ladder):
    best = [
      program
      for program in view.ranked(rung)
      if program in view.programs and program not in published
    ]
    if best:
      chosen = best[: settings.seed_from.best]
      origin = {"run": run.name, "records": where, "seal": seal, "rung": rung}
      return [_import(view, p, track, settings, origin) for p in chosen]
  raise SettingsError(
    f"config.seed_from.records is {where!r}, where no candidate has a score."
  )


def _read(where: str, track: Track) -> tuple[View, str]:
  view = View(track.metric.name, track.metric.direction)
  seal = ""
  try:
    if where.endswith(".zip"):
      records, _, summary = read_archive(where)
      seal = summary.seal
    else:
      records, _ = Records.open(where).follow()
  except (ArchiveError, RecordError, StoreError) as e:
    raise SettingsError(f"config.seed_from.records: {e}") from e
  view.update(records)
  return view, seal


def _import(
  view: View,
  program: str,
  track: Track,
  settings: RunSettings,
  origin: dict[str, Any],
) -> tuple[Program, Proposal]:
  there = view.proposal_of[program]
  score = view.score(program, origin["rung"])
  assert view.run is not None
  told = {
    **origin,
    "proposal": there.id,
    "author": there.author,
    "score": score,
    "commit": view.run.commit,
  }
  record = Program(
    hash=program, track=settings.track, source=view.programs[program].source
  )
  return record, Proposal(
    program=program,
    track=settings.track,
    name=there.name,
    author=AUTHOR,
    round=0,
    operator=IMPORT,
    motivation=(
      f"From the run {origin['run']} ({origin['records']}), proposal "
      f"{there.id} by {there.author}, where it scored {score:.6g} at "
      f"{origin['rung']}. Measured again here. Its motivation there:\n"
      f"{there.motivation}"
    ),
    genome=track.space.place(there.genome),
    origin=told,
  )
