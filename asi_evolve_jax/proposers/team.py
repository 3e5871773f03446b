"""Who proposes: one proposer, or several that share a run.

Among several a bandit decides who is next, by improvement per Proposal
(roles/credit.py). A language model that cannot answer is stood in for by the
symbolic proposer: the round goes on, and its record says so.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from asi_evolve_jax.llm import bandit
from asi_evolve_jax.llm.port import Credit
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Proposer,
  Rejection,
)
from asi_evolve_jax.proposers.llm import PREFIX, LanguageModel, author_of

log = logging.getLogger(__name__)

LLM = "llm"


class Team:
  """Proposers by name, and who stands in for those that read."""

  def __init__(
    self,
    members: Mapping[str, Proposer],
    *,
    stand_in: str = "",
    stands: Proposer | None = None,
    exploration: float = 0.0,
  ):
    """
    Args:
      members: name -> proposer; the bandit's arms, where there are several.
      stand_in: name of who stands in for a member that has nothing; "": none.
      stands: that proposer.
      exploration: of the bandit.
    """
    self._members = dict(members)
    self._stand_in = stand_in
    self._stands = stands
    self._exploration = exploration

  @property
  def waits(self) -> bool:
    """Whether a model is among them.

    Then Context.credits are looked at, and a Proposal may take minutes, of
    waiting and not of work.
    """
    return any(member.reads for member in self._members.values())

  @property
  def name(self) -> str:
    """Names of its members, for people."""
    return " and ".join(self._members)

  def pick(self, credits: Mapping[str, Credit]) -> tuple[str, dict[str, Any]]:
    """Returns whose turn it is, and what spoke for each.

    Args:
      credits: author -> what its Proposals have brought.
    """
    if len(self._members) == 1:
      return next(iter(self._members)), {}
    arms = {name: _of(name, credits) for name in self._members}
    name, bounds = bandit.pick(arms, self._exploration, per_money=False)
    return name, {"proposer": name, "proposers": bounds}

  def assigned(self, name: str, context: Context) -> Context:
    """Returns `context` with its writer, where `name` is to choose one."""
    member = self._members[name]
    if not isinstance(member, LanguageModel):
      return context
    return dataclasses.replace(context, writer=member.choose(context))

  def author(self, name: str, context: Context) -> str:
    """Returns whose credit a Draft by `name` from `context` would be."""
    return author_of(context.writer) or name

  def reads(self, name: str) -> bool:
    """Whether `name` needs a Briefing, and edits sources."""
    return self._members[name].reads

  def propose(
    self, name: str, context: Context, choice: Mapping[str, Any]
  ) -> Draft:
    """Returns a Draft by `name`, or by who stands in.

    Raises:
      Exhausted: if neither has one.
    """
    return self._draft(name, lambda member: member.propose(context), choice)

  def instead(self, name: str, context: Context, doubled: Draft) -> Draft:
    """Returns a Draft by who stands in, where the one by `name` is no use.

    Its record says so, and has what asking `name` has cost.

    Args:
      name: whose turn it was.
      context: of the turn.
      doubled: what came of it, and of another turn as well.

    Raises:
      Exhausted: if nobody stands in for `name`, or who does has nothing.
    """

    def gave_nothing(member: Proposer) -> Draft:
      if member is not self._members[name]:
        return member.propose(context)
      raise Exhausted(
        "it wrote what another of its batch wrote",
        choice=doubled.choice,
        cost=doubled.cost,
      )

    return self._draft(name, gave_nothing, {})

  def mender(self, author: str, has_genome: bool) -> str:
    """Returns who repairs a Program: its author's proposer if it can."""
    readers = [n for n, member in self._members.items() if member.reads]
    others = [n for n in self._members if n not in readers]
    if readers and (author.startswith(PREFIX) or not has_genome):
      return readers[0]
    return (others or readers)[0]

  def repair(self, name: str, context: Context, rejection: Rejection) -> Draft:
    """Returns a repair by `name`, or by who stands in.

    Raises:
      Exhausted: if neither has one.
    """
    return self._draft(name, lambda m: m.repair(context, rejection), {})

  def _draft(
    self,
    name: str,
    ask: Callable[[Proposer], Draft],
    choice: Mapping[str, Any],
  ) -> Draft:
    """Returns a signed Draft, and in its `choice` whom it stands in for."""
    cost: dict[str, float] = {}
    try:
      draft = ask(self._members[name])
    except Exhausted as error:
      if self._stands is None or name == self._stand_in:
        raise
      log.warning("%s: %s; %s stands in", name, error, self._stand_in)
      draft = ask(self._stands)
      missed = {"instead_of": name, "why": str(error), **error.choice}
      name, choice, cost = self._stand_in, missed, error.cost
    return dataclasses.replace(
      draft,
      author=draft.author or name,
      choice={**choice, **draft.choice},
      cost={**cost, **draft.cost},
    )


def _of(name: str, credits: Mapping[str, Credit]) -> Credit:
  """Returns the credit of a proposer: of all its models, if it has any."""
  mine = [
    credit
    for author, credit in credits.items()
    if author == name or (name == LLM and author.startswith(PREFIX))
  ]
  return Credit(
    proposals=sum(c.proposals for c in mine),
    improvement=sum(c.improvement for c in mine),
    money=sum(c.money for c in mine),
  )
