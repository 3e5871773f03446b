"""What a proposer gets and gives. It knows a Space, never a track."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from asi_evolve_jax.programs.genome import Gene, Genome, Space
from asi_evolve_jax.settings import ResearcherSettings


class Exhausted(RuntimeError):
  """No Program could be found that is not known already."""


@dataclasses.dataclass(frozen=True)
class Known:
  """A Program that was measured.

  Attributes:
    program: its id.
    name: for people.
    genome: its place in the space, or None if it has none there.
    score: at the rung that parents are chosen at, if it has one.
  """

  program: str
  name: str
  genome: Genome | None
  score: float | None


@dataclasses.dataclass(frozen=True)
class Knowledge:
  """A retrieved item of the Cognition Base.

  Attributes:
    id: of the item or Insight.
    title: for motivations.
    suggests, warns: features, "gene=value".
    weight: relevance, larger is more.
  """

  id: str
  title: str
  suggests: tuple[str, ...]
  warns: tuple[str, ...]
  weight: float


@dataclasses.dataclass(frozen=True)
class Guidance:
  """What a person asked for, to be taken up by every Proposal.

  Attributes:
    id: of the record.
    by: who said it.
    text: in words; for proposers that read.
    prefer, avoid: features, "gene=value", that a genome is to have or not.
  """

  id: str
  by: str
  text: str
  prefer: tuple[str, ...] = ()
  avoid: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Context:
  """What a Proposal may be based on.

  Attributes:
    space: to propose in.
    parent: the Program to edit.
    references: Programs to look at, best first.
    knowledge: retrieved items, most relevant first.
    effects: feature -> (effect, low, high, n) over all that was measured;
      effect > 0 is better, the interval has 95 %.
    known: whether a Program id exists already.
    rng: the only source of randomness.
    settings: of the Researcher.
    guidance: of people, in the order they said it.
  """

  space: Space
  parent: Known
  references: tuple[Known, ...]
  knowledge: tuple[Knowledge, ...]
  effects: Mapping[str, tuple[float, float, float, int]]
  known: Callable[[str], bool]
  rng: random.Random
  settings: ResearcherSettings
  guidance: tuple[Guidance, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rejection:
  """What a gate said of a Program.

  Attributes:
    source: of the Program.
    gate: that rejected it.
    message: what to change, for its author.
    changed: gene -> value before, for what its author had changed in a parent.
    counts: feature -> (Programs rejected at this gate, Programs tried) with it.
  """

  source: str
  gate: str
  message: str
  changed: Mapping[str, Any]
  counts: Mapping[str, tuple[int, int]]

  def rate(self, name: str) -> float:
    """Returns the share of Programs with feature `name` that were rejected.

    Half a rejection is added to each, so that the unknown is worse than what
    has passed and better than what has not.
    """
    bad, tried = self.counts.get(name, (0, 0))
    return (bad + 0.5) / (tried + 1)


@dataclasses.dataclass(frozen=True)
class Draft:
  """A Proposal before it is a record; fields as in records.schema."""

  source: str
  genome: Genome | None
  name: str
  motivation: str
  operator: str
  parents: tuple[str, ...]
  changes: tuple[dict[str, Any], ...] = ()
  knowledge: tuple[str, ...] = ()


class Proposer(Protocol):
  """Turns a Context into a Draft; equal contexts give equal Drafts."""

  def propose(self, context: Context) -> Draft:
    """Returns a Program that is not known.

    Raises:
      Exhausted: if none was found.
    """
    ...

  def repair(self, context: Context, rejection: Rejection) -> Draft:
    """Returns a Program that mends `context.parent`, which a gate rejected.

    Raises:
      Exhausted: if it knows of none.
    """
    ...


def gene_named(space: Space, name: str) -> Gene:
  """Returns the gene `name` of `space`."""
  return next(gene for gene in space.genes if gene.name == name)
