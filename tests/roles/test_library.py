"""Which items a run reads, by what names, and where vectors are kept."""

import dataclasses
import logging
import pathlib
import sys
import types

from lessons_run import SETTINGS, TRACK

from asi_evolve_jax.llm import connect
from asi_evolve_jax.llm.embeddings import DIMENSIONS
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import Call
from asi_evolve_jax.roles.calls import CallBook
from asi_evolve_jax.roles.library import make_index, names_of
from asi_evolve_jax.settings import CognitionSettings, ModelSettings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "llm"))

from gemini_server import GeminiServer, error

TRACK = types.SimpleNamespace(
  **vars(TRACK),
  metrics=lambda: (TRACK.metric,),
  columns=lambda: ("parameters",),
  baselines=lambda: (types.SimpleNamespace(name="deltanet"),),
  stages=(types.SimpleNamespace(name="train"),),
)
ITEM = """---
title: {name}
track: toy
source: test
checked: true
claims: [claim]
applies: always
signature: {{{metric}: falls}}
triggers: [gate]
tags: [{tag}]
---

Text about a gate, {name}.
"""


def folder(tmp_path):
  items = tmp_path / "items"
  items.mkdir()
  for name, metric, tag in (
    ("plain", "bits_per_byte", "x"),
    ("prior", "bits_per_byte", "paper-prior"),
    ("wrong", "perplexity", "x"),
  ):
    text = ITEM.format(name=name, metric=metric, tag=tag)
    (items / f"{name}.md").write_text(text)
  return items


def make(records, items, settings=SETTINGS, **more):
  return make_index(records, settings, TRACK, items, **more)


def test_priors_come_only_when_they_are_asked_for(tmp_path):
  items, records = folder(tmp_path), Records.open(tmp_path / "records")
  without = make(records, items)
  assert {item.id for item in without.items()} == {"plain", "wrong"}
  settings = dataclasses.replace(
    SETTINGS, cognition=CognitionSettings(exclude=("wrong",))
  )
  found = make(records, items, settings).search("gate", 9)
  assert {hit.item.id for hit in found} == {"plain", "prior"}


def test_no_knowledge_wanted_means_no_items(tmp_path):
  settings = dataclasses.replace(
    SETTINGS,
    researcher=dataclasses.replace(SETTINGS.researcher, knowledge=0),
  )
  records = Records.open(tmp_path / "records")
  assert len(make(records, tmp_path / "none", settings)) == 0


def test_a_mistake_in_an_item_is_logged_and_stops_nothing(tmp_path, caplog):
  with caplog.at_level(logging.WARNING):
    index = make(Records.open(tmp_path / "records"), folder(tmp_path))
  assert "item wrong: perplexity in its signature is no metric" in caplog.text
  assert "item plain" not in caplog.text
  assert len(index) == 2


def test_names_are_those_of_the_track():
  names = names_of(TRACK)
  assert "decay=scalar" in names.features
  assert set(names.metrics) == {"bits_per_byte", "parameters"}
  assert {"train", "rejected", "deltanet"} <= set(names.others)


def test_vectors_of_a_model_live_in_the_records(tmp_path):
  """With the real client, on a server that speaks Gemini's wire format."""
  items, url = folder(tmp_path), tmp_path / "records"
  settings = dataclasses.replace(
    SETTINGS,
    cognition=CognitionSettings(embeddings="gemini-embedding-001"),
    models=ModelSettings(deadline_s=20.0, tries=2),
  )
  key = {"GEMINI_API_KEY": "sk-loopback-4712-bbbb"}
  with GeminiServer(vectors) as server:
    settings = dataclasses.replace(
      settings,
      models=dataclasses.replace(settings.models, base_url=server.url),
    )
    for _ in range(2):
      records = Records.open(url)
      view = View("bits_per_byte", "minimize")
      view.update(records.follow()[0])
      book = CallBook(records, view, settings)
      embed = connect.embedder(settings, book, [], key)
      index = make(records, items, settings, embed=embed)
      assert len(index.search("gate", 5)) == 2
    # The two items once, and the query, which is remembered as a Call.
    asked = [len(r["body"]["requests"]) for r in server.requests]
    assert asked == [2, 1]
    first = server.requests[0]
    assert first["path"].endswith("gemini-embedding-001:batchEmbedContents")
    assert first["body"]["requests"][0]["outputDimensionality"] == DIMENSIONS
    calls = [r for r in records.follow()[0] if isinstance(r, Call)]
    assert [c.purpose for c in calls] == ["embed", "embed"]
    assert 0 < view.spending.total["money"] < 1e-3
    # Trouble of the server's: the words of the query still find something.
    server.script = [error(500, "not now", status="INTERNAL")]
    assert len(index.search("gate again", 5)) == 2
    server.script = [{"body": {"embeddings": [{"values": [1.0]}]}}]
    assert len(index.search("gate once more", 5)) == 2
  assert connect.embedder(settings, book, [], {}) is None


def vectors(request):
  made = [
    {"values": [1.0, float(len(str(r))), *[0.0] * (DIMENSIONS - 2)]}
    for r in request["body"]["requests"]
  ]
  return {"body": {"embeddings": made}}
