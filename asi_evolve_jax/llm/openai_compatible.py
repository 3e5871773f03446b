"""Any server that speaks OpenAI's chat completions: local models, gateways.

One request and one reply, so plain HTTP with the client that google-genai
brings (httpx2) does it: the same timeouts, bounds and retries as for Gemini
hold, and no further package.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.llm import errors, port, transport
from asi_evolve_jax.llm.port import Answer, Prompt, ProviderError, Usage

log = logging.getLogger(__name__)

# What some servers refuse, by its name in their message, and what is sent in
# its place; None: nothing is.
_INSTEAD = {"max_tokens": "max_completion_tokens", "temperature": None}
_FILTERS = frozenset({"content_filter", "safety"})


class OpenAICompatible:
  """A port.Provider; what a model refuses is not sent to it again."""

  def __init__(
    self, base_url: str, key: str, *, output_tokens: int, temperature: float
  ):
    """
    Args:
      base_url: up to and without "/chat/completions".
      key: sent as a bearer token; "": none is sent.
      output_tokens: most that a reply may have.
      temperature: of the draws.
    """
    self._url = f"{base_url.rstrip('/')}/chat/completions"
    self._headers = {"Authorization": f"Bearer {key}"} if key else {}
    self._output_tokens = output_tokens
    self._temperature = temperature
    self._client = transport.client()
    self._lock = threading.Lock()
    self._refused: dict[str, frozenset[str]] = {}  # model -> parameters

  def send(
    self,
    prompt: Prompt,
    model: str,
    *,
    thinking: int | None,
    timeout_s: float,
  ) -> Answer:
    """See port.Provider; servers of this kind have no thinking budget."""
    del thinking
    while True:
      without = self._refused.get(model, frozenset())
      try:
        return self._send(self._body(prompt, model, without), timeout_s)
      except ProviderError as e:
        refused = _refused_by(e) - without
        if not refused:
          raise
      with self._lock:
        known = self._refused.get(model, frozenset())
        self._refused[model] = known | refused
      names = ", ".join(sorted(refused))
      log.warning("%s refuses %s: it is not sent any more", model, names)

  def _send(self, body: Mapping[str, Any], timeout_s: float) -> Answer:
    try:
      response = self._client.post(
        self._url,
        json=body,
        headers=self._headers,
        timeout=timeout_s,
      )
      content = response.content
    except transport.ERRORS as e:
      raise transport.trouble(e) from None
    try:
      said = response.json()
    except (ValueError, RecursionError):
      said = None
    if response.status_code != 200:
      told = content.decode(errors="replace") if said is None else said
      raise errors.of_status(
        response.status_code,
        errors.message_of(told),
        response.headers.get("retry-after"),
        said,
      )
    try:
      return _answer(said)
    except Exception as e:  # the reply is anything, and so is what reads it
      raise ProviderError(
        f"the reply is not in the API's format: {type(e).__name__}: {e}",
        status=port.INVALID,
        billed=True,
      ) from None

  def _body(
    self, prompt: Prompt, model: str, without: frozenset[str]
  ) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt.text}]
    if prompt.system:
      messages.insert(0, {"role": "system", "content": prompt.system})
    body: dict[str, Any] = {"model": model, "messages": messages}
    for name, value in (
      ("temperature", self._temperature),
      ("max_tokens", self._output_tokens),
    ):
      sent = _INSTEAD[name] if name in without else name
      if sent is not None:
        body[sent] = value
    if prompt.schema:
      body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": dict(prompt.schema)},
      }
    return body


def _refused_by(error: ProviderError) -> frozenset[str]:
  """Returns the parameters that a server's message refuses by name."""
  if error.status != port.FAILED or error.lasting:
    return frozenset()
  text = str(error)
  return frozenset(name for name in _INSTEAD if re.search(rf"\b{name}\b", text))


def _answer(body: Any) -> Answer:
  usage = _usage(body.get("usage"))
  choices = body.get("choices")
  if not choices:
    return Answer(port.EMPTY, "", usage, "the reply has no choice")
  message, reason = choices[0]["message"], choices[0].get("finish_reason")
  text = message.get("content") or ""
  if not isinstance(text, str):
    raise TypeError("the content is no text")
  if reason == "length":
    why = "the reply ran into config.models.output_tokens"
    return Answer(port.CUT, text, usage, why)
  if reason in _FILTERS or message.get("refusal"):
    why = f"the reply was blocked: {message.get('refusal') or reason}"
    return Answer(port.BLOCKED, text, usage, why)
  if not text:
    return Answer(port.EMPTY, "", usage, "the choice has no text")
  return Answer(port.OK, text, usage)


def _usage(usage: Any) -> Usage | None:
  if not isinstance(usage, Mapping):
    return None
  return Usage(
    prompt=_count(usage.get("prompt_tokens")),
    output=_count(usage.get("completion_tokens")),
  )


def _count(said: Any) -> int:
  # What int() says of a text quotes its beginning, perhaps half a key.
  if not isinstance(said, int | float | None):
    raise TypeError("a count of tokens is no number")
  return int(said or 0)
