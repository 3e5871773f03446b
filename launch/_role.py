"""What the role apps share: flags, opening the run, logging, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app, flags

from asi_evolve_jax.records import RecordError, StoreError
from asi_evolve_jax.roles.loop import Role, run_role, setup_logging
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import OpenRun, attach

_RECORDS = flags.DEFINE_string(
  "records",
  None,
  "URL of the run's records, e.g. file:///data/run/records/",
  required=True,
)
_RUN_DIR = flags.DEFINE_string(
  "run_dir", "", "Folder for logs and scratch; default: beside the records."
)


def main(name: str, make: Callable[[OpenRun], Role]) -> None:
  """Runs the role that `make` builds until it is told to stop."""

  def run(argv: list[str]) -> int:
    if len(argv) > 1:
      print(f"unknown arguments: {argv[1:]}", file=sys.stderr)
      return EXIT_USAGE
    try:
      opened = attach(_RECORDS.value, _RUN_DIR.value)
      setup_logging(opened.run_dir / "logs" / f"{name}.log")
      role = make(opened)
    except SettingsError as error:
      print(f"{name}: {error}", file=sys.stderr)
      return EXIT_USAGE
    except (RecordError, StoreError) as error:
      print(f"{name}: {error}", file=sys.stderr)
      return EXIT_FAILED
    return run_role(role)

  app.run(run)
