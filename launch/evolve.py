"""`python -m launch.evolve --config=configs/quickstart.py`: a whole run.

Exit codes: 0 finished, 1 failed, 2 a config or flag is wrong, 3 stopped by
the first Ctrl-C (the same command goes on), 130 stopped at once.
"""

from __future__ import annotations

import sys

from absl import app
from ml_collections import config_flags

from asi_evolve_jax.records import RecordError, StoreError
from asi_evolve_jax.roles.loop import setup_logging
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import open_or_create, settings_from
from asi_evolve_jax.supervisor.supervisor import Supervisor
from launch import _config

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "A config file, e.g. configs/quickstart.py:smoke."
)


def main(argv: list[str]) -> int:
  if len(argv) > 1 or _CONFIG.value is None:
    print(
      "usage: python -m launch.evolve --config=configs/NAME.py[:VARIANT] "
      "[--config.KEY=VALUE ...]",
      file=sys.stderr,
    )
    return EXIT_USAGE
  try:
    settings = settings_from(_CONFIG.value)
    run = open_or_create(settings)
  except SettingsError as error:
    print(f"evolve: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (RecordError, StoreError) as error:
    print(f"evolve: {error}", file=sys.stderr)
    return EXIT_FAILED
  setup_logging(run.run_dir / "logs" / "evolve.log")
  url = f"file://{run.run_dir / 'records'}/"
  return Supervisor(run, url).main()


if __name__ == "__main__":
  app.run(main, flags_parser=_config.parser("evolve"))
