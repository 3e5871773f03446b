"""SEARCH/REPLACE edits: every one is made where it says, or none is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

_SHOWN = 5  # places named


class EditError(ValueError):
  """An edit that cannot be made; says which, where, and what to do."""


def apply(source: str, edits: Sequence[tuple[str, str]]) -> str:
  """Returns `source` with (search, replace) pairs made in their order.

  A search text must stand exactly once in what the edits before it have left,
  and begin and end with lines. Trailing blanks and line ends do not count.

  Raises:
    EditError: if one is empty, missing or ambiguous, or nothing changes.
  """
  if not edits:
    raise EditError("there are no edits: give at least one")
  lines = _lines(source)
  for number, (search, replace) in enumerate(edits, 1):
    lines = _one(lines, _trimmed(search), _lines(replace), number)
  if lines == _lines(source):
    raise EditError("the edits change nothing")
  return "\n".join(lines) + "\n"


def _one(
  lines: list[str], search: list[str], replace: list[str], number: int
) -> list[str]:
  if not search:
    raise EditError(
      f"edit {number}: its search text is empty: give the lines to replace, "
      "or the line beside which to insert"
    )
  count = len(search)
  found = [
    i for i in range(len(lines) - count + 1) if lines[i : i + count] == search
  ]
  if len(found) > 1:
    places = ", ".join(str(i + 1) for i in found[:_SHOWN])
    raise EditError(
      f"edit {number}: its search text stands at lines {places}"
      f"{' and more' if len(found) > _SHOWN else ''}: add lines around it "
      "until it stands once\n" + _quoted(search)
    )
  if not found:
    raise EditError(
      f"edit {number}: its search text is not in the source"
      f"{_near(lines, search)}\n{_quoted(search)}"
    )
  at = found[0]
  return [*lines[:at], *replace, *lines[at + count :]]


def _near(lines: list[str], search: list[str]) -> str:
  """Returns where the source comes closest, and how it differs there."""
  first = next(line for line in search if line)
  stripped = [line.strip() for line in lines]
  close = difflib.get_close_matches(first.strip(), stripped, n=1, cutoff=0.6)
  if not close:
    return "; nothing there is like its first line"
  at = stripped.index(close[0])
  return f"; the closest is line {at + 1}: `{lines[at]}`"


def _lines(text: str) -> list[str]:
  # Not splitlines: a form feed inside a line is no line end.
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  lines = [line.rstrip() for line in text.split("\n")]
  while lines and not lines[-1]:
    lines.pop()
  return lines


def _trimmed(text: str) -> list[str]:
  """Returns the lines of a search text without blank ones around it."""
  lines = _lines(text)
  while lines and not lines[0]:
    lines.pop(0)
  return lines


def _quoted(lines: list[str]) -> str:
  shown = lines[:_SHOWN]
  return "\n".join(f"> {line}" for line in shown)
