"""Replies that nobody would send, drawn around those that were asked for."""

import json

import hypothesis
from gemini_server import error, reply
from hypothesis import strategies as st
from llm_kit import chat

PARENT = "def f(x):\n  return x\n\n\ndef g(x):\n  return x\n"

# Half a surrogate pair is text to JSON and none to UTF-8.
text = st.text(st.characters(), max_size=60) | st.sampled_from(
  ["\ud800", "\0", "x = 1\n", PARENT, "(" * 300, "- " * 4000 + "1", "\x0c\r"]
)
values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | text,
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4)
  ),
  max_leaves=8,
)
_lines = st.sampled_from(["  return x", "def f(x):\n  return x", "", "y", "  "])
_whole = st.fixed_dictionaries(
  {"name": text, "motivation": text, "program": text | values}
)
_edits = st.fixed_dictionaries(
  {
    "name": text,
    "motivation": text,
    "edits": values
    | st.lists(
      st.fixed_dictionaries({"search": _lines | values, "replace": text}),
      max_size=3,
    ),
  }
)
# Keys of the one form in the other, and of neither.
_mixed = st.builds(
  lambda one, two, more: {**one, **two, **more},
  _whole,
  _edits,
  st.dictionaries(
    st.sampled_from(["program", "edits", "name", "new", "x"]),
    values,
    max_size=2,
  ),
)
proposals = _mixed | _whole | _edits
_finish = st.sampled_from(
  ["STOP", "MAX_TOKENS", "SAFETY", "OTHER", "NEW_REASON", "", None, 7]
)
_count = st.integers(-(2**70), 2**70) | st.integers(0, 1000)
_usage = st.none() | st.tuples(_count, _count, _count)
_chat_bodies = st.builds(
  lambda choices, usage: {"body": {"choices": choices, "usage": usage}},
  values,
  values,
)
_bodies = st.builds(
  lambda candidates, feedback, usage: {
    "body": {
      "candidates": candidates,
      "promptFeedback": feedback,
      "usageMetadata": usage,
    }
  },
  values,
  values,
  values,
)
_errors = st.builds(
  lambda code, body, wait: {
    "code": code,
    "body": body,
    "headers": {"Retry-After": wait},
  },
  st.sampled_from([201, 204, 302, 400, 401, 404, 413, 418, 429, 500, 503, 599]),
  values
  | st.builds(
    lambda d: {"error": {"message": d, "details": [d]}},
    values | st.sampled_from(["no max_tokens", "no temperature"]),
  ),
  st.sampled_from(["1", "-5", "nan", "1e400", "soon", ""]),
)
broken = st.one_of(
  _errors,
  st.binary(max_size=200).map(lambda raw: {"raw": raw}),
  st.sampled_from([{"reset": True}, {"body": "half", "cut": True}]),
  st.just(error(429, "later", headers={"Retry-After": "9" * 400})),
)


def gemini(wanted):
  """Returns entries for a loopback server, as Gemini's servers tell them.

  Args:
    wanted: what a model was asked for, and near it.
  """
  candidates = st.builds(
    lambda content, finish, usage: reply(content, finish=finish, usage=usage),
    said(wanted),
    _finish,
    _usage,
  )
  return st.one_of(candidates, candidates, _bodies, broken)


def openai(wanted):
  """Returns the same as OpenAI's servers tell it."""
  chats = st.builds(
    lambda content, finish, usage: chat(
      content, finish_reason=finish, usage=usage
    ),
    said(wanted),
    st.sampled_from(["stop", "stop", None, "length", "content_filter"]),
    st.tuples(_count, _count) | st.just((1e999, None)),
  )
  odd = st.builds(
    lambda content, finish, usage, more: chat(
      content, finish_reason=finish, usage=usage, **more
    ),
    said(wanted) | values,
    values,
    st.tuples(values, values),
    st.dictionaries(st.just("message"), values, max_size=1),
  )
  return st.one_of(chats, chats, odd, _chat_bodies, broken)


def given(draws, *strategies):
  """Returns a decorator: so many draws, the same each time."""

  def decorate(check):
    return hypothesis.settings(
      max_examples=draws,
      deadline=None,
      derandomize=True,
      database=None,
      suppress_health_check=list(hypothesis.HealthCheck),
    )(hypothesis.given(*strategies)(check))

  return decorate


def said(wanted):
  """Returns texts of a model, most of them the JSON that is `wanted`."""
  whole = wanted.map(json.dumps)
  fenced = whole.map(lambda inner: f"```json\n{inner}\n```")
  return st.one_of(text, values.map(json.dumps), whole, whole, whole, fenced)
