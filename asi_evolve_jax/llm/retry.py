"""How long to wait before the next try."""

from __future__ import annotations

import email.utils
import math
import random
import re
import time
from collections.abc import Mapping
from typing import Any

_FIRST_S = 1.0
_LONGEST_S = 60.0
_JITTER = 0.25  # share added to what a server asks for, so that not all return
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def pause_s(
  tries: int, retry_after_s: float | None, rng: random.Random
) -> float:
  """Returns seconds to wait after `tries` failures.

  Doubling from one second, half of it drawn (AWS's "equal jitter"), and never
  less than the server asked for.
  """
  bound = min(_LONGEST_S, _FIRST_S * 2.0 ** min(tries - 1, 30))
  own = bound * (0.5 + 0.5 * rng.random())
  if retry_after_s is None:
    return own
  return max(own, retry_after_s * (1.0 + _JITTER * rng.random()))


def from_header(value: str | None, now: float | None = None) -> float | None:
  """Returns the seconds of a Retry-After header (RFC 9110, 10.2.3), or None.

  Args:
    value: seconds or an HTTP date.
    now: unix seconds, for dates.
  """
  if not value:
    return None
  try:
    seconds = float(value)
  except ValueError:
    try:
      date = email.utils.parsedate_to_datetime(value)
      seconds = date.timestamp() - (time.time() if now is None else now)
    except (ValueError, OverflowError, TypeError):
      return None
  return max(0.0, seconds) if math.isfinite(seconds) else None


def from_details(body: Any) -> float | None:
  """Returns the seconds of a google.rpc.RetryInfo in an error body, or None."""
  error = body.get("error", body) if isinstance(body, Mapping) else None
  details = error.get("details") if isinstance(error, Mapping) else None
  for detail in details if isinstance(details, list) else ():
    if not isinstance(detail, Mapping):
      continue
    if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
      match = _DURATION.fullmatch(str(detail.get("retryDelay", "")))
      if match:
        return float(match.group(1))
  return None


def longest(*waits: float | None) -> float | None:
  """Returns the largest of the waits that are known, or None."""
  return max((w for w in waits if w is not None), default=None)
