"""Drafts of a new track's brief and prompts, for a person to edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation.limits import secret_values
from asi_evolve_jax.llm import connect, port
from asi_evolve_jax.llm.port import Completion, Model, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.records.schema import Call
from asi_evolve_jax.settings import (
  ModelSettings,
  ResearcherSettings,
  RunSettings,
  SettingsError,
)
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
_TURNS = 2


class ManagerError(RuntimeError):
  """There is no draft; the text says why and what to do."""


class Ledger:
  """An llm.client.Book of a command that belongs to no run.

  Args:
    money: that may be spent; 0: as much as it takes.
  """

  def __init__(self, money: float):
    self._money = money
    self.calls: dict[str, Call] = {}

  def record(self, call: Call) -> bool:
    """See llm.client.Book."""
    new = call.id not in self.calls
    self.calls.setdefault(call.id, call)
    return new

  def find(self, call_id: str) -> Call | None:
    """See llm.client.Book."""
    return self.calls.get(call_id)

  def left(self) -> Mapping[str, float]:
    """See llm.client.Book."""
    return {"money": self._money - self.spent("money")} if self._money else {}

  def spent(self, name: str) -> float:
    """Returns what all calls took of "tokens" or "money"."""
    return sum(call.usage.get(name, 0.0) for call in self.calls.values())


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
    ManagerError: if there is no draft, or a file of one already.
    OSError, UnicodeDecodeError: if a file cannot be read or written.
  """
  task = path.read_text(encoding="utf-8").strip()
  if not task:
    raise SettingsError(f"{path} is empty: describe the task there.")
  _targets(folder)  # before anything is paid for
  settings = RunSettings(
    name="draft",
    track=_EXAMPLE,
    llm=llm,
    researcher=ResearcherSettings(proposer=connect.LLM),
    models=models,
  )
  connect.check(settings)
  why = connect.unusable(settings)
  if why:
    raise SettingsError(
      f"{why}: set it to a key (docs/models.md), or name a server that needs "
      "none, openai:<base URL>."
    )
  role = connect.RESEARCHER
  model = connect.connect(settings, role, ledger, secret_values())
  if model is None:
    raise SettingsError(f"{llm!r} answers nothing new: give gemini or vertex.")
  example = registry.load(_EXAMPLE, {}).brief
  return write(draft(model, models.names[0], task, example), folder)


def draft(model: Model, name: str, task: str, example: str) -> dict[str, str]:
  """Returns field -> text of a draft.

  Args:
    model: to ask.
    name: of the model.
    task: what the person wants.
    example: brief of another track.

  Raises:
    ManagerError: if no reply can be used.
  """
  text = prompting.template(
    "manager", task=task, example=example, max_chars=_MAX_CHARS
  )
  after = problem = ""
  for _ in range(_TURNS):
    completion = model.complete(
      Prompt(
        role=ROLE,
        purpose="draft",
        about="a new track",
        text=text + after,
        schema=_SCHEMA,
        model=name,
      )
    )
    if completion.status not in (port.OK, port.CUT, port.INVALID):
      raise ManagerError(f"{name}: {completion.status}: {completion.error}")
    problem = _problem(completion)
    if not problem:
      return {field: completion.data[field].strip() for field in FILES}
    after = prompting.returned("again", completion, problem)
  raise ManagerError(f"{name} wrote nothing usable: {problem}")


def write(texts: Mapping[str, str], folder: Path) -> list[Path]:
  """Writes a draft into `folder`, which is made; returns the files.

  Raises:
    ManagerError: if one of them is there already.
    OSError: if `folder` cannot be written to.
  """
  files = _targets(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for field, path in files.items():
    with open(path, "x", encoding="utf-8") as file:
      file.write(f"{texts[field]}\n")
  return list(files.values())


def _targets(folder: Path) -> dict[str, Path]:
  """Returns field -> file to write in `folder`.

  Raises:
    ManagerError: if one of them is there already.
  """
  found = {name: folder / file for name, file in FILES.items()}
  taken = [str(path) for path in found.values() if path.exists()]
  if taken:
    raise ManagerError(
      f"{', '.join(taken)} exists already and is never overwritten: give "
      "another --out."
    )
  return found


def _problem(completion: Completion) -> str:
  """Returns why a reply cannot be used, or ""."""
  if completion.status != port.OK:
    return completion.error
  said: dict[str, Any] = completion.data
  for field in FILES:
    size = len(said[field])
    if not said[field].strip():
      return f"`{field}` is empty"
    if size > _MAX_CHARS:
      return f"`{field}` has {size} characters, at most {_MAX_CHARS} may be"
  return ""
