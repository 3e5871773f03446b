"""Replies in JSON: parsed, and checked against the schema they were asked for.

The schemas are the part of JSON Schema that providers have in common: objects
with `properties` and `required`, arrays with `items`, strings, booleans,
numbers and integers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)


def unfenced(text: str) -> str:
  """Returns what stands in a Markdown fence, or `text` where there is none."""
  fenced = _FENCE.match(text)
  return fenced.group(1) if fenced else text


class StructureError(ValueError):
  """A reply that is not what was asked for; says where and why."""


def parse(text: str, schema: Mapping[str, Any]) -> Any:
  """Returns the JSON value in `text`, which may stand in a Markdown fence.

  Properties that `schema` does not name are left out, at every depth: nobody
  has checked them.

  Raises:
    StructureError: if it is no JSON or not of `schema`.
  """
  try:
    value = json.loads(unfenced(text))
  except RecursionError as e:
    raise StructureError("the reply is nested too deeply") from e
  except ValueError as e:
    raise StructureError(f"the reply is no JSON: {e}") from e
  return _checked(value, schema, "reply")


def _checked(value: Any, schema: Mapping[str, Any], where: str) -> Any:
  kind = schema["type"]
  if not _is_a(value, kind):
    raise StructureError(
      f"{where} must be of type {kind}, got {type(value).__name__}"
    )
  if kind == "string":
    try:
      value.encode()
    except UnicodeEncodeError as e:
      raise StructureError(
        f"{where} has half a surrogate pair at character {e.start}"
      ) from e
  elif kind == "array":
    return [
      _checked(item, schema["items"], f"{where}[{i}]")
      for i, item in enumerate(value)
    ]
  elif kind == "object":
    for name in schema.get("required", ()):
      if name not in value:
        raise StructureError(f"{where} lacks {name!r}")
    return {
      name: _checked(value[name], inner, f"{where}.{name}")
      for name, inner in schema["properties"].items()
      if name in value
    }
  return value


def _is_a(value: Any, kind: str) -> bool:
  if kind in ("number", "integer"):
    wanted = (int,) if kind == "integer" else (int, float)
    return isinstance(value, wanted) and not isinstance(value, bool)
  return isinstance(
    value, {"string": str, "boolean": bool, "array": list, "object": dict}[kind]
  )
