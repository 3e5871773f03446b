"""The same replies to the others that ask models: nobody breaks on one."""

import dataclasses
import pathlib
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import strategies as st

from asi_evolve_jax.llm import connect, port
from asi_evolve_jax.llm.client import Client
from asi_evolve_jax.llm.embeddings import DIMENSIONS, Embedder, NoVectors
from asi_evolve_jax.proposers.prompting import Piece
from asi_evolve_jax.records.codec import encode
from asi_evolve_jax.records.schema import Analysis
from asi_evolve_jax.roles import manager, reports
from asi_evolve_jax.roles.errands import ErrandError
from asi_evolve_jax.roles.evidence import Evidence, Row
from asi_evolve_jax.roles.judge import MARKS, Judge
from asi_evolve_jax.roles.reports import Reporter
from asi_evolve_jax.settings import CognitionSettings

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import hostile
import llm_kit
from gemini_server import GeminiServer, reply

pytestmark = pytest.mark.slow

DRAWS = 100
EVIDENCE = Evidence(
  "loss, lower is better",
  (Piece(0, "# Program: a\n\n- c1: loss: +0.5, no interval"),),
  {"c1": Row("c1", "loss", 0.5, None, None)},
)
_number = (
  st.floats() | st.integers(0, 10) | st.sampled_from([0.5, 10**400, -1e308])
)
_marks = st.fixed_dictionaries(
  {
    **{mark: _number | hostile.values for mark in MARKS},
    "why": hostile.text | hostile.values,
  }
)
_sure_marks = st.fixed_dictionaries(
  {**dict.fromkeys(MARKS, _number), "why": hostile.text}
)
_effect = st.fixed_dictionaries(
  {"fact": st.sampled_from(["c1", "c7", ""]) | hostile.text, "effect": _number},
  optional=dict.fromkeys(("low", "high"), _number | hostile.values),
)
_report = st.fixed_dictionaries(
  {
    "changed": hostile.text,
    "effects": st.lists(_effect, max_size=3) | hostile.values,
    "cause": hostile.text | st.just("It gained 0.5, or 0.777."),
    "next": hostile.text | hostile.values,
    "lessons": st.lists(hostile.text, max_size=7),
  }
)
_words = st.sampled_from(
  ["Fewer knobs.", "It gained 0.5.", "It gained 0.777.", "\0 \ufeff 1e999"]
)
_sure_report = st.fixed_dictionaries(
  {
    "changed": _words,
    "effects": st.lists(_effect, max_size=1),
    "cause": _words,
    "next": hostile.text,
    "lessons": st.lists(_words, max_size=2),
  }
)
_draft = st.fixed_dictionaries(
  {field: hostile.text | st.just("x" * 13_000) for field in manager.FILES}
)
_odd_draft = st.fixed_dictionaries(
  {},
  optional={field: hostile.text | hostile.values for field in manager.FILES},
)
_sure_draft = st.fixed_dictionaries(
  dict.fromkeys(manager.FILES, st.sampled_from(["Sort.", "é\0\r", "$x"]))
)
_vector = st.builds(
  lambda value, size, odd: [value] * (size - 1) + [odd],
  _number | st.just(0.25),
  st.sampled_from([DIMENSIONS] * 4 + [1, DIMENSIONS - 1]),
  _number | hostile.values | st.just(0.5),
)
_embedding = st.fixed_dictionaries(
  {"values": _vector | hostile.values}
) | st.just({"values": [0.5] * DIMENSIONS})
_vectors = st.one_of(
  st.lists(_embedding, min_size=2, max_size=2),
  st.lists(_embedding, max_size=3) | hostile.values,
).map(lambda found: {"body": {"embeddings": found}})


def _asked(server, first, models, *script):
  """Returns a client that has seen nothing yet, and its book."""
  server.script = list(script)
  server.requests.clear()
  book = llm_kit.Book()
  fresh = Client(
    first._provider,
    models,
    first._prices,
    book,
    secrets=[llm_kit.KEY],
    exploration=0.0,
  )
  return fresh, book


def _check_calls(book):
  """Checks that each call is a record; returns their statuses."""
  assert book.calls
  for call in book.calls.values():
    assert call.status in port.STATUSES
    assert call.status == "ok" or call.error
    encode(call)
  return {call.status for call in book.calls.values()}


def _check_seen(calls):
  # What is drawn hangs on what else has been imported: a few draws of a kind
  # may be none.
  assert {"ok", "invalid"} <= calls
  assert calls & {"failed", "unavailable"}


def _analysis(**more):
  return Analysis(program="p" * 32, results=(), text="", **more)


def _judge(model, run):
  judged = Judge(model, run).judge("analysis 1", EVIDENCE)
  encode(_analysis(judged=judged))
  if judged["status"] == port.OK:
    assert 0 <= judged["score"] <= 1
  else:
    assert judged["why"]
    assert "score" not in judged
  return judged["status"]


def _reporter(model, run):
  report = Reporter(model, run).report("analysis 1", EVIDENCE)
  encode(_analysis(report=report))
  reports.text(report).encode()
  assert report.get("why") or report["cause"]
  return report["status"]


def _manager(model, run):
  try:
    texts = manager.draft(model, run.models, "Sort.", "Example.")
  except ErrandError as error:
    return "refused" if run.models.names[0] in str(error) else "nobody named"
  with tempfile.TemporaryDirectory() as folder:
    for path in manager.write(texts, pathlib.Path(folder)):
      assert path.read_text(encoding="utf-8").strip()
  return "written"


@pytest.mark.parametrize(
  ("ask", "wanted", "statuses"),
  [
    (_judge, _marks | _sure_marks, {"ok", "invalid"}),
    (
      _reporter,
      _report | _sure_report | _sure_report,
      {"ok", "misquoted", "unusable"},
    ),
    (_manager, _draft | _odd_draft | _sure_draft, {"written", "refused"}),
  ],
)
def test_no_reply_crashes_who_asks(ask, wanted, statuses):
  seen, calls = set(), set()
  # Most are read to their end: it is the roles that are tested here.
  replies = hostile.said(wanted).map(reply) | hostile.gemini(wanted)
  with GeminiServer({}) as server:
    run = llm_kit.settings(server, tries=1)
    first = llm_kit.client(server, tries=1)

    @hostile.given(DRAWS, replies, replies)
    def answer(one, two):
      model, book = _asked(server, first, run.models, one, two)
      seen.add(ask(model, run))
      calls.update(_check_calls(book))

    answer()
  assert statuses <= seen
  assert "nobody named" not in seen
  _check_seen(calls)


def test_no_reply_crashes_who_wants_vectors():
  outcomes, calls = set(), set()
  replies = st.one_of(_vectors, _vectors, _vectors, hostile.broken)
  name = "gemini-embedding-001"
  with GeminiServer({}) as server:
    run = dataclasses.replace(
      llm_kit.settings(server, tries=1),
      cognition=CognitionSettings(embeddings=name),
    )
    made = connect.embedder(
      run, llm_kit.Book(), [], {"GEMINI_API_KEY": llm_kit.KEY}
    )
    first = made._client

    @hostile.given(DRAWS, replies)
    def answer(entry):
      model, book = _asked(server, first, first._settings, entry)
      try:
        found = Embedder(model, name)(["one", "two"])
      except NoVectors as error:
        outcomes.add("none" if str(error) else "nothing said")
      else:
        assert found.shape == (2, DIMENSIONS)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        outcomes.add("vectors")
      calls.update(_check_calls(book))

    answer()
    # A reply that was kept and then changed on the disk is none either.
    model, book = _asked(server, first, first._settings, _GOOD)
    Embedder(model, name)(["one", "two"])
    (call_id, call), *_ = book.calls.items()
    for kept in ("", "{}", "[1]", '["00"]', '["00000000"]', "[]", "[" * 9999):
      book.calls[call_id] = dataclasses.replace(call, reply=kept)
      with pytest.raises(NoVectors, match="holds no vectors"):
        Embedder(model, name)(["one", "two"])
  assert outcomes == {"none", "vectors"}
  _check_seen(calls)


_GOOD = {"body": {"embeddings": [{"values": [0.5] * DIMENSIONS}] * 2}}
