"""Flags of the apps that have a model do something outside any run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from asi_evolve_jax.roles.errands import CALLS, Ledger
from asi_evolve_jax.settings import ModelSettings

LLM = flags.DEFINE_string(
  "llm", "gemini", "Who answers: gemini, vertex or openai:<base URL>."
)
_MODEL = flags.DEFINE_string("model", "", "Its name; default: as in settings.")
_MONEY = flags.DEFINE_float("money", 0.5, "Most that it may cost; 0: no limit.")
_BASE_URL = flags.DEFINE_string("base_url", "", "Instead of Google's.")


def models() -> ModelSettings:
  """Returns config.models as the flags say."""
  found = ModelSettings(base_url=_BASE_URL.value)
  if _MODEL.value:
    found = dataclasses.replace(found, names=(_MODEL.value,))
  return found


@contextlib.contextmanager
def ledger(folder: Path) -> Iterator[Ledger]:
  """Yields an empty Ledger; prints its bill however the errand ends.

  Args:
    folder: for the file of the Calls; must be there at the first.
  """
  found = Ledger(_MONEY.value, folder / CALLS)
  try:
    yield found
  finally:
    if found.calls:
      print(found.bill(), flush=True)
