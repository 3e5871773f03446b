"""Drafts of a new track's brief and prompts, for a person to edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from asi_evolve_jax.llm.port import Model, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.roles import errands
from asi_evolve_jax.roles.errands import ErrandError, Ledger
from asi_evolve_jax.settings import ModelSettings, SettingsError
from asi_evolve_jax.tracks import registry

ROLE = "manager"
# Field of the reply -> file. Prompts have the names that prompting.OWN has.
FILES = {
  "brief": "brief.md",
  "system": "system.md",
  "analyst": "analyst.md",
  "questions": "questions.md",
}
_SCHEMA = {
  "type": "object",
  "properties": {name: {"type": "string"} for name in FILES},
  "required": list(FILES),
}
_MAX_CHARS = 12_000
_EXAMPLE = "circle_packing"  # the track whose brief is shown


def draft_track(
  path: Path, folder: Path, llm: str, models: ModelSettings, ledger: Ledger
) -> list[Path]:
  """Drafts a track from the description in `path`; returns the new files.

  Args:
    path: UTF-8 text.
    folder: for the draft.
    llm: as config.llm.
    models: as config.models.
    ledger: what may be spent, and then what was.

  Raises:
    SettingsError: if nobody can be called, or there is no description.
    ErrandError: if there is no draft, or a file of one already, or `folder`
      cannot be written to.
    OSError, UnicodeDecodeError: if a file cannot be read or written.
  """
  task = path.read_text(encoding="utf-8").strip()
  if not task:
    raise SettingsError(f"{path} is empty: describe the task there.")
  _targets(folder)  # before anything is paid for
  model = errands.reach(llm, models, ledger)
  errands.make_folder(folder)
  example = registry.load(_EXAMPLE, {}).brief
  return write(draft(model, models, task, example), folder)


def draft(
  model: Model, models: ModelSettings, task: str, example: str
) -> dict[str, str]:
  """Returns field -> text of a draft.

  Args:
    model: to ask.
    models: as config.models; the first of the names is asked.
    task: what the person wants.
    example: brief of another track.

  Raises:
    ErrandError: if no reply can be used.
  """
  prompt = Prompt(
    role=ROLE,
    purpose="draft",
    about="a new track",
    text=prompting.template(
      "manager", task=task, example=example, max_chars=_MAX_CHARS
    ),
    schema=_SCHEMA,
    model=models.names[0],
  )
  said = errands.ask(
    model.complete, prompt, _problem, context_tokens=models.context_tokens
  )
  return {field: said[field].strip() for field in FILES}


def write(texts: Mapping[str, str], folder: Path) -> list[Path]:
  """Writes a draft into `folder`; returns the files.

  Raises:
    ErrandError: if one of them is there already.
    OSError: if `folder` cannot be written to.
  """
  files = _targets(folder)
  for field, path in files.items():
    with open(path, "x", encoding="utf-8") as file:
      file.write(f"{texts[field]}\n")
  return list(files.values())


def _targets(folder: Path) -> dict[str, Path]:
  """Returns field -> file to write in `folder`.

  Raises:
    ErrandError: if one of them is there already.
  """
  found = {name: folder / file for name, file in FILES.items()}
  taken = [str(path) for path in found.values() if path.exists()]
  if taken:
    raise ErrandError(
      f"{', '.join(taken)} exists already and is never overwritten: give "
      "another --out."
    )
  return found


def _problem(said: Mapping[str, str]) -> str:
  """Returns why a draft cannot be used, or ""."""
  for field in FILES:
    size = len(said[field])
    if not said[field].strip():
      return f"`{field}` is empty"
    if size > _MAX_CHARS:
      return f"`{field}` has {size} characters, at most {_MAX_CHARS} may be"
  return ""
