"""`python -m launch.researcher --records=URL`: proposes Programs."""

from asi_evolve_jax.roles.researcher import Researcher
from cognition import ITEMS_DIR
from launch import _role

if __name__ == "__main__":
  _role.main(
    "researcher",
    lambda run: Researcher(run.records, run.settings, run.track, ITEMS_DIR),
  )
