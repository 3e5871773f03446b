"""The retrievers one by one: what each finds, and what it keeps."""

import subprocess
import sys

import numpy as np
import pytest

from cognition.retrievers import Bm25, Embeddings, HashedTfidf

TEXTS = ("decay overflows", "key normalisation", "duplicate keys in text")


@pytest.mark.parametrize("make", [Bm25, HashedTfidf])
def test_words_in_common_score_and_others_do_not(make):
  retriever = make()
  retriever.build(TEXTS)
  scores = retriever.scores("keys")
  assert scores.shape == (3,)
  assert scores[0] == 0
  assert scores[1] > 0
  assert scores[2] > 0
  assert not retriever.scores("zzzxqy").any()
  assert not retriever.scores("of the").any()


def test_parts_of_words_and_pairs_count_in_tfidf():
  retriever = HashedTfidf()
  retriever.build(TEXTS)
  assert np.argmax(retriever.scores("normalised")) == 1
  retriever.build(("chunk size and decay", "decay and size of a chunk"))
  first, second = retriever.scores("chunk size")
  assert first > second


def test_rare_words_weigh_more():
  retriever = HashedTfidf()
  retriever.build(("gate alpha", "gate beta", "gate gamma", "gate delta"))
  assert np.argmax(retriever.scores("gate gamma")) == 2


def test_an_empty_collection_can_be_built():
  for retriever in (HashedTfidf(), Bm25()):
    retriever.build(("",))
    assert not retriever.scores("word").any()


def test_vectors_of_a_model_are_kept_by_name_and_text():
  asked = []

  def embed(texts):
    asked.append(tuple(texts))
    return np.array([[text.count("a"), text.count("b")] for text in texts])

  kept = {}
  one = Embeddings("ab-1", embed, kept)
  one.build(("aa", "b"))
  assert asked == [("aa", "b")]
  np.testing.assert_allclose(one.scores("aaaa"), [1, 0])
  # A new instance and a grown collection: only what is new is asked for.
  two = Embeddings("ab-1", embed, kept)
  two.build(("b", "ab", "aa"))
  assert asked[2:] == [("ab",)]
  np.testing.assert_allclose(two.scores("b"), [1, np.sqrt(0.5), 0])
  Embeddings("ab-2", embed, kept).build(("b",))
  assert asked[-1] == ("b",)


def test_a_text_without_a_vector_fits_nothing():
  def embed(texts):
    return np.array([[1.0 if text else 0.0] for text in texts])

  retriever = Embeddings("one", embed, {})
  retriever.build(("", "x"))
  np.testing.assert_array_equal(retriever.scores("y"), [0, 1])


def test_hashes_do_not_depend_on_the_process():
  code = (
    "from cognition.retrievers import HashedTfidf\n"
    "r = HashedTfidf(); r.build(('a gate', 'the decay', 'gates decay'))\n"
    "print(r.scores('decaying gates').tolist())\n"
  )
  outputs = {
    subprocess.run(
      [sys.executable, "-c", code],
      env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
      check=True,
      capture_output=True,
    ).stdout
    for seed in ("1", "2")
  }
  assert len(outputs) == 1


def test_a_model_that_cannot_be_reached_finds_nothing_and_is_asked_again():
  up = False

  def embed(texts):
    if not up:
      raise ConnectionError("not now")
    return np.array([[1.0, float(len(text))] for text in texts])

  kept = {}
  retriever = Embeddings("toy", embed, kept)
  retriever.build(["one", "three"])
  assert retriever.scores("one").tolist() == [0.0, 0.0]
  assert not kept
  up = True
  retriever.build(["one", "three"])
  assert len(kept) == 2
  assert retriever.scores("one").argmax() == 0
  up = False
  retriever.build(["one", "three", "fourteen"])
  up = True
  # What has no vector yet is not found; the others are.
  assert (retriever.scores("one") > 0).tolist() == [True, True, False]


def test_what_a_model_gave_before_it_failed_is_kept():
  asked = []

  def embed(texts):
    asked.append(len(texts))
    if len(asked) == 2:
      raise ConnectionError("gone")
    return np.ones((len(texts), 2))

  kept = {}
  retriever = Embeddings("toy", embed, kept)
  texts = [f"text {i}" for i in range(120)]
  retriever.build(texts)
  assert (asked, len(kept)) == ([50, 50], 50)
  retriever.build(texts)
  assert (asked[2:], len(kept)) == ([50, 20], 120)
