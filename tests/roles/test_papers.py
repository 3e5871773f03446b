"""Papers read by a model: the real client, a loopback server."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asi_evolve_jax.records.codec import decode_line
from asi_evolve_jax.roles.errands import ErrandError, Ledger, make_folder
from asi_evolve_jax.roles.papers import PaperReader, _Reading, pieces
from asi_evolve_jax.settings import ModelSettings
from cognition import Names, lint
from cognition.add import candidates
from cognition.item import parse_item
from cognition.paper import Paper

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
COPY = " ".join(TEXT.split()[12:28])
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


def read(*script, text=TEXT, book=None, **models):
  with GeminiServer(*script) as server:
    model = llm_kit.client(server, book, tries=1, **models)
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
  assert "what its text asks of a reader or of a model" in server.text(0)
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
    ({"title": "Gates of 7.5 %"}, "7.5% stands nowhere"),
    ({"applies": "Above 340 M parameters."}, "340 stands nowhere"),
    ({"triggers": ["loss above 4.25"]}, "4.25 stands nowhere"),
    (
      {"signature": [{"metric": "bits_per_byte", "expected": "-7.5 %"}]},
      "-7.5% stands nowhere",
    ),
    (
      {"source": "A. Person, arXiv:2006.16236v2"},
      "2006.16236 in its source is not",
    ),
    ({"text": COPY}, "copied from the paper"),
    ({"title": COPY}, "copied from the paper"),
    ({"triggers": [COPY]}, "copied from the paper"),
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
  wrong = said(
    title="By 4.5 %",
    source="arXiv 2006.16236",
    applies="From 340 M on.",
    signature=[{"metric": "bits_per_byte", "expected": "+4.5 %"}],
    triggers=["loss above 4.25 with conv=512", "conv=4 fails"],
  )
  (item,), _ = read(wrong, wrong)
  assert item.title == "NOT IN THE PAPER (4.5%): By 4.5 %"
  assert item.source == "NOT IN THE PAPER (2006.16236): arXiv 2006.16236"
  assert item.applies == "NOT IN THE PAPER (340): From 340 M on."
  assert item.signature["bits_per_byte"].endswith("(+4.5%): +4.5 %")
  assert item.triggers[0].startswith("NOT IN THE PAPER (4.25, 512)")
  assert item.triggers[1] == "conv=4 fails"
  copy = said(claims=[COPY])
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
  text = TEXT + "\n\n".join(f"Reference {i}. {'x' * 900}" for i in range(2999))
  (_,), server = read(said(), text=text)
  assert "falls by 3.25 %" in server.text(0)
  assert "Reference 100." in server.text(0)
  assert "Reference 2998." not in server.text(0)


def test_a_feature_is_no_number_and_an_unknown_source_is_searched():
  names = {"architecture": Names(("chunk=512",), ("bits_per_byte",))}
  paper = Paper.read(TEXT.replace("arXiv 2501.01234", "arXiv 2501.01234; x"))
  reading = _Reading(paper, "architecture", names)
  mine = {**ITEM, "suggests": [], "triggers": ["slow at (chunk=512)."]}
  assert reading.problem({"items": [mine]}) == ""
  paper = Paper.read(f"# T\n\n## Abstract\n\nSee arXiv 2006.16236.\n\n{TEXT}")
  assert not paper.arxiv
  reading = _Reading(paper, "architecture", names)
  mine["source"] = "arXiv 2501.01235"
  assert "2501.01235 in its source" in reading.problem({"items": [mine]})


_words = st.one_of(
  st.sampled_from(
    [
      *("3.25 %", "-4.5", "1e999", "$3\\times10^{-4}$", "arXiv 2501.01234"),
      *("---", "\n---\n", "=", "~", "- a: b", "# x", "'", '"', "&a *a", "\r"),
      *("conv=4", "dev/recall", "no_such_name", COPY, "\x85", "\u2028", "\x00"),
    ]
  ),
  st.text(st.characters(codec="utf-8"), max_size=12),
)
_said = st.lists(_words, max_size=3).map(" ".join)
_texts = st.lists(_said, max_size=2)
_hostile = {
  **dict.fromkeys(("title", "source", "applies", "text"), _said),
  **dict.fromkeys(
    ("claims", "triggers", "suggests", "warns", "effects"), _texts
  ),
  "signature": st.lists(
    st.fixed_dictionaries({"metric": _said, "expected": _said}), max_size=2
  ),
}
# Few fields at a time, so that some items are accepted.
_items = st.lists(
  st.sets(st.sampled_from(sorted(_hostile)), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries(
      {k: _hostile[k] if k in names else st.just(v) for k, v in ITEM.items()}
    )
  ),
  max_size=7,
)


@settings(max_examples=100, deadline=None)
@given(_items)
@example([{**ITEM, "title": "=", "text": "---"}])
def test_whatever_is_said_is_refused_in_words_or_becomes_items(items):
  paper = Paper.read(TEXT)
  reading = _Reading(paper, "architecture", NAMES)
  problems = [reading.problem({"items": items}) for _ in range(2)]
  assert all(len(line) > 5 for text in problems for line in text.splitlines())
  if problems[1]:
    assert problems[0]  # what must be mended was said the first time
    return

  class Said:
    most = 6

    def write(self, *args):
      return [reading.file(item) for item in items]

  found = candidates(paper, "architecture", (), Said())
  assert len(found) == len(items)
  for name, text in found:
    item = parse_item(text, name, name)
    assert not item.checked
    assert item.track == "architecture"


def test_every_call_is_on_disk_and_no_key_with_it(tmp_path):
  folder = tmp_path / "not" / "there"
  ledger = Ledger(0.5, folder / "calls.jsonl")
  make_folder(folder)
  assert not list(folder.iterdir())
  with pytest.raises(ErrandError, match="nothing usable"):
    read(reply(f"prose {llm_kit.KEY}"), book=ledger)
  lines = (folder / "calls.jsonl").read_bytes().splitlines()
  calls = [decode_line("here", line) for line in lines]
  assert calls == list(ledger.calls.values())
  assert [call.reply for call in calls] == ["prose [redacted]"] * 2
  assert "250 tokens" in ledger.bill()
  assert str(folder) in ledger.bill()
  again = Ledger(0.5, folder / "calls.jsonl")
  assert again.record(calls[0])
  assert not again.record(calls[0])
  assert len((folder / "calls.jsonl").read_bytes().splitlines()) == 3
  for taken in (folder / "calls.jsonl", folder / "calls.jsonl" / "x"):
    with pytest.raises(ErrandError, match="give another --out"):
      make_folder(taken)


@pytest.mark.slow
def test_the_app_loses_nothing_that_is_paid_for(tmp_path):
  paper = tmp_path / "paper.md"
  paper.write_text(TEXT)
  out = tmp_path / "not" / "there"

  def add(url):
    return subprocess.run(
      [
        *(sys.executable, "-m", "launch.cognition", "add", str(paper)),
        *("--track=architecture", f"--out={out}", f"--base_url={url}"),
      ],
      capture_output=True,
      text=True,
      env={**os.environ, "GEMINI_API_KEY": llm_kit.KEY},
    )

  with GeminiServer(reply("prose"), reply("prose"), said()) as server:
    nothing = add(server.url)
    assert nothing.returncode == 1
    assert "250 tokens" in nothing.stdout
    assert "nothing usable" in nothing.stderr
    assert len((out / "calls.jsonl").read_text().splitlines()) == 2
    one = add(server.url)
    assert one.returncode == 0, one.stderr
    assert "125 tokens" in one.stdout
    (item,) = out.glob("*.md")
    assert "Open the gates first" in item.read_text()
    assert llm_kit.KEY not in item.read_text()
    item.rename(item.with_stem(f"{item.stem}-2"))
    refused = add(server.url)
    assert refused.returncode == 2
    assert "exists already" in refused.stderr
    assert len(server.requests) == 3
  assert len((out / "calls.jsonl").read_text().splitlines()) == 3
