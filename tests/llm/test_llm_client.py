"""The client against a server that answers, stalls, refuses and lies."""

import pathlib
import re
import sys
import threading
import time

import pytest
from google.auth import exceptions as auth

from asi_evolve_jax.llm import gemini, port
from asi_evolve_jax.llm.port import Credit

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import llm_kit
from gemini_server import GeminiServer, error, reply, retry_info
from llm_kit import KEY, MODEL, SCHEMA, Book, client, prompt


def _ask(*script, question=None, **models):
  """Returns the Completion, its Call and the server, after one question."""
  book = Book()
  with GeminiServer(*script) as server:
    done = client(server, book, **models).complete(question or prompt())
  return done, book.last, server


def test_a_reply_is_paid_for_and_written_down():
  done, call, server = _ask(
    reply("Try less decay."), thinking={"researcher": 512}
  )
  assert (done.status, done.text, done.model) == (
    "ok",
    "Try less decay.",
    MODEL,
  )
  # 1.5 and 7.5 a million tokens, thoughts as output: llm/prices.json.
  money = (100 * 1.5 + 25 * 7.5) / 1e6
  assert done.usage["tokens"] == 125
  assert done.usage["money"] == pytest.approx(money)
  assert (call.role, call.purpose, call.about) == (
    "researcher",
    "propose",
    "round 1",
  )
  assert call.prompt == "Be brief.\n\nWhat next?"
  assert call.reply == "Try less decay."
  assert call.usage == dict(done.usage)
  assert call.seconds > 0
  (asked,) = server.requests
  assert asked["path"].endswith(f"/models/{MODEL}:generateContent")
  assert asked["headers"]["x-goog-api-key"] == KEY
  config = asked["body"]["generationConfig"]
  assert list(config["thinkingConfig"].values()) == [512]
  assert config["maxOutputTokens"] == 32_768


def test_vertex_with_a_key_and_its_own_path():
  with GeminiServer(reply("ok")) as server:
    environ = {"GOOGLE_API_KEY": KEY}
    model = client(server, environ=environ, llm="vertex")
    assert model.complete(prompt()).status == port.OK
  assert "publishers/google" in server.requests[0]["path"]


@pytest.mark.parametrize(
  "text",
  [
    '{"name": "a", "sizes": [1, 2]}',
    '```json\n{"name": "a", "sizes": []}\n```',
  ],
)
def test_structured_replies_are_asked_for_and_checked(text):
  done, _, server = _ask(reply(text), question=prompt(schema=SCHEMA))
  assert done.status == port.OK
  assert done.data["name"] == "a"
  config = server.requests[0]["body"]["generationConfig"]
  assert config["responseMimeType"] == "application/json"
  assert config["responseJsonSchema"] == SCHEMA


@pytest.mark.parametrize(
  ("text", "why"),
  [
    ("{not json", "no JSON"),
    ('{"sizes": [1]}', "lacks 'name'"),
    ('{"name": 3}', "must be of type string"),
    (
      '{"name": "a", "sizes": [1, true]}',
      r"sizes\[1\] must be of type integer",
    ),
    ('{"name": "\\ud800"}', "surrogate"),
    ("[" * 100_000, "nested|Recursion"),
    ("[1]", "must be of type object"),
  ],
)
def test_what_breaks_the_schema_is_invalid_and_still_paid(text, why):
  done, call, _ = _ask(reply(text), question=prompt(schema=SCHEMA))
  assert done.status == call.status == port.INVALID
  assert re.search(why, done.error)
  assert call.usage["tokens"] >= 125


@pytest.mark.parametrize(
  ("trouble", "least_s"),
  [
    # Unasked, the first pause is below one second.
    (error(429, "slow down", details=[retry_info(1.1)]), 1.1),
    (error(429, "slow down", headers={"Retry-After": "1.1"}), 1.1),
    (error(500, "oops"), 0.5),
    (error(503, "overloaded"), 0.5),
    ({"reset": True}, 0.5),
    ({"body": reply("half")["body"], "cut": True}, 0.5),
  ],
)
def test_passing_trouble_is_tried_again(trouble, least_s):
  done, _, server = _ask(trouble, reply("at last"))
  assert (done.status, done.text) == ("ok", "at last")
  first, second = (request["at"] for request in server.requests)
  assert second - first >= least_s
  assert done.usage["tries"] == 2


_HEADER = {"Retry-After": "3600"}
_DETAILS = [retry_info(3600)]


@pytest.mark.parametrize("make", [client, llm_kit.local])
@pytest.mark.parametrize(
  "trouble",
  [
    error(429, "quota", headers=_HEADER),
    error(503, "overloaded", headers=_HEADER),
    error(429, "quota", details=_DETAILS),
    # The longer one holds.
    error(429, "quota", headers=_HEADER, details=[retry_info(1)]),
    error(429, "quota", headers={"Retry-After": "1"}, details=_DETAILS),
  ],
)
def test_the_server_decides_how_long_to_wait_even_if_that_is_too_long(
  make, trouble
):
  book = Book()
  with GeminiServer(trouble) as server:
    done = make(server, book).complete(prompt())
  call = book.last
  assert done.status == call.status == port.UNAVAILABLE
  assert "it asks for 3600 s" in done.error
  assert len(server.requests) == 1
  assert call.usage["tokens"] == 0


@pytest.mark.parametrize(
  ("code", "message", "status"),
  [
    (400, "Invalid value at 'temperature'", port.FAILED),
    (400, "API key not valid. Please pass a valid API key.", port.FAILED),
    (401, "no", port.FAILED),
    (403, f"key {KEY} may not", port.FAILED),
    (404, "no such model", port.FAILED),
    (
      400,
      "The input token count (2000000) exceeds the maximum number of tokens "
      "allowed (1048576).",
      port.TOO_LONG,
    ),
  ],
)
def test_final_errors_are_not_tried_again(code, message, status):
  done, call, server = _ask(error(code, message))
  assert done.status == call.status == status
  assert len(server.requests) == 1
  assert str(code) in done.error
  assert KEY not in done.error + call.error


def test_a_model_that_refuses_the_key_is_asked_no_more():
  book = Book()
  with GeminiServer(error(401, "no")) as server:
    model = client(server, book)
    assert not model.unready()
    model.complete(prompt())
    assert "401" in model.unready()
    assert model.complete(prompt(text="again")).status == port.UNAVAILABLE
  assert len(server.requests) == len(book.calls) == 1


@pytest.mark.parametrize(
  "entry", [{"hang": True}, {**reply("x"), "drip": True}]
)
def test_a_hang_ends_and_counts_as_the_most_it_could_cost(entry):
  done, call, _ = _ask(entry, timeout_s=0.5, tries=1, output_tokens=1000)
  assert done.status == call.status == port.UNAVAILABLE
  assert call.seconds < 4
  assert call.usage["estimated"] == 1
  assert call.usage["tokens"] >= 1000


@pytest.mark.parametrize(
  ("entry", "status", "why"),
  [
    (reply("", finish="SAFETY"), port.BLOCKED, "SAFETY"),
    (reply("part", finish="RECITATION"), port.BLOCKED, "RECITATION"),
    (
      {"body": {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}},
      port.BLOCKED,
      "PROHIBITED_CONTENT",
    ),
    ({"body": {"candidates": []}}, port.EMPTY, "no candidate"),
    ({"body": {"candidates": [{}]}}, port.EMPTY, "no text"),
    (reply("half a prog", finish="MAX_TOKENS"), port.CUT, "output_tokens"),
    ({"raw": b"<html>"}, port.INVALID, "format"),
    ({"raw": b"\xff\xfe{}"}, port.INVALID, "format"),
    (reply("y" * (10 << 20)), port.OVERSIZED, "bytes"),
  ],
)
def test_replies_that_are_none(entry, status, why):
  done, call, server = _ask(entry)
  assert (done.status, call.status) == (status, status)
  assert why in done.error
  assert len(server.requests) == 1


@pytest.mark.parametrize(
  "text", ["a" * 4000, "é" * 1000 + "a" * 10, "漢" * 1001]
)
def test_a_prompt_over_the_context_is_not_sent(text):
  done, call, server = _ask(
    reply("x"), question=prompt(text=text), context_tokens=1000
  )
  assert done.status == call.status == port.TOO_LONG
  assert not server.requests


def test_the_budget_is_asked_before_the_call():
  book = Book(money=0.3)  # one call can cost 0.295 at most
  with GeminiServer(reply("x", usage=(10, 20_000, 0))) as server:
    model = client(server, book)
    assert model.complete(prompt()).status == port.OK
    done = model.complete(prompt(text="more?"))
  assert done.status == book.last.status == port.OVER_BUDGET
  assert "money" in done.error
  assert len(server.requests) == 1
  assert book.left()["money"] > 0


def test_usage_that_cannot_be_is_bounded():
  done, _, _ = _ask(reply("x", usage=(10**15, -5, 10**15)))
  assert 0 < done.usage["tokens"] < 500_000


def test_an_answered_question_is_not_paid_twice():
  book = Book(money=1)
  with GeminiServer(reply("once")) as server:
    first = client(server, book).complete(prompt())
    second = client(server, book).complete(prompt())  # a new process
    assert second.text == first.text == "once"
    # Told again to who asks what it has cost, and spent once.
    assert second.usage == first.usage
    assert book.left()["money"] == 1 - first.usage["money"]
    client(server, book).complete(prompt(text="another"))
  assert len(server.requests) == 2


def test_calls_at_once_are_limited_and_reserve_their_share():
  open_now, most = set(), []

  def slow(request):
    open_now.add(id(request))
    most.append(len(open_now))
    time.sleep(0.15)
    open_now.discard(id(request))
    return reply("x")

  book = Book()
  with GeminiServer(slow) as server:
    model = client(server, book, parallel=2)
    threads = [
      threading.Thread(target=model.complete, args=(prompt(text=f"{i}"),))
      for i in range(5)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert max(most) == 2
  assert len(book.calls) == 5


def test_models_are_chosen_by_weight_or_by_what_they_bring_for_the_money():
  names = ("gemini-2.5-pro", "gemini-2.5-flash")
  with GeminiServer(reply("x")) as server:
    model = client(server, names=names, weights=(1.0, 3.0))
    drawn = [model.choose({}, i / 100)[0] for i in range(100)]
    assert drawn.count("gemini-2.5-pro") == 25
    bandit = client(server, names=names, choice="bandit")
  credits = {
    "gemini-2.5-pro": Credit(proposals=10, improvement=2.0, money=1.0),
    "gemini-2.5-flash": Credit(proposals=10, improvement=1.0, money=0.1),
  }
  chosen, why = bandit.choose(credits, 0.5)
  assert chosen == "gemini-2.5-flash"
  assert why["bounds"]["gemini-2.5-pro"] < why["bounds"]["gemini-2.5-flash"]
  del credits["gemini-2.5-pro"]  # who has done nothing yet goes first
  assert bandit.choose(credits, 0.5)[0] == "gemini-2.5-pro"


@pytest.mark.parametrize(
  ("raised", "status"),
  [
    (auth.TransportError("no route to the server of tokens"), port.UNAVAILABLE),
    (auth.RefreshError("busy", retryable=True), port.UNAVAILABLE),
    (auth.RefreshError("revoked"), port.FAILED),
    (auth.DefaultCredentialsError("none found"), port.FAILED),
  ],
)
def test_credentials_that_cannot_be_had_now_are_tried_again(raised, status):
  with pytest.raises(port.ProviderError) as told, gemini.told():
    raise raised
  passing = status == port.UNAVAILABLE
  assert told.value.status == status
  assert (told.value.transient, told.value.lasting) == (passing, not passing)


def test_without_a_key_nobody_is_called():
  with GeminiServer(reply("x")) as server:
    assert client(server, environ={}) is None
    assert client(server, environ={}, llm="vertex") is None
    assert llm_kit.client(server, llm="none") is None
