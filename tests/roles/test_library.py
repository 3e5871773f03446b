"""Which items a run reads, by what names, and where vectors are kept."""

import dataclasses
import logging
import types

import numpy as np
from lessons_run import SETTINGS, TRACK

from asi_evolve_jax.records import Records
from asi_evolve_jax.roles.library import make_index, names_of
from asi_evolve_jax.settings import CognitionSettings

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
  asked = []

  def embed(texts):
    asked.append(len(texts))
    return np.array([[1.0, len(text)] for text in texts])

  items, url = folder(tmp_path), tmp_path / "records"
  for _ in range(2):
    index = make(Records.open(url), items, embed=("length-1", embed))
    assert len(index.search("gate", 5)) == 2
  # The two items once, and each query.
  assert asked == [2, 1, 1]
