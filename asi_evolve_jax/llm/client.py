"""Calls of language models: tried again, paid for, written down.

A call is counted against the budgets before it is sent, by the most that it
could cost; when it has ended, by what it did cost. Where the provider does not
say (a reply that broke off), that most stands: a budget is never overrun
unknowingly. Other processes of the run spend at the same time, so a run may
end above its budget by the calls that they had open.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from asi_evolve_jax.llm import bandit, port, retry, structured
from asi_evolve_jax.llm.port import (
  Answer,
  Completion,
  Credit,
  Prompt,
  Provider,
  ProviderError,
  Usage,
)
from asi_evolve_jax.llm.prices import Price
from asi_evolve_jax.llm.redact import Redactor
from asi_evolve_jax.records.schema import Call, digest
from asi_evolve_jax.settings import ModelSettings

log = logging.getLogger(__name__)

# Code and JSON have three to four characters of ASCII a token; fewer is on the
# safe side of a budget. Other scripts have about one.
CHARS_PER_TOKEN = 3
# A model that could not be reached is left alone, twice as long each time.
_FIRST_REST_S = 60.0
_LONGEST_REST_S = 900.0
_SHOWN = 600  # characters of an error; cut only once the keys are blanked


class Book(Protocol):
  """Where Calls are kept and budgets are known; of one thread at a time."""

  def record(self, call: Call) -> bool:
    """Keeps a Call; returns False if its id is taken."""
    ...

  def find(self, call_id: str) -> Call | None:
    """Returns a Call that was kept."""
    ...

  def left(self) -> Mapping[str, float]:
    """Returns what may still be spent of tokens and money, where limited."""
    ...


def most_tokens(text: str) -> int:
  """Returns how many tokens `text` may have, before anybody has counted."""
  ascii_only = len(text.encode("ascii", "ignore"))
  return -(-ascii_only // CHARS_PER_TOKEN) + len(text) - ascii_only


class Client:
  """A port.Model over one Provider; safe to use from several threads."""

  def __init__(
    self,
    provider: Provider,
    settings: ModelSettings,
    prices: Mapping[str, Price],
    book: Book,
    *,
    secrets: Sequence[str],
    exploration: float,
  ):
    """
    Args:
      provider: whom to ask.
      settings: config.models.
      prices: model -> price.
      book: of the run.
      secrets: what must be in no record, error or completion.
      exploration: of the bandit over models.
    """
    self._provider = provider
    self._settings = settings
    self._prices = prices
    self._book = book
    self._redact = Redactor(secrets)
    self._exploration = exploration
    self._rng = random.Random()
    self._slots = threading.BoundedSemaphore(settings.parallel)
    self._lock = threading.Lock()
    self._open = {"tokens": 0.0, "money": 0.0}  # of calls under way
    self._rests: dict[str, tuple[float, float, str]] = {}  # until, pause, why

  def complete(self, prompt: Prompt) -> Completion:
    """See port.Model."""
    model = prompt.model or self._settings.names[0]
    why = self._resting(model)
    if why:
      return Completion(port.UNAVAILABLE, model=model, error=why)
    kept, call_id = self._kept(prompt, model)
    if kept is not None:
      return kept
    started = time.monotonic()
    completion = self._complete(prompt, model)
    self._keep(prompt, call_id, completion, time.monotonic() - started)
    if completion.status != port.OK:
      log.warning(
        "%s of %s by %s: %s: %s",
        prompt.purpose,
        prompt.about,
        model,
        completion.status,
        completion.error,
      )
    return completion

  def choose(
    self, credits: Mapping[str, Credit], draw: float
  ) -> tuple[str, dict[str, Any]]:
    """See port.Model."""
    names = self._settings.names
    ready = [n for n in names if not self._resting(n)] or list(names)
    if self._settings.choice == "bandit":
      arms = {name: credits.get(name, Credit()) for name in ready}
      name, bounds = bandit.pick(arms, self._exploration, per_money=True)
      return name, {"model": name, "bounds": bounds}
    weights = self._settings.weights or (1.0,) * len(names)
    shares = {n: w for n, w in zip(names, weights, strict=True) if n in ready}
    total = sum(shares.values())
    point = draw * total
    for name, weight in shares.items():
      point -= weight
      if point < 0:
        return name, {"model": name}
    return ready[-1], {"model": ready[-1]}

  def unready(self) -> str:
    """See port.Model."""
    whys = [self._resting(name) for name in self._settings.names]
    return "" if "" in whys else whys[0]

  def _complete(self, prompt: Prompt, model: str) -> Completion:
    tokens = most_tokens(prompt.system + prompt.text)
    if tokens > self._settings.context_tokens:
      return Completion(
        port.TOO_LONG,
        model=model,
        error=f"about {tokens} tokens, {self._settings.context_tokens} fit",
      )
    most = Usage(prompt=tokens, output=self._settings.output_tokens)
    with self._slots, self._reserved(model, most) as refusal:
      if refusal:
        self._rest(model, refusal)
        return Completion(port.OVER_BUDGET, model=model, error=refusal)
      return self._try(prompt, model, most)

  def _try(self, prompt: Prompt, model: str, most: Usage) -> Completion:
    """Sends until there is an Answer, a final error or no time left."""
    settings = self._settings
    thinking = settings.thinking.get(prompt.role)
    ends_at = time.monotonic() + settings.deadline_s
    unknown = 0  # tries that may have been billed
    for tries in range(1, settings.tries + 1):
      left = ends_at - time.monotonic()
      try:
        answer = self._provider.send(
          prompt,
          model,
          thinking=thinking,
          timeout_s=max(0.001, min(settings.timeout_s, left)),
        )
      except ProviderError as error:
        unknown += error.billed
        wait = retry.pause_s(tries, error.retry_after_s, self._rng)
        late = time.monotonic() + wait >= ends_at
        if error.transient and tries < settings.tries and not late:
          time.sleep(wait)
          continue
        return self._gave_up(model, error, tries, unknown, most)
      with self._lock:
        self._rests.pop(model, None)
      return self._answered(prompt, model, answer, tries, unknown, most)
    raise AssertionError("the last try returns")

  def _gave_up(
    self,
    model: str,
    error: ProviderError,
    tries: int,
    unknown: int,
    most: Usage,
  ) -> Completion:
    why = self._redact(str(error))[:_SHOWN]
    if error.retry_after_s is not None:
      why += f" (it asks for {error.retry_after_s:.0f} s)"
    if error.lasting or error.status == port.UNAVAILABLE:
      self._rest(model, why, lasting=error.lasting)
    return Completion(
      error.status,
      model=model,
      error=f"{why}; {tries} tries",
      usage=self._cost(model, None, tries, unknown, most),
    )

  def _answered(
    self,
    prompt: Prompt,
    model: str,
    answer: Answer,
    tries: int,
    unknown: int,
    most: Usage,
  ) -> Completion:
    completion = Completion(
      answer.status,
      text=self._redact(answer.text),
      model=model,
      error=self._redact(answer.detail),
      usage=self._cost(
        model, answer.usage, tries, unknown + (answer.usage is None), most
      ),
    )
    if answer.status != port.OK:
      return completion
    return self._structured(prompt, completion)

  def _structured(self, prompt: Prompt, completion: Completion) -> Completion:
    """Returns `completion` with its data, or INVALID."""
    if prompt.schema is None:
      return completion
    try:
      data = structured.parse(completion.text, prompt.schema)
    except structured.StructureError as e:
      why = self._redact(str(e))
      return dataclasses.replace(completion, status=port.INVALID, error=why)
    # What the text spelled with escapes stands in clear only now.
    return dataclasses.replace(completion, data=self._redact.within(data))

  def _cost(
    self,
    model: str,
    usage: Usage | None,
    tries: int,
    unknown: int,
    most: Usage,
  ) -> dict[str, float]:
    """Returns the usage of a Call: what was told, else the most it can be."""
    known = _sane(usage or Usage(), self._settings)
    price = self._prices[model]
    cost = {
      "prompt": float(known.prompt),
      "output": float(known.output),
      "thoughts": float(known.thoughts),
      "tokens": float(known.total + unknown * most.total),
      "money": price.money(known) + unknown * price.money(most),
      "tries": float(tries),
    }
    return {**cost, "estimated": 1.0} if unknown else cost

  @contextlib.contextmanager
  def _reserved(self, model: str, most: Usage) -> Iterator[str]:
    """Counts a call's most as spent while it is open; yields why it may not."""
    cost = {
      "tokens": float(most.total),
      "money": self._prices[model].money(most),
    }
    with self._lock:
      refusal = ""
      for name, left in self._book.left().items():
        free = left - self._open[name]
        if cost[name] > free:
          refusal = (
            f"budget: the call may take {cost[name]:.4g} {name}, "
            f"{max(free, 0.0):.4g} are left"
          )
      if not refusal:
        for name, value in cost.items():
          self._open[name] += value
    try:
      yield refusal
    finally:
      if not refusal:
        with self._lock:
          for name, value in cost.items():
            self._open[name] -= value

  def _kept(self, prompt: Prompt, model: str) -> tuple[Completion | None, str]:
    """Returns the Completion of an equal question, and the id of a new Call.

    A Researcher that died after its call and before its Proposal asks the same
    again: what was answered is not paid twice. Budgets count Calls, of which
    there is one; the usage is for who says what a Proposal has cost.
    """
    question = [prompt.role, prompt.purpose, prompt.about, model]
    question += [prompt.system, prompt.text]
    for time_asked in range(1_000):
      call_id = digest(*question, time_asked)
      with self._lock:
        call = self._book.find(call_id)
      if call is None:
        return None, call_id
      if call.status == port.OK:
        kept = Completion(
          port.OK, text=call.reply, model=model, usage=dict(call.usage)
        )
        return self._structured(prompt, kept), call_id
    raise AssertionError(f"{prompt.about} was asked a thousand times")

  def _keep(
    self, prompt: Prompt, call_id: str, done: Completion, seconds: float
  ) -> None:
    text = f"{prompt.system}\n\n{prompt.text}" if prompt.system else prompt.text
    call = Call(
      nonce=call_id,
      role=prompt.role,
      purpose=prompt.purpose,
      about=prompt.about,
      model=done.model,
      prompt=self._redact(text),
      reply=done.text,
      status=done.status,
      usage=dict(done.usage),
      seconds=seconds,
      error=done.error,
    )
    with self._lock:
      # Another process asked the same at the same time: both have cost.
      while not self._book.record(call):
        call = dataclasses.replace(call, nonce=digest(call.nonce))

  def _resting(self, model: str) -> str:
    with self._lock:
      until, _, why = self._rests.get(model, (0.0, 0.0, ""))
    return why if time.monotonic() < until else ""

  def _rest(self, model: str, why: str, *, lasting: bool = False) -> None:
    with self._lock:
      _, before, _ = self._rests.get(model, (0.0, 0.0, ""))
      pause = min(max(_FIRST_REST_S, 2 * before), _LONGEST_REST_S)
      pause = math.inf if lasting else pause
      self._rests[model] = (time.monotonic() + pause, pause, why)
    left = "for good" if lasting else f"for {pause:.0f} s"
    log.warning("%s is left alone %s: %s", model, left, why)


def _sane(usage: Usage, settings: ModelSettings) -> Usage:
  """Returns `usage` within what a call can use: a server can say anything."""

  def within(value: int, most: int) -> int:
    return min(max(value, 0), most)

  return Usage(
    prompt=within(usage.prompt, 2 * settings.context_tokens),
    output=within(usage.output, settings.output_tokens),
    thoughts=within(usage.thoughts, settings.output_tokens),
  )
