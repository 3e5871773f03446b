"""`python -m launch.engineer --records=URL`: gates, trains and measures."""

import os
import sys

from asi_evolve_jax.evaluation.limits import scrubbed_environment


def _drop_secrets() -> None:
  """Starts this program again without keys in its environment.

  Deleting them from `os.environ` would leave them readable in
  /proc/<pid>/environ, where a candidate could find them.
  """
  clean = scrubbed_environment()
  if set(clean) != set(os.environ):
    arguments = [sys.executable, "-m", "launch.engineer", *sys.argv[1:]]
    os.execve(sys.executable, arguments, clean)


if __name__ == "__main__":
  _drop_secrets()

  from asi_evolve_jax.roles.engineer import Engineer
  from asi_evolve_jax.supervisor.run import OpenRun
  from launch import _role

  def make(run: OpenRun) -> Engineer:
    run.track.manifest()  # builds what this machine does not have yet
    return Engineer(run.records, run.settings, run.track, run_dir=run.run_dir)

  _role.main("engineer", make)
