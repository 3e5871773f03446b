"""The verifier: fresh seeds and held-out data for finalists and baselines.

It acts once, after the search ended. The seeds that selected a finalist are
never among those that judge it.
"""

from __future__ import annotations

import logging

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import VERIFY, Milestone, Record, Task
from asi_evolve_jax.settings import RunSettings, SettingsError
from asi_evolve_jax.tracks.base import Track

log = logging.getLogger(__name__)

BASELINES = ("all", "reference")  # which baselines get fresh seeds too
_KINDS = ("run", "proposal", "task", "result", "milestone")


def check_settings(settings: RunSettings) -> None:
  """Refuses verify seeds that the ladder selected on, or an unknown choice.

  Raises:
    SettingsError: naming the seeds in both, or what `baselines` may be.
  """
  if settings.verify.baselines not in BASELINES:
    raise SettingsError(
      f"config.verify.baselines is {settings.verify.baselines!r}: use one of "
      f"{BASELINES}."
    )
  rung = settings.verify.rung
  if rung is None or not settings.verify.finalists:
    return
  used = {seed for r in settings.ladder for seed in r.seeds}
  both = sorted(used & set(rung.seeds))
  if both:
    raise SettingsError(
      f"config.verify.rung.seeds holds {both}, which the ladder selects on: "
      "give verify fresh seeds."
    )


def check_reference(settings: RunSettings, track: Track) -> None:
  """Refuses a reference that is none of the track's baselines.

  Raises:
    SettingsError: naming those there are.
  """
  if settings.verify.rung is None or not settings.verify.finalists:
    return
  names = [baseline.name for baseline in track.baselines()]
  if settings.verify.reference not in names:
    raise SettingsError(
      f"config.verify.reference is {settings.verify.reference!r}, which is no "
      f"baseline of {settings.track}: use one of {names}."
    )


def finalists(view: View, settings: RunSettings) -> list[str]:
  """Returns Program ids: the best candidates at the last rung, best first."""
  chosen = [
    program
    for program in view.ranked(settings.ladder[-1].name)
    if view.proposal_of[program].author != "baseline"
  ]
  return chosen[: settings.verify.finalists]


class Verifier:
  """Asks for verify Tasks after the search; says when all are done."""

  name = "verifier"

  def __init__(self, records: Records, settings: RunSettings, track: Track):
    check_settings(settings)
    self._records = records
    self._settings = settings
    self._view = View(track.metric.name, track.metric.direction)
    self._cursor = None

  def step(self) -> bool:
    """Writes the verify Tasks once, then `finished` once they have Results."""
    news, self._cursor = self._records.follow(self._cursor, _KINDS)
    self._view.update(news)
    milestones = self._view.milestones
    if "search-ended" not in milestones or "finished" in milestones:
      return False
    rung = self._settings.verify.rung
    if rung is None or not self._settings.verify.finalists:
      return self._finish({})
    if "verify-asked" not in milestones:
      return self._ask(rung)
    asked = milestones["verify-asked"].detail
    open_tasks = [t for t in self._view.pending() if t.purpose == VERIFY]
    written = all(task in self._view.tasks for task in asked["tasks"])
    if open_tasks or not written:
      return False
    return self._finish({"finalists": asked["finalists"]})

  def close(self) -> None:
    """Nothing is held."""

  def _ask(self, rung) -> bool:
    chosen = finalists(self._view, self._settings)
    verify = self._settings.verify
    baselines = [
      program
      for program, proposal in self._view.proposal_of.items()
      if proposal.author == "baseline"
      and (verify.baselines == "all" or proposal.name == verify.reference)
    ]
    tasks = [
      Task(
        program=program,
        rung=rung.name,
        seeds=rung.seeds,
        purpose=VERIFY,
        requested_by=self.name,
        priority=200,
      )
      for program in [*chosen, *baselines]
    ]
    detail = {
      "finalists": chosen,
      "baselines": baselines,
      "tasks": [task.id for task in tasks],
      "proposed": self._view.proposed(),
    }
    records: list[Record] = [
      *tasks,
      Milestone(name="verify-asked", by=self.name, detail=detail),
    ]
    self._records.put(*records)
    log.info(
      "verify: %d finalists and %d baselines", len(chosen), len(baselines)
    )
    return True

  def _finish(self, detail: dict) -> bool:
    self._records.put(Milestone(name="finished", by=self.name, detail=detail))
    return True
