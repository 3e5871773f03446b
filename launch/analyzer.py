"""`python -m launch.analyzer --records=URL`: turns Results into Analyses."""

from asi_evolve_jax.roles.analyzer import Analyzer
from launch import _role

if __name__ == "__main__":
  _role.main(
    "analyzer", lambda run: Analyzer(run.records, run.settings, run.track)
  )
