"""`python -m launch.records ls|show|export|import|compact --records=URL`."""

from __future__ import annotations

import sys

from absl import app, flags, logging
from rich.console import Console

from asi_evolve_jax.records import RecordError, StoreError, commands
from asi_evolve_jax.records.archive import ArchiveError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from launch import _words

_RECORDS = flags.DEFINE_string(
  "records", "", "URL of the records: a folder, file:// or gs://."
)
_LIMIT = flags.DEFINE_integer("limit", 20, "ls: rows shown; 0: all.")
_SEAL = flags.DEFINE_string(
  "seal", "", "import: the seal that export printed, to be checked."
)


def main(argv: list[str]) -> int:
  # Set-aside records are listed below, not logged in between.
  logging.set_verbosity(logging.ERROR)
  try:
    commands.run(
      argv[1:],
      _RECORDS.value,
      Console(),
      limit=_LIMIT.value,
      seal=_SEAL.value,
    )
  except commands.UsageError as error:
    print(f"records: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (RecordError, StoreError, ArchiveError) as error:
    print(f"records: {error}", file=sys.stderr)
    return EXIT_FAILED
  return 0


if __name__ == "__main__":
  app.run(main, flags_parser=_words.parser("records", commands.USAGE))
