"""All synthetic tasks by name; docs/suites.md has the usual suites of them."""

from __future__ import annotations

from asi_evolve_jax.training.synthetic import copying, lookup, tracking
from asi_evolve_jax.training.synthetic.task import Task

TASKS: dict[str, Task] = {
  task.name: task for task in (*lookup.TASKS, *copying.TASKS, *tracking.TASKS)
}
