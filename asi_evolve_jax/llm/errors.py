"""What an HTTP error of a provider means for the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.llm import port, retry
from asi_evolve_jax.llm.port import ProviderError

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_LASTING = frozenset({401, 402, 403, 404})  # keys, bills, names of models
_BAD_KEY = re.compile(r"API[ _]key (not valid|expired|not found)", re.I)
_CONTEXT = re.compile(
  r"token count .*exceeds|maximum (context|number of tokens)"
  r"|context[ _](length|window)|too many tokens|prompt is too long",
  re.I,
)


def of_status(
  code: int, message: str, header: str | None, body: Any
) -> ProviderError:
  """Returns the error for an HTTP status that is no success.

  Args:
    code: the status.
    message: what the provider said, whole: half a key is not recognized.
    header: its Retry-After, or None.
    body: its error as JSON, for google.rpc.RetryInfo; anything.
  """
  text = f"{code}: {message}"
  if code in _TRANSIENT:
    return ProviderError(
      text,
      status=port.UNAVAILABLE,
      transient=True,
      retry_after_s=retry.longest(
        retry.from_header(header), retry.from_details(body)
      ),
    )
  if code in (400, 413) and _CONTEXT.search(message):
    return ProviderError(text, status=port.TOO_LONG)
  lasting = code in _LASTING or bool(_BAD_KEY.search(message))
  return ProviderError(text, status=port.FAILED, lasting=lasting)


def message_of(body: Any) -> str:
  """Returns the message of an error body, whatever that is."""
  error = body.get("error", body) if isinstance(body, Mapping) else body
  if isinstance(error, Mapping):
    error = error.get("message", error)
  return str(error)
