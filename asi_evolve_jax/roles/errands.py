"""What a person has a model do outside any run: one command, one answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation.limits import secret_values
from asi_evolve_jax.llm import connect, port
from asi_evolve_jax.llm.port import Completion, Model, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.records.codec import encode
from asi_evolve_jax.records.schema import Call
from asi_evolve_jax.settings import (
  ModelSettings,
  ResearcherSettings,
  RunSettings,
  SettingsError,
)

CALLS = "calls.jsonl"
_TURNS = 2
_SHOWN_REPLY = 100_000  # characters; more than any errand asks for


class ErrandError(RuntimeError):
  """There is no answer; the text says why and what to do."""


class NobodyToAsk(SettingsError):
  """No model is named, or its credentials are not there."""


class Ledger:
  """An llm.client.Book of a command that belongs to no run.

  Args:
    money: that may be spent; 0: as much as it takes.
    path: every Call is added to this file, a line of JSON each in the form
      of a record; it is made with the first.
  """

  def __init__(self, money: float, path: Path):
    self._money = money
    self._path = path
    self.calls: dict[str, Call] = {}

  def record(self, call: Call) -> bool:
    """See llm.client.Book.

    Raises:
      OSError: if the file cannot be written to.
    """
    if call.id in self.calls:
      return False
    self.calls[call.id] = call
    with open(self._path, "ab") as file:
      file.write(encode(call) + b"\n")
    return True

  def find(self, call_id: str) -> Call | None:
    """See llm.client.Book."""
    return self.calls.get(call_id)

  def left(self) -> Mapping[str, float]:
    """See llm.client.Book."""
    return {"money": self._money - self.spent("money")} if self._money else {}

  def spent(self, name: str) -> float:
    """Returns what all calls took of "tokens" or "money"."""
    return sum(call.usage.get(name, 0.0) for call in self.calls.values())

  def bill(self) -> str:
    """Returns what all calls took, and where they are, in words."""
    tokens, money = self.spent("tokens"), self.spent("money")
    return f"{tokens:.0f} tokens, {money:.4f} in money; see {self._path}"


def make_folder(folder: Path) -> None:
  """Makes the folder of an errand's files, before anything is paid for.

  Raises:
    ErrandError: if nothing can be written there.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise ErrandError(
      f"nothing can be written to {folder} ({error.strerror}): give another "
      "--out."
    ) from error


def reach(llm: str, models: ModelSettings, ledger: Ledger) -> Model:
  """Returns the model that does an errand.

  Args:
    llm: as config.llm.
    models: as config.models.
    ledger: what may be spent, and then what was.

  Raises:
    NobodyToAsk: if nobody can be called.
    SettingsError: if the settings are wrong.
  """
  settings = RunSettings(
    name="errand",
    track="none",
    llm=llm,
    researcher=ResearcherSettings(proposer=connect.LLM),
    models=models,
  )
  connect.check(settings)
  why = connect.unusable(settings)
  if why:
    raise NobodyToAsk(
      f"{why}: set it to a key (docs/models.md), or name a server that needs "
      "none, openai:<base URL>."
    )
  model = connect.connect(settings, connect.RESEARCHER, ledger, secret_values())
  if model is None:
    raise NobodyToAsk(f"{llm!r} answers nothing new: give gemini or vertex.")
  return model


def ask(
  complete: Callable[[Prompt], Completion],
  prompt: Prompt,
  problem_of: Callable[[Any], str],
  *,
  context_tokens: int,
  pieces: Sequence[prompting.Piece] = (),
) -> Any:
  """Returns the data of a usable reply; one that is not goes back once.

  Args:
    complete: of a Model.
    prompt: has a schema; its text is the task.
    problem_of: what is wrong with a reply's data, for its author, or "".
    context_tokens: most that the prompt may have.
    pieces: what stands before the task.

  Raises:
    ErrandError: if there is no usable reply.
  """
  room = prompting.Room(context_tokens)
  after = problem = ""
  for _ in range(_TURNS):
    completion = room.ask(complete, prompt, pieces, after)
    if completion.status not in (port.OK, port.CUT, port.INVALID):
      raise ErrandError(
        f"{prompt.model}: {completion.status}: {completion.error}"
      )
    if completion.status == port.OK:
      problem = problem_of(completion.data)
    else:
      problem = completion.error
    if not problem:
      return completion.data
    after = prompting.returned("again", completion, problem, shown=_SHOWN_REPLY)
  raise ErrandError(f"{prompt.model} wrote nothing usable: {problem}")
