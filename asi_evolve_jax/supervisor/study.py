"""A study: the same run under several conditions and seeds, one after another.

Every run is a `launch.evolve` of its own in a folder of its own. Nothing else
is kept: what is finished says so in its records, and what is not goes on from
where it was. So a study that was killed is continued by the same command.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import Milestone
from asi_evolve_jax.supervisor.processes import (
  EXIT_FAILED,
  EXIT_OK,
  EXIT_STOPPED,
  EXIT_USAGE,
  die_with_parent,
  tail,
)

_POLL_S = 0.1


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a study.

  Attributes:
    condition: its name.
    seed: of the run.
    folder: where it lives.
  """

  condition: str
  seed: int
  folder: Path

  @property
  def finished(self) -> bool:
    """Whether its records say that it is over."""
    records = self.folder / "records"
    if not records.is_dir():
      return False
    return (
      Records.open(str(records)).get(Milestone.kind, "finished") is not None
    )


def trials(
  conditions: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Trial]:
  """Returns all runs, seed by seed: a part of a study is balanced too."""
  return [
    Trial(condition, seed, out / condition / str(seed))
    for seed, condition in itertools.product(seeds, conditions)
  ]


class Study:
  """Runs what is not finished yet, a bounded number at a time."""

  def __init__(
    self,
    planned: Sequence[Trial],
    command: Callable[[Trial], Sequence[str]],
    *,
    parallel: int = 1,
    say: Callable[[str], None] = print,
  ):
    """
    Args:
      planned: the runs, in their order.
      command: of a run; it is to end with launch.evolve's exit codes.
      parallel: most runs at a time, at least 1.
      say: takes a line whenever a run ends.
    """
    self._planned = planned
    self._command = command
    self._parallel = parallel
    self._say = say
    self._running: dict[Trial, tuple[subprocess.Popen, float]] = {}
    self._stopping = threading.Event()

  def stop(self) -> None:
    """Asks all runs to stop; `run` returns when they have."""
    self._stopping.set()

  def run(self) -> int:
    """Returns the exit code: 0 all finished, 1 some failed, 2, 3 stopped.

    A run that fails does not keep the others from theirs; one whose config is
    refused (2) ends the study, as all of it would be.
    """
    code = EXIT_OK
    waiting = list(self._planned)
    try:
      while (waiting or self._running) and not self._stopping.is_set():
        while waiting and len(self._running) < self._parallel:
          trial = waiting.pop(0)
          if not trial.finished:
            self._start(trial)
        for ended in self._ended():
          if ended == EXIT_USAGE:
            return EXIT_USAGE
          code = code if ended == EXIT_OK else EXIT_FAILED
        self._stopping.wait(_POLL_S)
    finally:
      self._end_all()
    return EXIT_STOPPED if self._stopping.is_set() else code

  def _start(self, trial: Trial) -> None:
    trial.folder.mkdir(parents=True, exist_ok=True)
    with open(_log(trial), "ab") as out:
      process = subprocess.Popen(
        self._command(trial),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
      )
    self._running[trial] = process, time.monotonic()

  def _ended(self) -> list[int]:
    """Takes out the runs that have ended; returns their exit codes."""
    found = []
    for trial, (process, began) in list(self._running.items()):
      code = process.poll()
      if code is None:
        continue
      del self._running[trial]
      found.append(code)
      took = f"{time.monotonic() - began:.0f} s"
      name = f"{trial.condition}, seed {trial.seed}"
      if code == EXIT_OK:
        done = sum(t.finished for t in self._planned)
        self._say(f"{done}/{len(self._planned)} {name}: finished in {took}")
      else:
        words = tail(_log(trial))
        self._say(f"{name}: ended with code {code} after {took}\n{words}")
    return found

  def _end_all(self) -> None:
    for process, _ in self._running.values():
      process.send_signal(signal.SIGTERM)
    for process, _ in self._running.values():
      process.wait()
    self._running.clear()


def _log(trial: Trial) -> Path:
  return trial.folder / "evolve.out"
