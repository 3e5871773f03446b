"""`python -m launch.verifier --records=URL`: fresh seeds for finalists."""

from asi_evolve_jax.roles.verifier import Verifier
from launch import _role

if __name__ == "__main__":
  _role.main(
    "verifier", lambda run: Verifier(run.records, run.settings, run.track)
  )
