"""The verifier: fresh seeds and held-out data for finalists and baselines.

After the search it asks for verify Tasks, once; whenever all that was asked
for is measured, by itself or by `launch.verify`, it writes the Claims. The
seeds that selected a finalist are never among those that judge it. Finalists
whose Task is expected to cost more than `approve_above` wait for a person, and
there are fewer where the budgets do not suffice for all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from asi_evolve_jax.evaluation.budget import Budget
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import CLAIMED, VERIFY, Milestone, Task
from asi_evolve_jax.roles.claims import claims
from asi_evolve_jax.roles.waves import ASKED, is_open, make_wave, waves
from asi_evolve_jax.settings import RunSettings, SettingsError, plain
from asi_evolve_jax.tracks.base import Track, rung_work

log = logging.getLogger(__name__)

BASELINES = ("all", "references")  # which baselines get fresh seeds too
_KINDS = ("run", "proposal", "task", "result", "milestone", "claim", "steer")


def check_settings(settings: RunSettings) -> None:
  """Refuses what could not claim anything, or claim too much.

  Raises:
    SettingsError: naming the seeds that the ladder selected on too, or what
      the setting may be.
  """
  verify = settings.verify
  if settings.verify.baselines not in BASELINES:
    raise SettingsError(
      f"config.verify.baselines is {settings.verify.baselines!r}: use one of "
      f"{BASELINES}."
    )
  if len(set(verify.references)) != len(verify.references):
    raise SettingsError(
      f"config.verify.references names one twice: {verify.references}."
    )
  if verify.min_seeds < 2:
    raise SettingsError(
      f"config.verify.min_seeds is {verify.min_seeds}: one seed has no "
      "spread, give at least 2."
    )
  rung = verify.rung
  if rung is None:
    return
  used = {seed for r in settings.ladder for seed in r.seeds}
  both = sorted(used & set(rung.seeds))
  if both:
    raise SettingsError(
      f"config.verify.rung.seeds holds {both}, which the ladder selects on: "
      "give verify fresh seeds."
    )
  if len(set(rung.seeds)) != len(rung.seeds):
    raise SettingsError(
      f"config.verify.rung.seeds holds one twice: {rung.seeds}."
    )


def check_reference(settings: RunSettings, track: Track) -> None:
  """Refuses a reference that is none of the track's baselines.

  Raises:
    SettingsError: naming those there are.
  """
  if settings.verify.rung is None or not settings.verify.finalists:
    return
  names = [baseline.name for baseline in track.baselines()]
  for reference in settings.verify.references:
    if reference not in names:
      raise SettingsError(
        f"config.verify.references has {reference!r}, which is no baseline of "
        f"{settings.track}: use some of {names}."
      )


def finalists(view: View, settings: RunSettings, count: int) -> list[str]:
  """Returns the `count` best candidates at the last rung, best first."""
  chosen = [
    program
    for program in view.ranked(settings.ladder[-1].name)
    if program not in view.baselines
  ]
  return chosen[:count]


def awaiting(
  view: View, settings: RunSettings, work: Mapping[str, float]
) -> list[tuple[Task, dict[str, float]]]:
  """Returns the verify Tasks that wait for a person, with expected costs.

  Those of the finalists that cost more than `approve_above` and that nobody has
  approved; the whole wave waits for them, and baselines need no approval. None
  before the search has ended, or once verify is asked for.

  Args:
    view: of the run.
    settings: of the run.
    work: of the rungs, as `tracks.base.rung_work` has it.
  """
  rung, limits = settings.verify.rung, plain(settings.approve_above)
  passed = view.milestones
  begins = "search-ended" in passed and not {ASKED, "finished"} & set(passed)
  if rung is None or not begins or not any(limits.values()):
    return []
  budget = Budget(view, settings, time.time(), work)
  cost = budget.task_cost(rung.name, len(rung.seeds))
  if all(cost[name] <= limit for name, limit in limits.items() if limit):
    return []
  count = budget.finalists(settings.verify.finalists)
  return [
    (Task(program=p, rung=rung.name, seeds=rung.seeds, purpose=VERIFY), cost)
    for p in finalists(view, settings, count)
    if (p, rung.name) not in view.steering.approved
  ]


class Verifier:
  """Asks for verify Tasks, writes the Claims, says when all is done.

  All that it decides follows from the records, and every key from what it
  decides: several verifiers on one run, or one killed and started again, come
  to the same records.
  """

  name = "verifier"

  def __init__(self, records: Records, settings: RunSettings, track: Track):
    check_settings(settings)
    self._records = records
    self._settings = settings
    self._track = track
    self._work = rung_work(track, settings)
    self._view = View(track.metric.name, track.metric.direction)
    self._cursor = None

  def step(self) -> bool:
    """Writes what follows from what is new: Tasks, Claims, `finished`."""
    news, self._cursor = self._records.follow(self._cursor, _KINDS)
    if not news:
      return False  # all that is decided follows from the records
    self._view.update(news)
    did = self._heal() or self._claim()
    milestones = self._view.milestones
    if "search-ended" not in milestones or "finished" in milestones:
      return did
    rung = self._settings.verify.rung
    if rung is None or not self._settings.verify.finalists:
      return self._finish({})
    if ASKED not in milestones:
      return did if self._awaits() else self._ask(rung.seeds)
    asked = waves(self._view, self._settings)
    if any(is_open(self._view, wave) for wave in asked):
      return did
    return self._finish({"finalists": milestones[ASKED].detail["finalists"]})

  def close(self) -> None:
    """Nothing is held."""

  def _heal(self) -> bool:
    """Writes the Tasks of waves that were asked for and lack them."""
    lacking = [
      task
      for wave in waves(self._view, self._settings)
      for task in wave.tasks
      if task.id not in self._view.tasks
    ]
    if lacking:
      self._records.put(*lacking)
      self._view.update(lacking)
    return bool(lacking)

  def _claim(self) -> bool:
    """Writes the Claims that all of verify supports, those that are new."""
    new = [
      claim
      for claim in claims(self._view, self._settings, self._track)
      if claim.id not in self._view.claims
    ]
    if not new:
      return False
    self._records.put(*new)
    self._view.update(new)
    log.info(
      "%d Claims, %d of them claimed",
      len(new),
      sum(claim.verdict == CLAIMED for claim in new),
    )
    return True

  def _awaits(self) -> bool:
    return bool(awaiting(self._view, self._settings, self._work))

  def _ask(self, seeds: tuple[int, ...]) -> bool:
    wanted = self._settings.verify.finalists
    budget = Budget(self._view, self._settings, time.time(), self._work)
    count = budget.finalists(wanted)
    if not count:
      log.warning("%s", budget.no_verify())
      return self._finish({"reason": budget.no_verify()})
    chosen = finalists(self._view, self._settings, wanted)
    note = ""
    if len(chosen) > count:
      note = f"{count} of {len(chosen)} finalists: no budget for more"
    wave = make_wave(
      self._view,
      self._settings,
      chosen[:count],
      seeds,
      self.name,
      name=ASKED,
      note=note,
    )
    # First: of several verifiers one decides, and all write its Tasks.
    self._records.put(wave.milestone())
    log.info("verify: %s", note or f"{len(chosen)} finalists")
    return True

  def _finish(self, detail: dict) -> bool:
    self._records.put(Milestone(name="finished", by=self.name, detail=detail))
    return True
