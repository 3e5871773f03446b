"""`python -m launch.manager TASK.md --out=FOLDER`: drafts a new track."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from absl import app, flags

from asi_evolve_jax.roles import manager
from asi_evolve_jax.settings import ModelSettings, SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from launch import _words

USAGE = """\
python -m launch.manager TASK.md --out=FOLDER

A language model turns a description of a task into the brief and the prompts of
a new track, and the questions that are open, for a person to edit.
"""

_OUT = flags.DEFINE_string("out", "", "Folder for the draft.")
_LLM = flags.DEFINE_string(
  "llm", "gemini", "Who answers: gemini, vertex or openai:<base URL>."
)
_MODEL = flags.DEFINE_string("model", "", "Its name; default: as in settings.")
_MONEY = flags.DEFINE_float("money", 0.5, "Most that it may cost; 0: no limit.")
_BASE_URL = flags.DEFINE_string("base_url", "", "Instead of Google's.")


def main(argv: list[str]) -> int:
  if len(argv) != 2 or not _OUT.value:
    print(USAGE, file=sys.stderr)
    return EXIT_USAGE
  try:
    models = ModelSettings(base_url=_BASE_URL.value)
    if _MODEL.value:
      models = dataclasses.replace(models, names=(_MODEL.value,))
    ledger = manager.Ledger(_MONEY.value)
    folder = Path(_OUT.value)
    files = manager.draft_track(
      Path(argv[1]), folder, _LLM.value, models, ledger
    )
  except SettingsError as error:
    print(f"manager: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (manager.ManagerError, OSError, UnicodeDecodeError) as error:
    print(f"manager: {error}", file=sys.stderr)
    return EXIT_FAILED
  for file in files:
    print(file)
  print(
    f"{ledger.spent('tokens'):.0f} tokens, {ledger.spent('money'):.4f} in "
    "money. Read questions.md first; docs/adding_a_track.md says what else a "
    "track needs."
  )
  return 0


if __name__ == "__main__":
  app.run(main, flags_parser=_words.parser("manager", USAGE))
