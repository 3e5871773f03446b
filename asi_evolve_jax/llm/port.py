"""The port to language models: a Prompt goes in, a Completion comes out.

Roles and proposers know this file only. A `Model` answers every Prompt with a
Completion: what goes wrong is a status there, never an exception. A `Provider`
is what a Model sends through, one try at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

# Statuses of Completions and Calls.
OK = "ok"
BLOCKED = "blocked"  # a safety filter, of the prompt or of the reply
EMPTY = "empty"  # no candidate, or one without text
CUT = "cut"  # the reply ran into its token limit
INVALID = "invalid"  # not in the API's format, no JSON, or not the schema's
OVERSIZED = "oversized"  # more bytes than a reply can have
TOO_LONG = "too-long"  # the prompt does not fit the model's context
OVER_BUDGET = "over-budget"  # not sent: it could cost more than is left
UNAVAILABLE = "unavailable"  # passing trouble that did not pass in time
FAILED = "failed"  # the provider said no, and would again
STATUSES = (
  OK,
  BLOCKED,
  EMPTY,
  CUT,
  INVALID,
  OVERSIZED,
  TOO_LONG,
  OVER_BUDGET,
  UNAVAILABLE,
  FAILED,
)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One question.

  Attributes:
    role: who asks, e.g. "researcher"; its thinking budget applies.
    purpose: what for, e.g. "edit".
    about: what it concerns, e.g. "round 12".
    text: what the user says.
    system: what holds for all questions of this role.
    schema: JSON schema of the reply, as structured.py reads it; None: text.
    model: name; "": the first one.
  """

  role: str
  purpose: str
  about: str
  text: str
  system: str = ""
  schema: Mapping[str, Any] | None = None
  model: str = ""


@dataclasses.dataclass(frozen=True)
class Usage:
  """Tokens, as the provider counted them."""

  prompt: int = 0
  output: int = 0
  thoughts: int = 0

  @property
  def total(self) -> int:
    return self.prompt + self.output + self.thoughts


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a Provider got; `status` is OK, BLOCKED, EMPTY, CUT or INVALID."""

  status: str
  text: str
  usage: Usage | None  # None: it did not say
  detail: str = ""


class ProviderError(Exception):
  """A try that got no Answer.

  Attributes:
    status: of the Completion if this was the last try.
    transient: whether the next try may fare better.
    lasting: whether every later call of this model would fail as well.
    retry_after_s: how long the provider asks to wait, or None.
    billed: whether the provider may have done (and count) the work.
  """

  def __init__(
    self,
    message: str,
    *,
    status: str,
    transient: bool = False,
    lasting: bool = False,
    retry_after_s: float | None = None,
    billed: bool = False,
  ):
    super().__init__(message)
    self.status = status
    self.transient = transient
    self.lasting = lasting
    self.retry_after_s = retry_after_s
    self.billed = billed


class Provider(Protocol):
  """Sends a Prompt once; safe to use from several threads."""

  def send(
    self,
    prompt: Prompt,
    model: str,
    *,
    thinking: int | None,
    timeout_s: float,
  ) -> Answer:
    """Returns the Answer to one try.

    Args:
      prompt: what to ask.
      model: whom.
      thinking: tokens to think, -1 as it likes, None: the provider's default.
      timeout_s: seconds without a byte after which to give up; the whole
        reply may take twice as long.

    Raises:
      ProviderError: and nothing else.
    """
    ...


@dataclasses.dataclass(frozen=True)
class Completion:
  """What became of a Prompt.

  Attributes:
    status: one of STATUSES.
    text: the reply; partial where the status is CUT.
    data: the reply as JSON, valid by the Prompt's schema, if it had one and
      the status is OK.
    model: who answered.
    error: what went wrong, in words.
    usage: prompt, output, thoughts, tokens (their sum), money, tries, and
      estimated = 1 where the provider may have counted what it did not say.
  """

  status: str
  text: str = ""
  data: Any = None
  model: str = ""
  error: str = ""
  usage: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Credit:
  """What an author's Proposals have brought so far.

  Attributes:
    proposals: how many.
    improvement: sum over them, see roles/credit.py.
    money: what writing them has cost.
  """

  proposals: int = 0
  improvement: float = 0.0
  money: float = 0.0


class Model(Protocol):
  """One or several language models behind one account and one budget."""

  def complete(self, prompt: Prompt) -> Completion:
    """Returns what became of `prompt`; never raises for what a model does."""
    ...

  def choose(
    self, credits: Mapping[str, Credit], draw: float
  ) -> tuple[str, dict[str, Any]]:
    """Returns who is to write the next Proposal, and what spoke for each.

    Args:
      credits: by model name.
      draw: uniform in [0, 1), for choice by weights.
    """
    ...

  def unready(self) -> str:
    """Returns why no model can be called now, or ""."""
    ...
