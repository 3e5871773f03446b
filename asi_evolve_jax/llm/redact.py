"""Keys blanked out of whatever is kept or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

BLANK = "[redacted]"
# Credentials by their shape, for those that stand in no variable: Google API
# keys, OAuth access tokens, and what follows "Bearer".
_SHAPES = re.compile(
  r"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_.-]{20,}"
  r"|(?i:\bbearer\s+)[0-9A-Za-z_.~+/-]{12,}=*"
)


# "EMPTY", which local servers take for a key, is no secret, and blanking it
# would garble prompts and Programs.
_LEAST = 6


class Redactor:
  """Blanks given secrets and whatever looks like a credential."""

  def __init__(self, secrets: Iterable[str]):
    long = {secret for secret in secrets if len(secret) >= _LEAST}
    self._secrets = sorted(long, key=len, reverse=True)

  def __call__(self, text: str) -> str:
    """Returns `text` without secrets, in characters that UTF-8 can hold."""
    text = text.encode("utf-8", errors="replace").decode()
    for secret in self._secrets:
      text = text.replace(secret, BLANK)
    return _SHAPES.sub(BLANK, text)
