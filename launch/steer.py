"""`python -m launch.steer --records=URL <verb> ...`: a person's word."""

from __future__ import annotations

import getpass
import sys

from absl import app, flags
from rich.console import Console

from asi_evolve_jax.records import RecordError, StoreError
from asi_evolve_jax.reporting.people import describe
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor import steering
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import attach
from launch import _words

_RECORDS = flags.DEFINE_string(
  "records", "", "URL of the run's records, e.g. runs/x/records."
)
_AUTHOR = flags.DEFINE_string("author", "", "Who says it; default: the user.")
_DESCENDANTS = flags.DEFINE_bool(
  "descendants", False, "veto: the whole line of descent."
)


def _user() -> str:
  try:
    return getpass.getuser()
  except (KeyError, OSError):  # a container's user may have no name
    return ""


def main(argv: list[str]) -> int:
  if len(argv) < 2 or not _RECORDS.value:
    print(steering.USAGE, file=sys.stderr)
    return EXIT_USAGE
  verb, *words = argv[1:]
  try:
    run = attach(_RECORDS.value)
    if verb == "show" and not words:
      steering.show(run, Console())
      return 0
    said = steering.steer(
      run,
      verb,
      words,
      _AUTHOR.value or _user(),
      descendants=_DESCENDANTS.value,
    )
  except (steering.SteerError, SettingsError) as error:
    print(f"steer: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (RecordError, StoreError) as error:
    print(f"steer: {error}", file=sys.stderr)
    return EXIT_FAILED
  view = steering.view_of(run)
  for word in said:
    print(f"{word.key}: {describe(view, word)}, by {word.by}")
  return 0


if __name__ == "__main__":
  app.run(main, flags_parser=_words.parser("steer", steering.USAGE))
