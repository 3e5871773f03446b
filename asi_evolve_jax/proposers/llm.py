"""The Researcher's hand with a language model.

A Proposal takes a few turns. The model writes a whole Program or edits of the
parent; what cannot be used goes back with the reason. Edits that cannot be
made go back once as edits, then the whole Program is asked for. What is known
or much like something known goes back as well, before anything is computed.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.port import Completion, Credit, Model, Prompt
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers import prompting, replies
from asi_evolve_jax.proposers.base import (
  Briefing,
  Context,
  Draft,
  Exhausted,
  Rejection,
)
from asi_evolve_jax.proposers.edits import EditError
from asi_evolve_jax.proposers.novelty import Novelty
from asi_evolve_jax.proposers.replies import ReplyError, Written
from asi_evolve_jax.settings import ModelSettings

log = logging.getLogger(__name__)

ROLE = "researcher"
JUDGE = "judge"
PREFIX = "llm:"  # of authors


class LanguageModel:
  """A Proposer that asks a Model."""

  reads = True

  def __init__(self, model: Model, settings: ModelSettings):
    self._model = model
    self._context_tokens = settings.context_tokens
    self._system = prompting.system("system", settings.prompts)
    self._novelty = Novelty()

  def choose(self, context: Context) -> dict[str, Any]:
    """Returns the model that is to write, and what spoke for it."""
    _, choice = self._model.choose(
      _by_model(context.credits), context.rng.random()
    )
    return choice

  def propose(self, context: Context) -> Draft:
    """See proposers.base.Proposer."""
    whole = context.rng.random() >= context.settings.edits
    briefing = _briefing(context)
    task = prompting.template(
      "full" if whole else "edit",
      metric=briefing.metric,
      max_chars=context.settings.max_chars,
    )
    ask = _Ask(
      "propose" if whole else "edit",
      task,
      replies.FULL if whole else replies.EDITS,
    )
    return self._write(context, ask, operator="write" if whole else "edit")

  def repair(self, context: Context, rejection: Rejection) -> Draft:
    """See proposers.base.Proposer."""
    task = prompting.template(
      "repair", gate=rejection.gate, message=rejection.message
    )
    ask = _Ask("mend", task, replies.EDITS)
    # What keeps the idea and changes little is like what it mends, as asked.
    mends = context.parent.program
    return self._write(context, ask, operator="repair", mends=mends)

  def _write(
    self, context: Context, ask: _Ask, operator: str, mends: str = ""
  ) -> Draft:
    why = self._model.unready()
    if why:
      raise Exhausted(f"no model answers: {why}")
    session = _Session(
      self._model,
      context.writer or self.choose(context),
      context,
      self._system,
      self._context_tokens,
    )
    failed_edits = 0
    for _ in range(context.settings.turns):
      completion = session.ask(ask)
      try:
        written = _read(completion, ask.schema, context)
      except EditError as e:
        failed_edits += 1
        if failed_edits > 1:
          ask = ask.rewrite(completion, str(e), session)
        else:
          ask = ask.repeat(completion, str(e), session)
        continue
      except ReplyError as e:
        ask = ask.repeat(completion, str(e), session)
        continue
      problem = self._known(session, written, mends)
      if not problem:
        return _draft(session, written, operator)
      ask = ask.repeat(completion, problem, session)
    raise session.exhausted(
      f"wrote nothing usable in {context.settings.turns} turns"
    )

  def _known(self, session: _Session, written: Written, mends: str) -> str:
    """Returns why a Program is not new, for its author, or "".

    Args:
      session: of the Proposal.
      written: the Program.
      mends: id of the Program that it may be like, but not be; "": none.
    """
    context = session.context
    if context.known(program_id(written.source)):
      return (
        "this Program was proposed before, but for names, comments and layout: "
        "propose something else"
      )
    archive = [s for s in _briefing(context).archive() if s.program != mends]
    vectors = _briefing(context).vectors
    new = written.source, written.motivation
    nearest = self._novelty.nearest(*new, archive)
    grey, same = context.settings.novelty
    if nearest is None or nearest.likeness < grey:
      if vectors is None:
        return ""
      # The same in other words, perhaps: for the judge to tell.
      nearest = self._novelty.told_again(*new, archive, vectors, grey)
      if nearest is None:
        return ""
      same = math.inf
    story = nearest.story
    if nearest.likeness >= same:
      return (
        f"this is {story.name} again (likeness {nearest.likeness:.2f}), which "
        f"was written because: {story.motivation}\nPropose something else."
      )
    verdict = session.judge(
      prompting.template(
        "judge",
        old_name=story.name,
        old_motivation=story.motivation,
        old_source=story.source,
        new_name=written.name,
        new_motivation=written.motivation,
        new_source=written.source,
      )
    )
    # A judge that does not answer stops nobody: what is near is not the same.
    if verdict.status != port.OK or verdict.data["new"]:
      return ""
    return (
      f"this is too much like {story.name}, which was proposed before: "
      f"{verdict.data['why']}\nPropose something else."
    )


@dataclasses.dataclass(frozen=True)
class _Ask:
  """What is asked now; `after` follows the task when a reply goes back."""

  purpose: str
  task: str
  schema: Mapping[str, Any]
  after: str = ""

  def repeat(
    self, completion: Completion, problem: str, session: _Session
  ) -> _Ask:
    after = prompting.returned(
      "again", completion, problem, shown=session.shown
    )
    return dataclasses.replace(self, after=after)

  def rewrite(
    self, completion: Completion, problem: str, session: _Session
  ) -> _Ask:
    after = prompting.returned(
      "rewrite",
      completion,
      problem,
      shown=session.shown,
      max_chars=session.context.settings.max_chars,
    )
    return dataclasses.replace(
      self, purpose=f"{self.purpose}-whole", schema=replies.FULL, after=after
    )


class _Session:
  """The calls of one Proposal.

  Attributes:
    context: of it.
    choice: the model, and what spoke for it.
    cost: so far.
    shown: most characters of a reply that go back.
  """

  def __init__(
    self,
    model: Model,
    choice: Mapping[str, Any],
    context: Context,
    system: str,
    context_tokens: int,
  ):
    self.context = context
    self.choice = dict(choice)
    self.cost = {"calls": 0.0, "tokens": 0.0, "money": 0.0}
    self._model = model
    self._name = choice["model"]
    self._system = system
    self._room = prompting.Room(context_tokens)
    longest = replies.longest(context.settings.max_chars)
    self.shown = min(longest, self._room.reply_chars)

  def ask(self, ask: _Ask) -> Completion:
    """Returns an answer that is OK, CUT or INVALID.

    Raises:
      Exhausted: if there is none.
    """
    briefing = _briefing(self.context)
    pieces = prompting.material(self.context, briefing)
    prompt = Prompt(
      role=ROLE,
      purpose=ask.purpose,
      about=briefing.about,
      system=self._system,
      text=ask.task,
      schema=ask.schema,
      model=self._name,
    )
    completion = self._room.ask(self._complete, prompt, pieces, ask.after)
    if completion.status in (port.OK, port.CUT, port.INVALID):
      return completion
    raise self.exhausted(
      f"{completion.status}: {completion.error or 'no reason'}"
    )

  def exhausted(self, why: str) -> Exhausted:
    """Returns that the model gave nothing, with what asking it has cost."""
    return Exhausted(f"{self._name}: {why}", choice=self.choice, cost=self.cost)

  def judge(self, text: str) -> Completion:
    """Returns a verdict on novelty, whatever its status."""
    return self._complete(
      Prompt(
        role=JUDGE,
        purpose="judge",
        about=_briefing(self.context).about,
        text=text,
        schema=replies.VERDICT,
        model=self._name,
      )
    )

  def _complete(self, prompt: Prompt) -> Completion:
    completion = self._model.complete(prompt)
    self.cost["calls"] += 1
    for name in ("tokens", "money"):
      self.cost[name] += completion.usage.get(name, 0.0)
    return completion


def _read(
  completion: Completion, schema: Mapping[str, Any], context: Context
) -> Written:
  if completion.status != port.OK:
    raise ReplyError(completion.error)
  parent = _briefing(context).parent.source
  max_chars = context.settings.max_chars
  return replies.read(completion.data, schema, parent, max_chars)


def _draft(session: _Session, written: Written, operator: str) -> Draft:
  context = session.context
  return Draft(
    source=written.source,
    genome=None,
    name=written.name,
    motivation=written.motivation,
    operator=operator,
    parents=(context.parent.program,),
    # What it was shown and did not use has no part in what comes of it.
    knowledge=tuple(
      item.id for item in context.knowledge if item.id in written.knowledge
    ),
    author=author_of(session.choice),
    cost=session.cost,
    choice=session.choice,
  )


def _briefing(context: Context) -> Briefing:
  if context.briefing is None:
    raise ValueError("a proposer that reads needs Context.briefing")
  return context.briefing


def author_of(choice: Mapping[str, Any]) -> str:
  """Returns the author that a model in `choice` is, or "": there is none."""
  return f"{PREFIX}{choice['model']}" if "model" in choice else ""


def _by_model(credits: Mapping[str, Credit]) -> dict[str, Credit]:
  return {
    author.removeprefix(PREFIX): credit
    for author, credit in credits.items()
    if author.startswith(PREFIX)
  }
