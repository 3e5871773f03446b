"""What a model is asked to reply, and the Program in what it replied."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.llm.structured import unfenced
from asi_evolve_jax.proposers import edits

_TEXT = {"type": "string"}
_SAID = {
  "name": _TEXT,
  "motivation": _TEXT,
  "knowledge": {"type": "array", "items": _TEXT},
}
FULL = {
  "type": "object",
  "properties": {**_SAID, "program": _TEXT},
  "required": ["name", "motivation", "program"],
}
EDITS = {
  "type": "object",
  "properties": {
    **_SAID,
    "edits": {
      "type": "array",
      "items": {
        "type": "object",
        "properties": {"search": _TEXT, "replace": _TEXT},
        "required": ["search", "replace"],
      },
    },
  },
  "required": ["name", "motivation", "edits"],
}
VERDICT = {
  "type": "object",
  "properties": {"new": {"type": "boolean"}, "why": _TEXT},
  "required": ["new", "why"],
}

# A line break and a quote are two characters of JSON each.
_JSON_CHARS = 2
_LONGEST_NAME = 40
_LONGEST_MOTIVATION = 4000


def longest(max_chars: int) -> int:
  """Returns how many characters a reply may need that can be used.

  Edits may search for a whole Program and replace it.

  Args:
    max_chars: of a Program.
  """
  return _JSON_CHARS * (2 * max_chars + _LONGEST_MOTIVATION)


class ReplyError(ValueError):
  """A reply that holds no usable Program; the text is for its author."""


@dataclasses.dataclass(frozen=True)
class Written:
  """A Program as a model wrote it; `knowledge`: ids that it says it used."""

  name: str
  motivation: str
  source: str
  knowledge: tuple[str, ...]


def read(
  data: Mapping[str, Any],
  schema: Mapping[str, Any],
  parent: str,
  max_chars: int,
) -> Written:
  """Returns the Program in a reply.

  Args:
    data: the reply.
    schema: what was asked for and `data` is of, FULL or EDITS.
    parent: source that edits refer to.
    max_chars: of a Program.

  Raises:
    ReplyError: if there is none that can be measured. edits.EditError: if
      edits cannot be made.
  """
  if "program" in schema["properties"]:
    source = unfenced(data["program"]).strip("\n") + "\n"
  else:
    pairs = [(edit["search"], edit["replace"]) for edit in data["edits"]]
    source = edits.apply(parent, pairs)
  if not source.strip():
    raise ReplyError("the program is empty")
  if len(source) > max_chars:
    raise ReplyError(
      f"the program has {len(source)} characters, at most {max_chars} are "
      "allowed: it is not cut, write it shorter"
    )
  _parses(source)
  motivation = data["motivation"].strip()
  if not motivation:
    raise ReplyError("the motivation is empty: say what changes and why")
  if len(motivation) > _LONGEST_MOTIVATION:
    raise ReplyError(
      f"the motivation has {len(motivation)} characters, at most "
      f"{_LONGEST_MOTIVATION} are allowed"
    )
  knowledge = tuple(data.get("knowledge", ()))
  return Written(_name(data["name"]), motivation, source, knowledge)


def _parses(source: str) -> None:
  try:
    ast.parse(source)
  except SyntaxError as e:
    line = (e.text or "").strip()[:200]
    raise ReplyError(
      f"the program does not parse: line {e.lineno}: {e.msg}: `{line}`"
    ) from e
  except (ValueError, RecursionError, MemoryError) as e:
    raise ReplyError(f"the program does not parse: {e}") from e


def _name(text: str) -> str:
  """Returns a name for tables: words joined by hyphens."""
  words = re.findall(r"[a-z0-9][a-z0-9_+./]*", text.lower())
  name = ""
  for word in words:
    longer = f"{name}-{word}" if name else word[:_LONGEST_NAME]
    if len(longer) > _LONGEST_NAME:
      break
    name = longer
  return name or "unnamed"
