"""A run for the tests of the Engineer: records on disk, a toy track."""

import time

import toy_track

from asi_evolve_jax.evaluation.workers import InlinePool
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.roles.engineer import Engineer


class EngineerRun:
  """Context manager; Engineers made here are closed with it."""

  def __init__(self, folder):
    self.folder = folder
    self.records = Records.open(str(folder / "records"))
    self.view = View("loss", "minimize", ("quick", "explore", "verify"))
    self.cursor = None
    self.engineers = []

  def __enter__(self):
    return self

  def __exit__(self, *error):
    for engineer in self.engineers:
      engineer.close()

  def engineer(self, inline=0, records=None, track=None, pool=None, **kwargs):
    engineer = Engineer(
      records or Records.open(str(self.folder / "records")),
      toy_track.settings(**kwargs),
      track or toy_track.ToyTrack(),
      run_dir=self.folder,
      pool=InlinePool(inline) if inline else pool,
    )
    self.engineers.append(engineer)
    return engineer

  def propose(self, round_number=1, **what):
    records = toy_track.propose(round_number, **what)
    self.records.put(*records)
    return records[2]

  def follow(self):
    news, self.cursor = self.records.follow(self.cursor)
    self.view.update(news)
    return self.view

  def settle(self, *engineers, seconds=20.0):
    """Steps until nothing is pending."""
    until = time.monotonic() + seconds
    while True:
      did = [e.step() for e in engineers]
      if not any(did) and not self.follow().pending():
        return self.view
      assert time.monotonic() < until, self.view.pending()
      if not any(did):
        engineers[0].wait(0.05)

  def result(self, task):
    return self.follow().results[task.id]
