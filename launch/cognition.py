"""`python -m launch.cognition --records=URL`: turns lessons into Insights."""

from asi_evolve_jax.roles.cognition import CognitionRole
from launch import _role

if __name__ == "__main__":
  _role.main(
    "cognition",
    lambda run: CognitionRole(run.records, run.settings, run.track),
  )
