"""`python -m launch.manager TASK.md --out=FOLDER`: drafts a new track."""

from __future__ import annotations

import sys
from pathlib import Path

from absl import app, flags

from asi_evolve_jax.roles import manager
from asi_evolve_jax.roles.errands import ErrandError
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from launch import _errand, _words

USAGE = """\
python -m launch.manager TASK.md --out=FOLDER

A language model turns a description of a task into the brief and the prompts of
a new track, and the questions that are open, for a person to edit.
"""

_OUT = flags.DEFINE_string("out", "", "Folder for the draft.")


def main(argv: list[str]) -> int:
  if len(argv) != 2 or not _OUT.value:
    print(USAGE, file=sys.stderr)
    return EXIT_USAGE
  try:
    models, folder = _errand.models(), Path(_OUT.value)
    with _errand.ledger(folder) as ledger:
      files = manager.draft_track(
        Path(argv[1]), folder, _errand.LLM.value, models, ledger
      )
  except SettingsError as error:
    print(f"manager: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (ErrandError, OSError, UnicodeDecodeError) as error:
    print(f"manager: {error}", file=sys.stderr)
    return EXIT_FAILED
  for file in files:
    print(file)
  print(
    "Read questions.md first; docs/adding_a_track.md says what else a track "
    "needs."
  )
  return 0


if __name__ == "__main__":
  app.run(main, flags_parser=_words.parser("manager", USAGE))
