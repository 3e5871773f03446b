"""Keys blanked out of whatever is kept or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

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
# What JSON may write behind a backslash for a character.
_SHORT = {"/": "/", '"': '"', "\\": "\\", "\n": "n", "\t": "t"}


class Redactor:
  """Blanks given secrets and whatever looks like a credential."""

  def __init__(self, secrets: Iterable[str]):
    long = {secret for secret in secrets if len(secret) >= _LEAST}
    self._secrets = sorted(long, key=len, reverse=True)
    self._escaped = [re.compile(_escaped(secret)) for secret in self._secrets]

  def __call__(self, text: str) -> str:
    """Returns `text` without secrets, in characters that UTF-8 can hold.

    A secret with JSON escapes is one as well: whoever reads the JSON has it.
    """
    text = text.encode("utf-8", errors="replace").decode()
    for secret in self._secrets:
      text = text.replace(secret, BLANK)
    if "\\" in text:
      for pattern in self._escaped:
        text = pattern.sub(BLANK, text)
    return _SHAPES.sub(BLANK, text)

  def within(self, value: Any) -> Any:
    """Returns a JSON value with every string of it redacted, keys as well."""
    if isinstance(value, str):
      return self(value)
    if isinstance(value, list):
      return [self.within(item) for item in value]
    if isinstance(value, dict):
      return {self(k): self.within(item) for k, item in value.items()}
    return value


def _escaped(secret: str) -> str:
  """Returns a pattern of `secret` in JSON, any of its characters escaped."""
  return "".join(map(_forms, secret))


def _forms(char: str) -> str:
  """Returns a pattern of `char` and of its escapes.

  JSON may be a string within JSON, where backslashes double. Not any number
  of them: how long a match takes must not depend on who writes the text.
  """
  forms = [re.escape(char), rf"\\{{1,4}}u(?i:{ord(char):04x})"]
  if char in _SHORT:
    forms.append(rf"\\{{1,4}}{re.escape(_SHORT[char])}")
  return f"(?:{'|'.join(forms)})"
