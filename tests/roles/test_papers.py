"""Papers read by a model: the real client, a loopback server."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from asi_evolve_jax.roles.errands import ErrandError, Ledger
from asi_evolve_jax.roles.papers import PaperReader, pieces
from asi_evolve_jax.settings import ModelSettings
from cognition import Names, lint
from cognition.add import Paper, candidates
from cognition.item import parse_item

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "llm"))

import llm_kit
from gemini_server import GeminiServer, error, reply

MODELS = ModelSettings(names=(llm_kit.MODEL,))
NAMES = {"architecture": Names(("conv=4", "conv=none"), ("bits_per_byte",))}
TEXT = """# Gates of the third kind

A. Person, arXiv 2501.01234

## Abstract

We open gates and find that the loss of a model with many parameters always
falls by 3.25 % when the gates are opened before the short convolution.
"""
ITEM = {
  "title": "Open the gates first",
  "source": "A. Person, arXiv 2501.01234",
  "claims": ["Gates that open ahead of the convolution lower the loss."],
  "applies": "Where a gate is.",
  "signature": [{"metric": "bits_per_byte", "expected": "falls"}],
  "triggers": ["the gate stays shut"],
  "suggests": ["conv=4"],
  "warns": [],
  "effects": ["3.25 % less loss; size and data are not told"],
  "text": "A gate ahead of the convolution lets it see what passes.",
}


def said(**changes):
  return reply(json.dumps({"items": [{**ITEM, **changes}]}))


def read(*script, text=TEXT, **models):
  with GeminiServer(*script) as server:
    model = llm_kit.client(server, Ledger(0.5), tries=1, **models)
    reader = PaperReader(model.complete, MODELS, NAMES)
    paper = Paper.read(text)
    found = candidates(paper, "architecture", ("bits_per_byte",), reader)
  items = [parse_item(content, name, name) for name, content in found]
  return items, server


def test_what_a_model_reads_is_an_item_that_awaits_review():
  (item,), server = read(said())
  assert len(server.requests) == 1
  assert "falls by 3.25 %" in server.text(0)
  assert "conv=4, conv=none" in server.text(0)
  assert item.id == "gates-of-the-third-kind"
  assert item.signature == {"bits_per_byte": "falls"}
  assert item.effects == ("3.25 % less loss; size and data are not told",)
  assert not item.checked
  (problem,) = lint([item], NAMES)
  assert "is a candidate" in problem.text


@pytest.mark.parametrize(
  ("changes", "why"),
  [
    ({"claims": ["Loss falls by 3.24 %."]}, "3.24% stands nowhere"),
    ({"effects": ["340 M parameters: 1.5 less"]}, "340 stands nowhere"),
    ({"suggests": ["conv=7"]}, "conv=7 is no feature"),
    ({"signature": [{"metric": "fid", "expected": "falls"}]}, "no metric"),
    ({"text": " ".join(TEXT.split()[12:28])}, "copied from the paper"),
    ({"triggers": []}, "triggers"),
    ({"warns": ["conv=4"]}, "both suggested and warned of"),
  ],
)
def test_what_is_wrong_goes_back_once(changes, why):
  (item,), server = read(said(**changes), said())
  assert len(server.requests) == 2
  assert why in server.text(1)
  assert item.suggests == ("conv=4",)


def test_a_number_that_is_nowhere_is_marked_and_a_copy_refused():
  wrong = said(claims=["It falls by 4.5 %.", "It falls."])
  (item,), _ = read(wrong, wrong)
  marked = "NOT IN THE PAPER (4.5%): It falls by 4.5 %."
  assert item.claims == (marked, "It falls.")
  copy = said(claims=[" ".join(TEXT.split()[12:28])])
  with pytest.raises(ErrandError, match="copied from the paper"):
    read(copy, copy)


@pytest.mark.parametrize(
  ("script", "why"),
  [
    ([error(503, "down")], "unavailable"),
    ([reply("prose")], "nothing usable"),
    ([reply(json.dumps({"items": []}))], "there are 0 items"),
  ],
)
def test_without_items_it_says_why(script, why):
  with pytest.raises(ErrandError, match=why):
    read(*script)


def test_of_a_long_paper_the_end_is_left_out():
  found = list(
    pieces("\n\n".join(f"Paragraph {i}. {'x' * 900}" for i in range(99)))
  )
  assert [piece.rank for piece in found] == list(range(len(found)))
  assert all(len(piece.text) < 5000 for piece in found)
  text = TEXT + "\n\n".join(f"Reference {i}. {'x' * 900}" for i in range(9999))
  (_,), server = read(said(), text=text)
  assert "falls by 3.25 %" in server.text(0)
  assert "Reference 100." in server.text(0)
  assert "Reference 9998." not in server.text(0)


@pytest.mark.slow
def test_the_app_asks_the_model_or_leaves_a_form(tmp_path):
  paper = tmp_path / "paper.md"
  paper.write_text(TEXT)

  def add(folder, url, **env):
    folder.mkdir()
    return subprocess.run(
      [
        *(sys.executable, "-m", "launch.cognition", "add", str(paper)),
        *("--track=architecture", f"--out={folder}", f"--base_url={url}"),
      ],
      capture_output=True,
      text=True,
      env={**os.environ, **env},
    )

  with GeminiServer(said(), said()) as server:
    model = add(tmp_path / "a", server.url, GEMINI_API_KEY=llm_kit.KEY)
    form = add(tmp_path / "b", server.url, GEMINI_API_KEY="")
  assert model.returncode == form.returncode == 0, model.stderr + form.stderr
  assert "tokens" in model.stdout
  assert "no GEMINI_API_KEY" in form.stdout
  (one,), (other,) = (list((tmp_path / n).glob("*.md")) for n in "ab")
  assert "Open the gates first" in one.read_text()
  assert llm_kit.KEY not in one.read_text()
  assert "SAY ANEW: We open gates" in other.read_text()
