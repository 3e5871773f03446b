"""A run with invented scores, for the tests of the Analyzer and Cognition."""

import itertools
import types

from asi_evolve_jax.programs.genome import Gene, Space
from asi_evolve_jax.records import schema
from asi_evolve_jax.settings import RungSettings, RunSettings
from asi_evolve_jax.tracks.base import MINIMIZE, Metric

METRIC = "bits_per_byte"


class Mixers(Space):
  genes = (
    Gene("update", ("additive", "delta"), "additive"),
    Gene("decay", ("none", "fixed", "scalar"), "none"),
    Gene("conv", (0, 4), 0, ordered=True),
    Gene("norm", ("none", "rms"), "none"),
  )

  def render(self, genome):
    return f"GENOME = {sorted(genome.items())}\n"

  def title(self, genome):
    return "/".join(str(genome[g.name]) for g in self.genes)


SPACE = Mixers()
TRACK = types.SimpleNamespace(
  name="toy", metric=Metric(METRIC, MINIMIZE), space=SPACE
)
SETTINGS = RunSettings(
  name="test",
  track="toy",
  ladder=(RungSettings(name="quick"), RungSettings(name="explore")),
)


def genomes():
  """Returns every genome of the space, in a fixed order."""
  values = [gene.values for gene in SPACE.genes]
  return [
    dict(zip((g.name for g in SPACE.genes), point, strict=True))
    for point in itertools.product(*values)
  ]


class Run:
  """Writes what Researcher and Engineer would write."""

  def __init__(self, records):
    self.records = records
    self.round = 0

  def propose(self, name, genome=None, parents=(), author="symbolic", **more):
    program = schema.Program(
      hash=schema.digest(name), track="toy", source=f"# {name}\n"
    )
    if author != "baseline":
      self.round += 1
    self.records.put(
      program,
      schema.Proposal(
        program=program.hash,
        track="toy",
        name=name,
        author=author,
        round=self.round if author != "baseline" else 0,
        operator="mutate" if parents else "baseline",
        motivation=f"try {name}",
        parents=tuple(parents),
        genome=genome,
        **more,
      ),
    )
    return program.hash

  def measure(
    self, program, scores, rung="quick", purpose=schema.SEARCH, **more
  ):
    """Writes an ok Result; `scores` maps seed to score."""
    metrics = tuple({METRIC: s, "recall": 0.5} for s in scores.values())
    return self.end(
      program,
      tuple(scores),
      rung=rung,
      purpose=purpose,
      status=schema.OK,
      metrics=metrics,
      **more,
    )

  def end(
    self, program, seeds=(0,), rung="quick", purpose=schema.SEARCH, **more
  ):
    task = schema.Task(program=program, rung=rung, seeds=seeds, purpose=purpose)
    result = schema.Result(
      task=task.id,
      program=program,
      rung=rung,
      seeds=seeds,
      purpose=purpose,
      **more,
    )
    self.records.put(task)
    self.records.put(result)
    return task.id


def drain(role, limit=50):
  """Steps until there is nothing to do; returns the number of steps."""
  for step in range(limit):
    if not role.step():
      return step
  raise AssertionError(f"{role.name} never rests")


def all_of(records, kind):
  found, _ = records.follow()
  return [r for r in found if r.kind == kind]
