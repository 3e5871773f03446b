"""A thousand replies that nobody would send: each ends as a status."""

import dataclasses
import json
import pathlib
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.client import Client
from asi_evolve_jax.programs.genome import Gene, Space
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Briefing,
  Context,
  Knowledge,
  Known,
  Story,
)
from asi_evolve_jax.proposers.registry import make_team
from asi_evolve_jax.records.codec import encode
from asi_evolve_jax.settings import ResearcherSettings

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import llm_kit
from gemini_server import GeminiServer, error, reply
from llm_kit import chat

PARENT = "def f(x):\n  return x\n\n\ndef g(x):\n  return x\n"


class Knob(Space):
  genes = (Gene("x", tuple(range(9)), 0),)

  def render(self, genome):
    return f"X = {genome['x']}\n"

  def title(self, genome):
    return f"x{genome['x']}"


# Half a surrogate pair is text to JSON and none to UTF-8.
_text = st.text(st.characters(), max_size=60) | st.sampled_from(
  ["\ud800", "\0", "x = 1\n", PARENT, "(" * 300, "- " * 4000 + "1", "\x0c\r"]
)
_json = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | _text,
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4)
  ),
  max_leaves=8,
)
_lines = st.sampled_from(["  return x", "def f(x):\n  return x", "", "y", "  "])
_whole = st.fixed_dictionaries(
  {"name": _text, "motivation": _text, "program": _text | _json}
)
_edits = st.fixed_dictionaries(
  {
    "name": _text,
    "motivation": _text,
    "edits": _json
    | st.lists(
      st.fixed_dictionaries({"search": _lines | _json, "replace": _text}),
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
    st.sampled_from(["program", "edits", "name", "new", "x"]), _json, max_size=2
  ),
)
_said = st.one_of(
  _text,
  _json.map(json.dumps),
  _mixed.map(json.dumps),
  _whole.map(json.dumps),
  _edits.map(json.dumps),
  _whole.map(lambda d: f"```json\n{json.dumps(d)}\n```"),
)
_finish = st.sampled_from(
  ["STOP", "MAX_TOKENS", "SAFETY", "OTHER", "NEW_REASON", "", None, 7]
)
_count = st.integers(-(2**70), 2**70) | st.integers(0, 1000)
_usage = st.none() | st.tuples(_count, _count, _count)
_candidates = st.builds(
  lambda text, finish, usage: reply(text, finish=finish, usage=usage),
  _said,
  _finish,
  _usage,
)
_chats = st.builds(
  lambda said, finish, usage: chat(said, finish_reason=finish, usage=usage),
  _said,
  st.sampled_from(["stop", "stop", None, "length", "content_filter"]),
  st.tuples(_count, _count) | st.just((1e999, None)),
)
_odd_chats = st.builds(
  lambda said, finish, usage, more: chat(
    said, finish_reason=finish, usage=usage, **more
  ),
  _said | _json,
  _json,
  st.tuples(_json, _json),
  st.dictionaries(st.just("message"), _json, max_size=1),
)
_chat_bodies = st.builds(
  lambda choices, usage: {"body": {"choices": choices, "usage": usage}},
  _json,
  _json,
)
_bodies = st.builds(
  lambda candidates, feedback, usage: {
    "body": {
      "candidates": candidates,
      "promptFeedback": feedback,
      "usageMetadata": usage,
    }
  },
  _json,
  _json,
  _json,
)
_errors = st.builds(
  lambda code, body, wait: {
    "code": code,
    "body": body,
    "headers": {"Retry-After": wait},
  },
  st.sampled_from([201, 204, 302, 400, 401, 404, 413, 418, 429, 500, 503, 599]),
  _json
  | st.builds(
    lambda d: {"error": {"message": d, "details": [d]}},
    _json | st.sampled_from(["no max_tokens", "no temperature"]),
  ),
  st.sampled_from(["1", "-5", "nan", "1e400", "soon", ""]),
)
_broken = st.one_of(
  _errors,
  st.binary(max_size=200).map(lambda raw: {"raw": raw}),
  st.sampled_from([{"reset": True}, {"body": "half", "cut": True}]),
  st.just(error(429, "later", headers={"Retry-After": "9" * 400})),
)
_HOSTILE = {
  "gemini": st.one_of(_candidates, _candidates, _bodies, _broken),
  "openai": st.one_of(_chats, _chats, _odd_chats, _chat_bodies, _broken),
}


def _context(seed):
  story = Story("p" * 32, "parent", PARENT, "A start.")
  return Context(
    space=Knob(),
    parent=Known("p" * 32, "parent", None, 1.0),
    references=(),
    knowledge=(),
    effects={},
    known=lambda program: program == program_id(PARENT),
    rng=random.Random(seed),
    settings=ResearcherSettings(turns=2, max_chars=20_000),
    briefing=Briefing("round 1", "", "loss", story, (), (), lambda: [story]),
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ("kind", "draws", "statuses"),
  [
    ("gemini", 850, {"ok", "blocked", "empty", "cut", "invalid", "failed"}),
    ("openai", 150, {"empty", "cut", "invalid", "failed"}),
  ],
)
def test_no_reply_crashes_the_role_and_each_is_recorded(kind, draws, statuses):
  seen = set()
  hostile = _HOSTILE[kind]
  with GeminiServer(reply("")) as server:
    make = {"gemini": llm_kit.client, "openai": llm_kit.local}[kind]
    run = llm_kit.settings(server, tries=1)
    first = make(server, tries=1)
    models = first._settings
    author = f"llm:{models.names[0]}"

    @settings(
      max_examples=draws,
      deadline=None,
      derandomize=True,
      database=None,
      suppress_health_check=list(HealthCheck),
    )
    @given(hostile, hostile, st.integers(0, 1))
    def answer(one, two, seed):
      server.script = [one, two]
      server.requests.clear()
      book = llm_kit.Book()
      # A client that has seen nothing yet, on the same connection.
      model = Client(
        first._provider,
        models,
        first._prices,
        book,
        secrets=[llm_kit.KEY],
        exploration=0.0,
      )
      team = make_team(run, model)
      draft = team.propose("llm", _context(seed), {})
      assert draft.author in (author, "symbolic")
      assert program_id(draft.source)
      draft.source.encode()
      draft.motivation.encode()
      assert 0 < len(draft.name) <= 40
      assert len(draft.source) <= 20_000
      assert book.calls
      for call in book.calls.values():
        assert call.status in port.STATUSES
        assert call.status == "ok" or call.error
        assert 0 <= call.usage.get("money", 0.0) < 10
        encode(call)
        seen.add(call.status)

    answer()
  assert statuses <= seen
  assert "unavailable" in seen


def test_only_knowledge_that_a_model_says_it_used_is_cited():
  items = tuple(
    Knowledge(i, f"Item {i}", (), (), 1.0, f"Text of {i}.") for i in ("a", "b")
  )
  said = {
    "name": "n",
    "motivation": "m",
    "knowledge": ["b", "no-such", "b"],
    "program": "X = 1\n",
  }
  context = dataclasses.replace(_context(0), knowledge=items)
  with GeminiServer(reply(json.dumps(said))) as server:
    team = make_team(llm_kit.settings(server), llm_kit.client(server, tries=1))
    draft = team.propose("llm", context, {})
  assert draft.knowledge == ("b",)
  assert "Id: a\n\nText of a." in server.text(0)
