"""What a proposer gets and gives. It knows a Space, never a track."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asi_evolve_jax.llm.port import Credit
from asi_evolve_jax.programs.genome import Gene, Genome, Space
from asi_evolve_jax.settings import ResearcherSettings


class Exhausted(RuntimeError):
  """No Program could be found that is not known already.

  Attributes:
    choice: who was asked, and what spoke for it; as in Draft.
    cost: of asking; as in Draft.
  """

  def __init__(
    self,
    message: str,
    *,
    choice: Mapping[str, Any] | None = None,
    cost: Mapping[str, float] | None = None,
  ):
    super().__init__(message)
    self.choice = dict(choice or {})
    self.cost = dict(cost or {})


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
    text: of the item, for proposers that read.
  """

  id: str
  title: str
  suggests: tuple[str, ...]
  warns: tuple[str, ...]
  weight: float
  text: str = ""


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
class Story:
  """A Program in words.

  Attributes:
    program, name: of it.
    source: of it.
    motivation: why it was written.
    results: what was measured, a line a rung; "": nothing.
    analysis: what the Analyzer said last; "": nothing.
  """

  program: str
  name: str
  source: str
  motivation: str
  results: str = ""
  analysis: str = ""


@dataclasses.dataclass(frozen=True)
class Failure:
  """Something near that was tried and did not work, and why not."""

  name: str
  motivation: str
  why: str


Vectors = Callable[[Sequence[str]], NDArray[np.floating]]


@dataclasses.dataclass(frozen=True)
class Briefing:
  """What a proposer that reads gets beside the rest of a Context.

  Attributes:
    about: what is asked for, e.g. "round 12".
    brief: the track's contract.
    metric: what counts and which way, e.g. "loss, lower is better".
    parent: the Program to edit.
    references: Programs to look at.
    failures: near the parent, the latest first.
    archive: returns all that was ever proposed, for the novelty check.
    vectors: of texts, unit rows [texts, dimensions], zeros where there is
      none; None: the run has no embedding model.
  """

  about: str
  brief: str
  metric: str
  parent: Story
  references: tuple[Story, ...]
  failures: tuple[Failure, ...]
  archive: Callable[[], Sequence[Story]]
  vectors: Vectors | None = None


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
    round: the number of this Proposal's round.
    credits: author -> what its Proposals have brought, where a choice among
      authors is to be made.
    writer: the model that is to write and what spoke for it, as Draft.choice
      has it; empty: the proposer chooses.
    briefing: for proposers that read.
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
  round: int = 0
  credits: Mapping[str, Credit] = dataclasses.field(default_factory=dict)
  writer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  briefing: Briefing | None = None


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
  """A Proposal before it is a record; fields as in records.schema.

  Attributes:
    author: "": the name of the proposer.
    references: None: those of the Context.
    round, island: None: those of the turn.
  """

  source: str
  genome: Genome | None
  name: str
  motivation: str
  operator: str
  parents: tuple[str, ...]
  changes: tuple[dict[str, Any], ...] = ()
  knowledge: tuple[str, ...] = ()
  author: str = ""
  references: tuple[str, ...] | None = None
  cost: dict[str, float] = dataclasses.field(default_factory=dict)
  choice: dict[str, Any] = dataclasses.field(default_factory=dict)
  round: int | None = None
  island: int | None = None


class Proposer(Protocol):
  """Turns a Context into a Draft.

  Equal contexts give equal Drafts, as far as a language model has no part.

  Attributes:
    reads: whether it needs a Briefing. Such a proposer edits sources; the
      others edit genomes and nothing else.
  """

  @property
  def reads(self) -> bool: ...

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
