"""A Researcher and an Engineer in one process, on records on disk."""

import dataclasses

import toy_track

from asi_evolve_jax.evaluation.workers import InlinePool
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import Milestone, Run
from asi_evolve_jax.roles.engineer import Engineer
from asi_evolve_jax.roles.researcher import Researcher
from asi_evolve_jax.roles.verifier import Verifier
from asi_evolve_jax.settings import (
  ResearcherSettings,
  VerifySettings,
  plain,
)
from asi_evolve_jax.supervisor.run import OpenRun
from asi_evolve_jax.supervisor.steering import steer

# Mutations only, one at a time.
PLAIN = ResearcherSettings(
  queue=1, batch=1, knowledge=0, fresh=0.0, crossover=0.0, repair=False
)


class Loop:
  """A run of the toy track, stepped by hand."""

  def __init__(self, folder, researcher=None, **changes):
    self.settings = dataclasses.replace(
      toy_track.settings(),
      rounds=60,
      verify=changes.pop("verify", VerifySettings(finalists=0)),
      researcher=dataclasses.replace(PLAIN, **(researcher or {})),
      **changes,
    )
    self.folder = folder
    self.records = Records.open(str(folder / "records"))
    self.track = toy_track.SpaceTrack()
    self.run = OpenRun(self.records, self.settings, self.track, folder)
    self.records.put(
      Run(
        name="test",
        track="toy",
        config=plain(self.settings),
        commit="",
        machine={},
        versions={},
        manifest={},
      )
    )
    self.restart()

  def restart(self):
    """Both roles anew, from nothing but the records."""
    self.researcher = Researcher(
      Records.open(str(self.folder / "records")),
      self.settings,
      self.track,
      self.folder,
    )
    self.engineer = Engineer(
      Records.open(str(self.folder / "records")),
      self.settings,
      self.track,
      run_dir=self.folder,
      pool=InlinePool(1),
    )
    self.verifier = Verifier(
      Records.open(str(self.folder / "records")), self.settings, self.track
    )

  def end_search(self):
    self.records.put(
      Milestone(name="search-ended", by="test", detail={"reason": "test"})
    )

  def verify_steps(self, count):
    for _ in range(count):
      self.verifier.step()
      self.engineer.step()

  def steps(self, count):
    for _ in range(count):
      self.researcher.step()
      self.engineer.step()

  def say(self, verb, *words, **kwargs):
    return steer(self.run, verb, words, "ann", **kwargs)

  @property
  def view(self):
    view = View("loss", "minimize", ("quick", "explore"))
    view.update(self.records.follow()[0])
    return view

  def candidates(self):
    found = [p for p in self.view.proposals.values() if p.round]
    return sorted(found, key=lambda p: p.round)
