"""Retrieval: honest k, no doubles, no dependence on order, no jax."""

import dataclasses
import random
import subprocess
import sys

import cognition
from cognition import Item


def make(name, text, track="architecture", **more):
  fields = {
    "title": name,
    "source": "test",
    "checked": True,
    "claims": ("claim",),
    "applies": "here",
    "triggers": ("trigger",),
  }
  return Item(id=name, text=text, track=track, **{**fields, **more})


def ids(hits):
  return [hit.item.id for hit in hits]


def test_finds_by_symptom_and_by_feature():
  index = cognition.Index(cognition.load_items())
  found = index.search("loss is not finite, near-duplicate keys", 3)
  assert found[0].item.id == "duplicate-keys"
  found = index.search("recall stays at chance in a short run", 3)
  assert "short-conv" in ids(found)
  wanted = index.search("update=delta decay=none", 10, "architecture")
  assert "gated-deltanet" in ids(wanted)


def test_works_at_round_zero_from_a_brief():
  brief = (
    "Write a causal token mixer for a small language model on bytes; lower "
    "bits per byte is better. DeltaNet is the baseline to beat."
  )
  index = cognition.Index(cognition.load_items())
  assert len(index.search(brief, 4, "architecture")) == 4


def test_k_is_honoured_and_scores_fall():
  index = cognition.Index(cognition.load_items())
  for k in (0, 1, 2, 5, 17):
    hits = index.search("delta rule decay gate recall", k, "architecture")
    assert len(hits) == k
    assert len(set(ids(hits))) == k
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


def test_empty_query_empty_index_and_unknown_words():
  items = cognition.load_items()
  assert cognition.Index().search("delta", 3) == []
  index = cognition.Index(items)
  assert index.search("", 3) == []
  assert index.search("the of and", 3) == []
  assert index.search("zzzxqy", 3) == []


def test_tracks_do_not_mix_but_general_items_serve_all():
  index = cognition.Index(
    [
      make("a", "gate"),
      make("b", "gate", track="circle_packing"),
      make("c", "gate gate", track=""),
    ]
  )
  assert set(ids(index.search("gate", 9, "circle_packing"))) == {"b", "c"}
  assert set(ids(index.search("gate", 9))) >= {"a", "c"}


def test_order_of_filling_does_not_matter_and_ties_go_by_id():
  # Titles of equal length and no text in common: equally good.
  texts = [make(f"i{n:02}", f"gate word{n:02}") for n in range(12)]
  expected = ids(cognition.Index(texts).search("gate", 12))
  assert expected == sorted(expected)
  for seed in range(5):
    shuffled = random.Random(seed).sample(texts, len(texts))
    assert ids(cognition.Index(shuffled).search("gate", 12)) == expected


def test_ranks_are_fused_so_that_either_retriever_can_find():
  items = [
    make("whole-word", "overflow"),
    make("part-of-word", "overflowing"),
    make("neither", "something else"),
  ]
  words = cognition.Index(items, [cognition.Bm25()])
  assert ids(words.search("overflow", 3)) == ["whole-word"]
  both = cognition.Index(items)
  assert ids(both.search("overflow", 3)) == ["whole-word", "part-of-word"]


def test_an_item_that_is_trusted_less_comes_later():
  items = [make("a", "gate x"), make("b", "gate y")]
  assert ids(cognition.Index(items).search("gate", 2)) == ["a", "b"]
  items[0] = dataclasses.replace(items[0], weight=0.5)
  assert ids(cognition.Index(items).search("gate", 2)) == ["b", "a"]
  items[0] = dataclasses.replace(items[0], weight=0.0)
  assert ids(cognition.Index(items).search("gate", 2)) == ["b"]


def test_equal_texts_are_found_once():
  index = cognition.Index([make("a", "gate x"), make("b", "gate x")])
  assert ids(index.search("gate", 5)) == ["a"]


def test_what_a_run_learns_is_found_and_replaces_its_older_version():
  index = cognition.Index([make("a", "gate")])
  assert not index.search("wavelet", 5)
  new = make("n.2", "wavelet helps", series="n", version=2)
  assert index.add(new)
  assert ids(index.search("wavelet", 5)) == ["n.2"]
  assert not index.add(new)
  assert not index.add(make("n.1", "wavelet", series="n", version=1))
  assert index.add(make("n.3", "wavelet hurts", series="n", version=3))
  assert ids(index.search("wavelet", 5)) == ["n.3"]
  assert len(index) == 2


def test_stats_and_search_of_the_shipped_items():
  items = cognition.load_items()
  figures = cognition.stats(items)
  assert figures["items"] == sum(figures["tracks"].values())
  assert figures["suggested"]
  (hit,) = cognition.Index(items).search("hexagonal lattice", 1)
  assert hit.item.id.startswith("circle")


def test_retrieval_starts_no_jax():
  # bm25s runs a jax program at import time if it can.
  code = (
    "import sys, cognition\n"
    "index = cognition.Index(cognition.load_items())\n"
    "assert index.search('delta rule', 2)\n"
    "assert not [m for m in sys.modules if m.split('.')[0] == 'jax']\n"
    "assert not [m for m in sys.modules if m.startswith('asi_evolve')]\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
