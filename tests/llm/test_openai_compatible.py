"""The same port before servers that speak OpenAI's chat completions."""

import gzip
import json
import pathlib
import sys

import pytest

from asi_evolve_jax.llm import port

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from gemini_server import GeminiServer, error, reply
from llm_kit import KEY, SCHEMA, Book, chat, client, local, prompt


def test_openai_compatible_servers_answer_behind_the_same_port():
  book = Book()
  with GeminiServer(
    error(429, "wait", headers={"Retry-After": "0.1"}),
    chat('{"name": "local"}'),
    chat("cut", finish_reason="length"),
    chat(None, finish_reason="content_filter"),
    {"body": {"choices": [{"message": 3}]}},
    {"raw": b"[]"},
    error(401, "who"),
  ) as server:
    model = local(server, book)
    done = model.complete(prompt(schema=SCHEMA))
    assert done.data == {"name": "local"}
    assert (done.usage["tokens"], done.usage["money"]) == (10, 0)
    rest = [model.complete(prompt(text=f"{i}")).status for i in range(5)]
  assert rest == ["cut", "blocked", "invalid", "invalid", "failed"]
  asked = server.requests[1]
  assert asked["path"] == "/v1/chat/completions"
  assert asked["headers"]["authorization"] == f"Bearer {KEY}"
  assert asked["body"]["messages"][0]["role"] == "system"
  assert KEY not in repr(book.calls)


@pytest.mark.parametrize("refused", ["max_tokens", "temperature"])
def test_what_a_server_refuses_is_asked_without(refused):
  other = {"max_tokens": "temperature", "temperature": "max_tokens"}[refused]

  def picky(request):
    if refused in request["body"]:
      return error(400, f"Unsupported parameter: '{refused}'")
    return chat("ok")

  with GeminiServer(picky) as server:
    model = local(server)
    assert model.complete(prompt()).status == port.OK
    assert model.complete(prompt(text="more?")).status == port.OK
  first, again, later = (r["body"] for r in server.requests)
  assert {"max_tokens", "temperature"} <= set(first)
  for body in (again, later):
    assert refused not in body
    assert body[other] == first[other]
  if refused == "max_tokens":
    assert later["max_completion_tokens"] == first["max_tokens"]


def test_a_refusal_of_what_is_not_sent_or_is_no_parameter_is_final():
  both = error(400, "max_tokens and temperature are not known")
  with GeminiServer(both) as server:
    assert local(server).complete(prompt()).status == port.FAILED
    assert len(server.requests) == 2
  long = error(400, "max_tokens is over this model's maximum context length")
  with GeminiServer(long) as server:
    assert local(server).complete(prompt()).status == port.TOO_LONG
    assert len(server.requests) == 1


def test_counts_that_are_no_numbers_are_no_reply():
  raw = json.dumps(chat("x", usage=(0, 3))["body"]).replace(": 0", ": 1e999")
  with GeminiServer({"raw": raw.encode()}) as server:
    done = local(server).complete(prompt())
  assert done.status == port.INVALID
  assert "OverflowError" in done.error


@pytest.mark.parametrize("make", [client, local])
def test_a_reply_that_was_compressed_is_not_unpacked(make):
  bomb = gzip.compress(json.dumps(reply("y" * (10 << 20))["body"]).encode())
  assert len(bomb) < 1 << 20
  entry = {"raw": bomb, "headers": {"Content-Encoding": "gzip"}}
  with GeminiServer(entry) as server:
    done = make(server).complete(prompt())
  assert done.status == port.UNAVAILABLE
  assert "encoded (gzip)" in done.error
  (asked,) = server.requests
  assert asked["headers"]["accept-encoding"] == "identity"
