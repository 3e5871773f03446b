"""HTTP that ends: a reply has a last byte and a last moment.

httpx2's own timeout is between two bytes, so that a server which drips keeps a
caller for ever, and nothing bounds how much it sends. Compression is neither
asked for nor taken: a bound on what is sent would bound nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.port import ProviderError

# Twenty times the longest reply that a model here can give.
MOST_BYTES = 2 << 20
_DEFAULT_TIMEOUT_S = 60.0


class Oversized(httpx2.TransportError):
  """More bytes than a reply can have."""


class Encoded(httpx2.TransportError):
  """A reply in an encoding that was not asked for."""


class _Bounded(httpx2.SyncByteStream):
  """A reply's body, up to `MOST_BYTES` and a moment."""

  def __init__(self, stream: Any, ends_at: float):
    self._stream = stream
    self._ends_at = ends_at

  def __iter__(self) -> Iterator[bytes]:
    size = 0
    for chunk in self._stream:
      size += len(chunk)
      if size > MOST_BYTES:
        raise Oversized(f"the reply has more than {MOST_BYTES} bytes")
      if time.monotonic() > self._ends_at:
        raise httpx2.ReadTimeout("the reply took too long in all")
      yield chunk

  def close(self) -> None:
    self._stream.close()


class _Transport(httpx2.HTTPTransport):
  def handle_request(self, request: httpx2.Request) -> httpx2.Response:
    started = time.monotonic()
    request.headers["Accept-Encoding"] = "identity"
    response = super().handle_request(request)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
      response.close()
      raise Encoded(
        f"the reply ({response.status_code}) is encoded ({encoding[:40]}) "
        "though `Accept-Encoding: identity` was asked for: let the server or "
        "the gateway before it not compress"
      )
    timeout = request.extensions.get("timeout", {}).get("read")
    ends_at = started + 2 * (timeout or _DEFAULT_TIMEOUT_S)
    return httpx2.Response(
      response.status_code,
      headers=response.headers,
      stream=_Bounded(response.stream, ends_at),
      extensions=response.extensions,
    )


def client() -> httpx2.Client:
  """Returns a client whose replies are bounded; requests give the timeout."""
  return httpx2.Client(
    transport=_Transport(), timeout=_DEFAULT_TIMEOUT_S, follow_redirects=False
  )


def trouble(error: Exception) -> ProviderError:
  """Returns what a failure of the connection means for the caller."""
  name = type(error).__name__
  if isinstance(error, Oversized):
    return ProviderError(str(error), status=port.OVERSIZED, billed=True)
  if isinstance(error, Encoded):
    # Another try would be paid for and be the same.
    return ProviderError(str(error), status=port.UNAVAILABLE, billed=True)
  unsent = isinstance(
    error,
    (
      httpx2.ConnectError,
      httpx2.ConnectTimeout,
      httpx2.PoolTimeout,
      httpx2.UnsupportedProtocol,
      httpx2.InvalidURL,
    ),
  )
  return ProviderError(
    f"{name}: {error}".rstrip(": "),
    status=port.UNAVAILABLE,
    transient=not isinstance(
      error, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)
    ),
    billed=not unsent,
  )


# What a connection raises: see `trouble`.
ERRORS = (httpx2.TransportError, httpx2.InvalidURL, httpx2.DecodingError)
