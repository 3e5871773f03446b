"""All synthetic tasks by name, and which of them a search may see."""

from __future__ import annotations

from asi_evolve_jax.training.synthetic import copying, lookup, tracking
from asi_evolve_jax.training.synthetic.task import Task

TASKS: dict[str, Task] = {
  task.name: task for task in (*lookup.TASKS, *copying.TASKS, *tracking.TASKS)
}

# The usual two suites. A config may part them otherwise, as calibration does,
# but no task can be in a ladder's and in verify's at once.
DEVELOPMENT = (
  "recall",
  "in_context_recall",
  "fuzzy_recall",
  "noisy_recall",
  "rebinding_recall",
  "selective_copying",
  "compression",
  "memorisation",
)
GENERALISATION = (
  "parity",
  "permutations_s3",
  "permutations_s5",
  "dyck",
  "multi_hop_recall",
)
