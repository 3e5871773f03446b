"""The supervisor: starts the roles, watches the run, ends it, reports it.

It holds nothing: what it decides it derives from the records, and what it
decides for good (the search ended) becomes a record. Two supervisors on one
run are safe, as two of any role are.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from pathlib import Path

from asi_evolve_jax.proposers.registry import announce
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Milestone, Result
from asi_evolve_jax.reporting.report import write_report
from asi_evolve_jax.roles.promotion import Promotions
from asi_evolve_jax.supervisor.live import Live
from asi_evolve_jax.supervisor.processes import (
  EXIT_AT_ONCE,
  EXIT_FAILED,
  EXIT_OK,
  EXIT_STOPPED,
  Processes,
  RoleFailed,
)
from asi_evolve_jax.supervisor.progress import end_reason
from asi_evolve_jax.supervisor.run import OpenRun
from asi_evolve_jax.tracks.base import rung_work

log = logging.getLogger(__name__)

_POLL_S = 0.25
# Roles that may see API keys, because they call models.
_ROLES = (
  ("engineer", False),
  ("researcher", True),
  ("analyzer", True),
  ("cognition", False),
  ("verifier", False),
)


class Supervisor:
  """Runs one session of a run to its end or to a person's stop."""

  def __init__(self, run: OpenRun, url: str):
    self._run = run
    self._url = url
    self._view = View(run.track.metric.name, run.track.metric.direction)
    # Only to know what waits for a person: Engineers write what follows.
    self._promotions = Promotions(run.settings, run.track, self._view)
    self._work = rung_work(run.track, run.settings)
    self._cursor = None
    self._stops = 0

  def main(self) -> int:
    """Returns the exit code: 0 finished, 1 failed, 3 stopped, 130 at once."""
    run = self._run
    self._follow()
    if "finished" in self._view.milestones:
      self._report()
      return EXIT_OK
    run.records.put(
      Milestone(name=f"session/{uuid.uuid4().hex[:12]}", by=_who())
    )
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._on_signal)
    processes = Processes(run.run_dir, self._url)
    live = Live(run, self._view, self._promotions)
    code = EXIT_FAILED
    try:
      for name, keeps_keys in _ROLES:
        processes.add(name, keeps_keys=keeps_keys)
      with live:
        line = announce(run.settings)
        if line:
          live.say(line)
        code = self._loop(processes, live)
    except RoleFailed as error:
      log.error("%s", error)
    finally:
      if self._stops > 1:
        processes.signal(signal.SIGKILL)
        code = EXIT_AT_ONCE
      processes.stop(grace_s=0.0 if self._stops > 1 else 15.0)
      self._follow()
      if self._stops < 2:
        self._report()
    return code

  def _loop(self, processes: Processes, live: Live) -> int:
    while True:
      self._follow()
      if "finished" in self._view.milestones:
        return EXIT_OK
      if self._stops:
        live.say("stopping: the roles hand back what they hold ...")
        self._hand_back(processes)
        return EXIT_STOPPED
      processes.watch()
      if "search-ended" not in self._view.milestones:
        self._end_search_if_due(live)
      live.refresh()
      time.sleep(_POLL_S)

  def _hand_back(self, processes: Processes) -> None:
    processes.signal(signal.SIGTERM)
    deadline = time.monotonic() + 15.0
    while processes.running() and time.monotonic() < deadline:
      if self._stops > 1:
        return
      time.sleep(0.05)

  def _end_search_if_due(self, live: Live) -> None:
    reason = end_reason(
      self._view,
      self._run.settings,
      self._run.track.metric,
      time.time(),
      work=self._work,
      running=live.working(),
      waiting=bool(self._promotions.waiting()),
    )
    if reason:
      self._run.records.put(
        Milestone(name="search-ended", by=_who(), detail={"reason": reason})
      )
      live.say(f"search ended ({reason})")

  def _follow(self) -> None:
    news, self._cursor = self._run.records.follow(self._cursor)
    self._view.update(news)
    for record in news:
      if isinstance(record, Result):
        self._promotions.after(record)

  def _report(self) -> None:
    try:
      written = write_report(
        self._view,
        self._run.settings,
        self._run.track,
        self._run.records,
        Path(self._run.run_dir) / "report",
      )
    except OSError as error:
      log.error(
        "the report could not be written (%s); the records are whole: mend "
        "the cause and run the same command again.",
        error,
      )
      return
    print(written.summary)

  def _on_signal(self, number: int, frame: object) -> None:
    del number, frame
    self._stops += 1


def _who() -> str:
  return f"{os.uname().nodename}:{os.getpid()}"
