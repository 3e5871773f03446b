"""A thousand replies that nobody would send: each ends as a status."""

import dataclasses
import json
import pathlib
import random
import sys

import pytest
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

import hostile
import llm_kit
from gemini_server import GeminiServer, reply
from hostile import PARENT


class Knob(Space):
  genes = (Gene("x", tuple(range(9)), 0),)

  def render(self, genome):
    return f"X = {genome['x']}\n"

  def title(self, genome):
    return f"x{genome['x']}"


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
  replies = {
    "gemini": hostile.gemini(hostile.proposals),
    "openai": hostile.openai(hostile.proposals),
  }[kind]
  with GeminiServer(reply("")) as server:
    make = {"gemini": llm_kit.client, "openai": llm_kit.local}[kind]
    run = llm_kit.settings(server, tries=1)
    first = make(server, tries=1)
    models = first._settings
    author = f"llm:{models.names[0]}"

    @hostile.given(draws, replies, replies, st.integers(0, 1))
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
