"""Edits are made where they say, or not at all."""

import json

import pytest

from asi_evolve_jax.llm import structured
from asi_evolve_jax.proposers import replies
from asi_evolve_jax.proposers.edits import EditError, apply

SOURCE = (
  "def f(x):\n  y = x\n  return y\n\n\ndef g(x):\n  y = x\n  return 2 * y\n"
)


def test_edits_are_made_in_their_order():
  made = apply(
    SOURCE,
    [
      ("  return 2 * y", "  return 3 * y"),
      ("  return 3 * y\n", "  z = 3 * y\n  return z\n"),  # of the first
      ("def f(x):\n  y = x\n", "def f(x):\n  y = -x\n"),
    ],
  )
  assert made == (
    "def f(x):\n  y = -x\n  return y\n\n\n"
    "def g(x):\n  y = x\n  z = 3 * y\n  return z\n"
  )


def test_line_ends_and_trailing_blanks_do_not_count():
  made = apply("a = 1  \r\nb = 2\r\n", [("\na = 1\n\n", "a = 3")])
  assert made == "a = 3\nb = 2\n"


def test_lines_can_be_taken_out():
  assert apply(SOURCE, [("  y = x\n  return y", "")]).startswith(
    "def f(x):\n\n"
  )


@pytest.mark.parametrize(
  ("edits", "why"),
  [
    ([], "no edits"),
    ([("", "import os")], "edit 1: its search text is empty"),
    ([(" \n", "import os")], "edit 1: its search text is empty"),
    ([("  y = x", "  y = 0")], "edit 1: its search text stands at lines 2, 7"),
    ([("y = x", "y = 0")], "edit 1: .* the closest is line 2: `  y = x`"),
    ([("while True:", "pass")], "edit 1: .* nothing there is like"),
    (
      [("  return y", "  return x"), ("  return y", "  return 1")],
      "edit 2: its search text is not in the source",
    ),
    ([("  return y", "  return y")], "change nothing"),
  ],
)
def test_what_cannot_be_made_is_an_error_with_the_place(edits, why):
  with pytest.raises(EditError, match=why):
    apply(SOURCE, edits)


def _reply(program, **more):
  return {
    "name": "A Name!",
    "motivation": "Because.",
    "program": program,
    **more,
  }


def _read(data):
  return replies.read(data, replies.FULL, "", 100)


def test_a_program_is_never_cut_and_must_parse():
  written = _read(_reply("```python\nx = 1\n```"))
  assert (written.name, written.source) == ("a-name", "x = 1\n")
  for program, why in (
    ("x = 1\n" * 50, "300 characters, at most 100 .* not cut"),
    ("x = (", "line 1: '\\(' was never closed: `x = \\("),
    ("x = 1\0", "null"),
    ("\n \n", "empty"),
    ("(" * 90, "parse"),
  ):
    with pytest.raises(replies.ReplyError, match=why):
      _read(_reply(program))
  with pytest.raises(replies.ReplyError, match="motivation is empty"):
    _read(_reply("x = 1", motivation=" "))
  long = _read(_reply("x = 1", name="word " * 40))
  assert len(long.name) <= 40
  assert _read(_reply("x = 1", name="§")).name == "unnamed"


def test_what_was_not_asked_for_is_not_read():
  edits = [{"search": "x", "replace": "y", "lines": 3}]
  said = _reply(None, edits=edits)
  data = structured.parse(json.dumps(said), replies.EDITS)
  assert data["edits"] == [{"search": "x", "replace": "y"}]
  assert "program" not in data
  assert replies.read(data, replies.EDITS, "x\n", 100).source == "y\n"
  data = structured.parse(json.dumps(_reply("x", edits=3)), replies.FULL)
  assert set(data) == {"name", "motivation", "program"}
