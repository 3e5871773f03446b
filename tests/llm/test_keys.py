"""A reply that echoes the key with JSON escapes: nothing keeps it in clear."""

import json
import pathlib
import re
import sys

import pytest

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.redact import BLANK, Redactor
from asi_evolve_jax.records.codec import encode

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "roles"))

import llm_kit
from gemini_server import GeminiServer, error, reply
from llm_kit import KEY, SCHEMA, Book, chat, prompt
from loop_kit import Loop

from asi_evolve_jax.settings import ModelSettings

FIRST = f"\\u{ord(KEY[0]):04x}{KEY[1:]}"
ALL = "".join(f"\\u{ord(char):04X}" for char in KEY)
CUT = f"{'x' * 15}{KEY}{'x' * 40}"  # whoever quotes its first 25 cuts the key
_SHAPE = "AIza" + "x" * 35  # of a key that is in no variable
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def _plain(text):
  """Returns `text` as who reads its JSON sees it."""
  return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


@pytest.mark.parametrize("echo", [KEY, FIRST, ALL, "\\u0041" + _SHAPE[1:]])
@pytest.mark.parametrize(
  ("make", "said"), [(llm_kit.client, reply), (llm_kit.local, chat)]
)
def test_an_escaped_echo_is_blanked_when_it_is_decoded(make, said, echo):
  book = Book()
  question = prompt(schema=SCHEMA)
  text = f'{{"name": "key {echo}", "other {echo}": 1}}'
  with GeminiServer(said(text), error(500, "no more")) as server:
    fresh = make(server, book).complete(question)
    kept = make(server, book).complete(question)  # by a new process
  assert len(server.requests) == 1
  assert fresh.data == kept.data == {"name": f"key {BLANK}"}
  assert KEY not in _plain(encode(book.last).decode())


@pytest.mark.parametrize("echo", [FIRST, ALL])
@pytest.mark.parametrize(
  "script",
  [
    lambda echo: reply(f'{{"name": "{echo}', finish="MAX_TOKENS"),
    lambda echo: reply(f'{{"sizes": ["{echo}"]}}'),
    lambda echo: reply(json.dumps({"sizes": f'["{echo}"]'})),
    lambda echo: {"code": 400, "raw": f'{{"error": "{echo}'.encode()},
  ],
)
def test_what_is_not_decoded_holds_no_escaped_key_either(script, echo):
  book = Book()
  with GeminiServer(script(echo)) as server:
    done = llm_kit.client(server, book).complete(prompt(schema=SCHEMA))
  assert done.status != port.OK
  assert KEY not in _plain(done.text + done.error + repr(book.calls))


@pytest.mark.parametrize(
  ("make", "entry"),
  [
    (llm_kit.client, error(400, "x" * 590 + KEY)),
    (llm_kit.local, error(400, "x" * 590 + KEY)),
    (llm_kit.client, reply({"a": f"{KEY}{' ' * 30}{KEY}"})),
    (
      llm_kit.client,
      reply("x", usage=None, usageMetadata={"promptTokenCount": CUT}),
    ),
    (llm_kit.local, chat("x", usage=("x" * 190 + KEY, 3))),
  ],
)
def test_an_error_is_not_cut_within_a_key(make, entry):
  with GeminiServer(entry) as server:
    done = make(server).complete(prompt())
  assert done.status in (port.FAILED, port.INVALID)
  assert KEY[:4] not in done.error
  assert KEY[-6:] not in done.error
  assert len(done.error) < 1_000


def test_no_escape_hides_a_secret_and_no_text_is_slow():
  odd = 'a/b"c\\d\ne'
  redact = Redactor([odd, "é-longer"])
  written = json.dumps(odd).replace("/", r"\/")
  for text in (odd, json.dumps(odd), written, json.dumps(written)):
    assert redact(text).strip('\\"') == BLANK
  assert redact(json.dumps("é-longer")) == f'"{BLANK}"'
  assert redact(r"a\/b \u00e9-long") == r"a\/b \u00e9-long"
  assert redact.within({odd: [odd, 1, None]}) == {BLANK: [BLANK, 1, None]}
  # Quadratic, it would take hours.
  assert redact("\\" * (2 << 20)) == "\\" * (2 << 20)


def test_no_record_log_or_source_of_a_run_holds_an_escaped_key(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("GEMINI_API_KEY", KEY)
  monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
  program = json.dumps(json.dumps({"score": 3.0, "leak": "?"}))
  said = (
    f'{{"name": "{ALL}", "motivation": "It is {FIRST}.", '
    f'"program": {program.replace("?", FIRST)}}}'
  )
  with GeminiServer(reply(said), error(500, "stop")) as server:
    loop = Loop(
      tmp_path,
      researcher={"proposer": "llm", "edits": 0.0},
      llm="gemini",
      models=ModelSettings(base_url=server.url, tries=1, parallel=1),
    )
    while not loop.candidates():
      loop.steps(1)
  first = loop.candidates()[0]
  assert first.author.startswith("llm:")
  assert first.motivation == f"It is {BLANK}."
  assert BLANK in loop.view.programs[first.program].source
  files = [path for path in tmp_path.rglob("*") if path.is_file()]
  assert len(files) > 10
  for path in files:
    assert KEY not in _plain(path.read_bytes().decode(errors="replace")), path
