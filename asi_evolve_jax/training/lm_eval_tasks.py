"""Tasks of lm-evaluation-harness: fetched ahead of need, run without a network.

The harness is an extra: nothing imports it but the functions here and
byte_lm.py, where a config asks for it. What its tasks read is fetched into one
folder by a process of its own, so that neither a supervisor nor an Engineer
holds the harness in memory, and the stage that scores only reads that folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from asi_evolve_jax.training import wheels

if TYPE_CHECKING:
  from asi_evolve_jax.training.trainer import Trainer

EXTRA = "pip install 'asi-evolve-jax[lm-eval]'"
# The harness's own metrics that are better when lower.
LOWER_IS_BETTER = frozenset(
  {
    *("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"),
    *("brier_score", "ter"),
  }
)


class LmEvalError(RuntimeError):
  """The harness, a task or a metric cannot be had; says what to do."""


def data_home(data_dir: str = "") -> pathlib.Path:
  """Returns the folder for data sets; by default `lm_eval` in the cache."""
  return pathlib.Path(data_dir) if data_dir else wheels.cache_home() / "lm_eval"


def is_lower_better(metric: str) -> bool:
  """Whether less of a metric, perhaps with its filter, is better."""
  return metric.partition(",")[0] in LOWER_IS_BETTER


def prepare(
  tasks: Mapping[str, str], include_path: str = "", data_dir: str = ""
) -> dict[str, Any]:
  """Fetches what tasks read, and checks that they can be scored.

  Args:
    tasks: name of a task or a group to the metric that counts.
    include_path: folder with more task files, whose relative paths begin there;
      "": the harness's own alone.
    data_dir: as in `data_home`.

  Returns:
    JSON of what scores hang on: "version" of the harness, and of each task its
    "version", "documents" and a "hash" of them.

  Raises:
    LmEvalError: if a task cannot be had or scored.
  """
  home = data_home(data_dir).absolute()
  home.mkdir(parents=True, exist_ok=True)
  include_path = os.path.abspath(include_path) if include_path else ""
  _require()
  done = subprocess.run(
    [sys.executable, "-P", "-m", __name__],
    input=json.dumps([dict(tasks), include_path]).encode(),
    stdout=subprocess.PIPE,
    check=False,
    env={
      **os.environ,
      "HF_HOME": str(home),
      "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    },
  )
  try:
    # Whatever else is printed comes before it.
    found = json.loads(done.stdout.splitlines()[-1])
  except (ValueError, IndexError) as error:
    raise LmEvalError(
      f"the process that fetches tasks of lm-evaluation-harness ended with "
      f"{done.returncode}; what it said stands above."
    ) from error
  if "error" in found:
    raise LmEvalError(found["error"])
  return found


def offline(home: pathlib.Path, scratch: pathlib.Path) -> None:
  """Lets the harness find what `prepare` fetched, and reach nothing else.

  Call it before anything imports the harness. Reading a data set takes locks
  beside its files, which may be read-only: so it works in a copy of the folder
  in `scratch`, whose files are links.

  Args:
    home: of `data_home`.
    scratch: a folder to write to.
  """
  copy = scratch / "lm_eval"
  for folder, _, names in os.walk(home):
    there = copy / os.path.relpath(folder, home)
    there.mkdir(parents=True, exist_ok=True)
    for name in names:
      link = there / name
      if not name.endswith(".lock") and not link.exists():
        link.symlink_to(pathlib.Path(folder, name).resolve())
  os.environ.update(
    HF_HOME=str(copy), HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1"
  )


def measure(
  trainer: Trainer,
  params: dict[str, Any],
  tasks: Mapping[str, str],
  *,
  include_path: str = "",
  limit: int = 0,
) -> dict[str, float]:
  """Returns a trained model's score on every task.

  Args:
    trainer: of a model of bytes.
    params: that training gave.
    tasks: name of a task or a group to the metric that counts.
    include_path: as in `prepare`.
    limit: documents a task, the first; 0: all.

  Raises:
    LmEvalError: if the harness is not installed, or a task has no such metric,
      or several by different filters.
  """
  _require()
  import lm_eval

  from asi_evolve_jax.training.byte_lm import ByteLM

  with contextlib.chdir(include_path or os.curdir):
    results = lm_eval.simple_evaluate(
      model=ByteLM(trainer, params),
      tasks=list(tasks),
      task_manager=_manager(tuple(tasks), include_path),
      limit=limit or None,
      bootstrap_iters=0,
      log_samples=False,
    )
  assert results is not None  # of the only process
  return {
    task: _pick(task, metric, results["results"][task])
    for task, metric in tasks.items()
  }


def _pick(task: str, metric: str, found: Mapping[str, Any]) -> float:
  """Returns the figure "metric,filter" of one task."""
  keys = [k for k in found if metric in (k, k.partition(",")[0])]
  if len(keys) != 1:
    figures = ", ".join(repr(k) for k in found if "," in k)
    raise LmEvalError(
      f"track_options.lm_eval.tasks wants {metric!r} of {task}, which has "
      f"{figures}: name one of these."
    )
  return float(found[keys[0]])


def _require() -> None:
  try:
    metadata.version("lm-eval")
  except metadata.PackageNotFoundError as error:
    raise LmEvalError(
      "track_options.lm_eval names tasks of lm-evaluation-harness, which is "
      f"not installed: {EXTRA}"
    ) from error


def fetch(wanted: Mapping[str, str], include_path: str = "") -> dict[str, Any]:
  """Does the work of `prepare`, in this process and its HF_HOME."""
  manager = _manager(tuple(wanted), include_path)
  unknown = [name for name in wanted if name not in manager.all_tasks]
  if unknown:
    raise LmEvalError(
      f"track_options.lm_eval.tasks names {', '.join(unknown)}, which neither "
      "lm-evaluation-harness nor the folder track_options.lm_eval.include_path "
      f"({include_path or 'not given'}) has."
    )
  with contextlib.chdir(include_path or os.curdir):
    tasks = manager.load(list(wanted))["tasks"]
  for name, task in tasks.items():
    _check(name, task, wanted.get(name, ""))
  return {
    "version": metadata.version("lm-eval"),
    "tasks": {name: _facts(task) for name, task in sorted(tasks.items())},
  }


@functools.lru_cache(maxsize=1)  # for the seeds of a Task
def _manager(wanted: tuple[str, ...], include_path: str) -> Any:
  from lm_eval.tasks import TaskManager

  if include_path:
    # Thousands of files describe the harness's own tasks: seconds to read.
    own = TaskManager(include_path=include_path, include_defaults=False)
    if set(wanted) <= set(own.all_subtasks):
      return own
  return TaskManager(include_path=include_path or None)


def _check(name: str, task: Any, metric: str) -> None:
  if task.get_config("output_type") == "generate_until":
    raise LmEvalError(
      f"the task {name} has a model write text, which an Artifact without a "
      "recurrent form cannot do at a bearable price: use tasks of the types "
      "multiple_choice, loglikelihood or loglikelihood_rolling."
    )
  plain = metric.partition(",")[0]
  higher = task.higher_is_better().get(plain)
  if higher is not None and higher == is_lower_better(plain):
    raise LmEvalError(
      f"the task {name} says that {plain} is better when "
      f"{'higher' if higher else 'lower'}, against what that name means in "
      "lm-evaluation-harness: give its metric another name."
    )


def _facts(task: Any) -> dict[str, Any]:
  hashed, count = hashlib.sha256(), 0
  for document in task.eval_docs:
    hashed.update(json.dumps(document, sort_keys=True, default=str).encode())
    count += 1
  return {
    "version": (task.get_config("metadata") or {}).get("version", ""),
    "documents": count,
    "hash": hashed.hexdigest()[:32],
  }


def _main() -> None:
  wanted, include_path = json.load(sys.stdin)
  try:
    found = fetch(wanted, include_path)
  except Exception as error:  # whatever a data set or a task file raises
    said = str(error) if isinstance(error, LmEvalError) else repr(error)
    found = {"error": f"tasks of lm-evaluation-harness: {said}"}
  print(json.dumps(found))


if __name__ == "__main__":
  _main()
