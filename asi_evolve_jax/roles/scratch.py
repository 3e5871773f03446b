"""The scratch folders of Tasks: which checkpoints are kept, and how long.

A Task that is not finished keeps everything, over restarts and attempts, so
that it goes on where it stood. A finished one keeps its checkpoints for
`workers.keep_scratch_s`, and of a failure the logs for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  LOST,
  OK,
  REPEAT,
  UNSEEN,
  Result,
  Task,
)

_SWEEP_EVERY_S = 60.0


class Scratch:
  """The scratch folders of one run directory.

  Args:
    folder: holds one folder a Task.
    keep_s: seconds that a finished Task's checkpoints stay.
  """

  def __init__(self, folder: Path, keep_s: float):
    self._folder = folder
    self._keep_s = keep_s
    self._swept_at = -_SWEEP_EVERY_S

  def of(self, task: Task) -> Path:
    """Returns a Task's folder, the same for each of its attempts.

    But for repeats: each attempt at one is a measurement of its own, which must
    not read what the one before has left.
    """
    own = task.purpose == REPEAT
    first = task if own else dataclasses.replace(task, attempt=0)
    return self._folder / first.id

  def finished(self, task: Task, result: Result) -> None:
    """Tidies up after the last attempt at a Task."""
    if not self._keep_s:
      clear(self.of(task), keep_logs=result.status != OK)

  def sweep_now_and_then(self, view: View, busy: Collection[Path]) -> None:
    """Sweeps, once a minute."""
    now = time.monotonic()
    if now - self._swept_at >= _SWEEP_EVERY_S:
      self._swept_at = now
      self.sweep(view, busy, time.time())

  def sweep(self, view: View, busy: Collection[Path], now: float) -> None:
    """Tidies folders whose time is over, those that a crash left behind too.

    Args:
      view: of the run.
      busy: folders in use here.
      now: unix time.
    """
    with contextlib.suppress(OSError):  # there may be none as yet
      for folder in list(self._folder.iterdir()):
        task = view.tasks.get(folder.name)
        if task is None or folder in busy:
          continue  # nobody's that is known: not ours to delete
        ended = _ended(view, task)
        if ended is not None and now - ended[0] >= self._keep_s:
          clear(folder, keep_logs=ended[1] != OK)


def clear(folder: Path, *, keep_logs: bool) -> None:
  """Deletes a Task's folder, or all of it but its logs."""
  if not keep_logs:
    shutil.rmtree(folder, ignore_errors=True)
    return
  with contextlib.suppress(OSError):
    for entry in folder.iterdir():
      if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
      elif entry.suffix != ".log":
        entry.unlink(missing_ok=True)


def _ended(view: View, task: Task) -> tuple[float, str] | None:
  """Returns when (unix time) and how a Task ended; None: it may go on."""
  task = view.last_attempt(task)
  result = view.results.get(task.id)
  if result is not None:
    return result.created_at, result.status
  over = view.milestones.get("search-ended")
  if over is not None and task.purpose not in UNSEEN:
    return over.created_at, LOST  # nobody will go on with it
  return None
