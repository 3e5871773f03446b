"""Gemini through google-genai: the Gemini API and Vertex AI.

Credentials come from the environment: GEMINI_API_KEY or GOOGLE_API_KEY; for
Vertex AI a GOOGLE_CLOUD_PROJECT with application-default credentials, or a
key (express mode). The library's own retries are off: client.py has them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from asi_evolve_jax.llm import errors, port, transport
from asi_evolve_jax.llm.port import Answer, Prompt, ProviderError, Usage

_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_FINE = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED", ""})
_BROKEN = frozenset({"MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL"})


def api_key(environ: Mapping[str, str]) -> str:
  """Returns the key, or ""."""
  return next((environ[k].strip() for k in _KEYS if environ.get(k)), "")


def unusable(vertex: bool, environ: Mapping[str, str] = os.environ) -> str:
  """Returns why there is nobody to call, or ""."""
  if api_key(environ) or (vertex and environ.get("GOOGLE_CLOUD_PROJECT")):
    return ""
  wanted = "GOOGLE_CLOUD_PROJECT or GOOGLE_API_KEY" if vertex else _KEYS[0]
  return f"no {wanted} in the environment"


def make_client(
  *, vertex: bool, base_url: str, environ: Mapping[str, str]
) -> Any:
  """Returns a google.genai.Client whose replies are bounded.

  Args:
    vertex: Vertex AI instead of the Gemini API.
    base_url: instead of Google's; "": Google's.
    environ: where credentials are.
  """
  # A second to import: only who calls a model pays it.
  from google import genai
  from google.genai import types

  options = types.HttpOptions(
    base_url=base_url or None, httpx_client=transport.client()
  )
  project = environ.get("GOOGLE_CLOUD_PROJECT", "") if vertex else ""
  return genai.Client(
    vertexai=vertex,
    api_key=None if project else api_key(environ),
    project=project or None,
    location=(environ.get("GOOGLE_CLOUD_LOCATION") or "global")
    if project
    else None,
    http_options=options,
  )


def http_options(timeout_s: float) -> Any:
  """Returns the library's options of one call, which takes milliseconds."""
  from google.genai import types

  return types.HttpOptions(timeout=max(1, int(1000 * timeout_s)))


@contextlib.contextmanager
def told() -> Iterator[None]:
  """Turns whatever a call of the library raises into a ProviderError."""
  from google.auth import exceptions as auth
  from google.genai import errors as api

  try:
    yield
  except api.APIError as e:
    headers = getattr(e.response, "headers", None) or {}
    raise errors.of_status(
      int(e.code or 0),
      errors.message_of(e.message or e.details),
      headers.get("retry-after"),
      e.details,
    ) from None
  except transport.ERRORS as e:
    raise transport.trouble(e) from None
  except auth.GoogleAuthError as e:
    # The server of the tokens may be out of reach for a moment.
    passing = isinstance(e, auth.TransportError) or e.retryable
    raise ProviderError(
      f"credentials: {e}",
      status=port.UNAVAILABLE if passing else port.FAILED,
      transient=passing,
      lasting=not passing,
    ) from None
  except Exception as e:  # the reply is anything, and so is what parses it
    raise ProviderError(
      f"the reply is not in the API's format: {type(e).__name__}: {_why(e)}",
      status=port.INVALID,
      billed=True,
    ) from None


class Gemini:
  """A port.Provider."""

  def __init__(
    self,
    *,
    vertex: bool,
    base_url: str,
    output_tokens: int,
    temperature: float,
    environ: Mapping[str, str] = os.environ,
  ):
    """
    Args:
      vertex: Vertex AI instead of the Gemini API.
      base_url: instead of Google's; "": Google's.
      output_tokens: most that a reply may have.
      temperature: of the draws.
      environ: where credentials are.
    """
    from google.genai import types

    self._types = types
    self._output_tokens = output_tokens
    self._temperature = temperature
    self._client = make_client(
      vertex=vertex, base_url=base_url, environ=environ
    )

  def send(
    self,
    prompt: Prompt,
    model: str,
    *,
    thinking: int | None,
    timeout_s: float,
  ) -> Answer:
    """See port.Provider."""
    with told():
      response = self._client.models.generate_content(
        model=model,
        contents=prompt.text,
        config=self._config(prompt, thinking, timeout_s),
      )
      return _answer(response)

  def _config(
    self, prompt: Prompt, thinking: int | None, timeout_s: float
  ) -> Any:
    types = self._types
    return types.GenerateContentConfig(
      system_instruction=prompt.system or None,
      temperature=self._temperature,
      max_output_tokens=self._output_tokens,
      response_mime_type="application/json" if prompt.schema else None,
      response_json_schema=dict(prompt.schema) if prompt.schema else None,
      automatic_function_calling=types.AutomaticFunctionCallingConfig(
        disable=True
      ),
      thinking_config=None
      if thinking is None
      else types.ThinkingConfig(thinking_budget=thinking),
      http_options=http_options(timeout_s),
    )


def _why(error: Exception) -> str:
  from pydantic import ValidationError

  if not isinstance(error, ValidationError):
    return str(error)
  # Its own text quotes both ends of what is wrong, perhaps half a key each.
  return "; ".join(
    f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    for found in error.errors(include_url=False, include_input=False)
  )


def _answer(response: Any) -> Answer:
  usage = _usage(response.usage_metadata)
  if not response.candidates:
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
      why = f"the prompt was blocked: {_name(feedback.block_reason)}"
      return Answer(port.BLOCKED, "", usage, why)
    return Answer(port.EMPTY, "", usage, "the reply has no candidate")
  candidate = response.candidates[0]
  reason = _name(candidate.finish_reason)
  parts = candidate.content.parts if candidate.content is not None else None
  text = "".join(
    part.text for part in parts or () if part.text and not part.thought
  )
  if reason == "MAX_TOKENS":
    why = "the reply ran into config.models.output_tokens"
    return Answer(port.CUT, text, usage, why)
  if reason in _BROKEN:
    return Answer(port.INVALID, text, usage, f"the model stopped: {reason}")
  if reason not in _FINE:
    return Answer(port.BLOCKED, text, usage, f"the reply was blocked: {reason}")
  if not text:
    return Answer(port.EMPTY, "", usage, "the candidate has no text")
  return Answer(port.OK, text, usage)


def _usage(metadata: Any) -> Usage | None:
  if metadata is None:
    return None
  return Usage(
    prompt=metadata.prompt_token_count or 0,
    output=metadata.candidates_token_count or 0,
    thoughts=metadata.thoughts_token_count or 0,
  )


def _name(reason: Any) -> str:
  return str(getattr(reason, "value", reason) or "")
