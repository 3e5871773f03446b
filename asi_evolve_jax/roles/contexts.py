"""Contexts for proposers: what the records and the Cognition Base say."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from asi_evolve_jax.llm.port import Credit
from asi_evolve_jax.proposers.base import (
  Context,
  Guidance,
  Knowledge,
  Known,
  Vectors,
)
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Analysis, Insight, Record
from asi_evolve_jax.roles import briefing
from asi_evolve_jax.roles.cognition import insight_item
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track
from cognition import Index
from cognition.item import Item

_DOUBT = "Not compared with its source yet."


class Contexts:
  """Makes Contexts from the View of a Researcher."""

  def __init__(
    self,
    view: View,
    settings: RunSettings,
    track: Track,
    index: Index,
    vectors: Vectors | None = None,
  ):
    """
    Args:
      view: kept up to date by the Researcher.
      settings: of the run.
      track: of the run.
      index: of the items.
      vectors: of texts, for Briefings.
    """
    self._view = view
    self._settings = settings
    self._track = track
    self._index = index
    self._vectors = vectors
    # Later Analyses replace earlier figures of the same feature.
    self._effects: dict[str, tuple[float, float, float, int]] = {}

  def learn(self, record: Record) -> None:
    """Takes in a record that the View has taken in."""
    if isinstance(record, Insight):
      self._index.add(insight_item(record))
    elif isinstance(record, Analysis):
      for effect in record.effects:
        self._effects[effect["feature"]] = (
          effect["effect"],
          effect["low"],
          effect["high"],
          effect["n"],
        )

  def known(self, program: str, rung: str) -> Known:
    """Returns a Program with its score at `rung`."""
    proposal = self._view.proposal_of[program]
    return Known(
      program=program,
      name=proposal.name,
      genome=proposal.genome,
      score=self._view.score(program, rung),
    )

  def has_genome(self, program: str) -> bool:
    """Whether a Program has a place in the space."""
    return self._view.proposal_of[program].genome is not None

  def pinned(self) -> str:
    """Returns the Program that people want edited, or ""."""
    pin = self._view.steering.pinned
    program = pin.arguments["program"] if pin is not None else ""
    return "" if program in self._view.vetoed else program

  def make(
    self,
    parent: Known,
    references: tuple[Known, ...],
    rng: random.Random,
    *,
    about: str,
    query: str = "",
    written: Collection[str] = (),
    round_number: int = 0,
    credits: Mapping[str, Credit] | None = None,
    reads: bool = False,
  ) -> Context:
    """Returns a Context.

    Args:
      parent: to edit.
      references: to look at.
      rng: for all draws of the proposer.
      about: what is asked for, in words.
      query: what to look up; "": what matters for the parent.
      written: ids of Programs that are known and in no record yet.
      round_number: of the Proposal.
      credits: for choices among authors.
      reads: whether a Briefing is wanted.
    """
    settings = self._settings.researcher
    view = self._view
    guidance = self._guidance()
    # What people ask for is looked up too, and first.
    words = [word.text for word in guidance]
    words.append(query or self._query(parent.program))
    return Context(
      space=self._track.space,
      parent=parent,
      references=references,
      knowledge=self._retrieve("\n".join(words)),
      effects=self._effects,
      known=lambda p: p in view.programs or p in written,
      rng=rng,
      settings=settings,
      guidance=guidance,
      round=round_number,
      credits=credits or {},
      briefing=briefing.make(
        view,
        self._track,
        about,
        parent.program,
        [reference.program for reference in references],
        self._vectors,
      )
      if reads
      else None,
    )

  def _guidance(self) -> tuple[Guidance, ...]:
    steering = self._view.steering
    prefer, avoid = steering.wanted()
    words = []
    for steer in steering.guidance:
      said = steer.arguments
      word = Guidance(
        id=steer.key,
        by=steer.by,
        text=said["text"],
        prefer=tuple(n for n, by in prefer.items() if by is steer),
        avoid=tuple(n for n, by in avoid.items() if by is steer),
      )
      replaced = not (word.prefer or word.avoid)
      if not (replaced and (said["prefer"] or said["avoid"])):
        words.append(word)
    return tuple(words)

  def _query(self, parent: str) -> str:
    """Returns what to look up before editing `parent`."""
    analyses = self._view.analyses_of.get(parent, [])
    proposal = self._view.proposal_of[parent]
    # At round 0 nothing is analysed yet: the brief still says what matters.
    return (
      analyses[-1].text
      if analyses
      else f"{proposal.motivation}\n{self._track.brief}"
    )

  def _retrieve(self, query: str) -> tuple[Knowledge, ...]:
    wanted = self._settings.researcher.knowledge
    if not wanted:
      return ()
    return tuple(
      Knowledge(
        id=hit.item.id,
        title=hit.item.title,
        suggests=hit.item.suggests,
        warns=hit.item.warns,
        weight=hit.score,
        text=_reading(hit.item),
      )
      for hit in self._index.search(query, wanted)
    )


def _reading(item: Item) -> str:
  text = item.reading()
  return text if item.checked else f"{_DOUBT} {text}"
