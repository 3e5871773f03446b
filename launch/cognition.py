"""The Cognition Base by hand, or its role.

python -m launch.cognition --records=URL    the role: lessons into Insights
python -m launch.cognition query TEXT       what would be retrieved
python -m launch.cognition stats            what the base holds; with
                                            --records=URL each item's lift
python -m launch.cognition lint             names that exist nowhere
python -m launch.cognition add PAPER        a candidate item, for review
"""

import sys

if __name__ == "__main__":
  # The role's --records is required, so each has flags of its own.
  if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
    from launch import _cognition_base

    _cognition_base.run()
  else:
    from asi_evolve_jax.roles.cognition import CognitionRole
    from launch import _role

    _role.main(
      "cognition",
      lambda run: CognitionRole(run.records, run.settings, run.track),
    )
