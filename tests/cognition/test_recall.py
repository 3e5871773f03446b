"""Held-out symptoms find their items: the figures of docs/results."""

import pathlib

import pytest

import cognition
from cognition import recall
from cognition.text import words_of

QUERIES = recall.load_queries(pathlib.Path(__file__).parent / "queries.yaml")
ITEMS = cognition.load_items(exclude=("paper-prior", "earlier-run"))


def test_recall_at_5_of_the_default_index():
  values = recall.recalls(ITEMS, QUERIES, k=5)
  assert sum(values) / len(values) >= 0.6


def test_the_queries_are_many_and_not_the_triggers():
  assert len(QUERIES) >= 60
  assert {query.track for query in QUERIES} == {i.track for i in ITEMS}
  by_id = {item.id: item for item in ITEMS}
  for query in QUERIES:
    said = set(words_of(query.text))
    for trigger in (t for i in query.items for t in by_id[i].triggers):
      words = set(words_of(trigger))
      assert not (len(words) > 2 and words <= said), (query.text, trigger)


def test_a_query_for_an_item_that_is_gone_is_an_error(tmp_path):
  query = recall.Query("gate", "architecture", ("no-such-item",))
  with pytest.raises(cognition.CognitionError, match="no-such-item"):
    recall.recalls(ITEMS, [query])
  path = tmp_path / "queries.yaml"
  path.write_text("- text: gate\n")
  with pytest.raises(cognition.CognitionError, match="not a list of query"):
    recall.load_queries(path)


def test_recall_counts_each_wanted_item():
  query = recall.Query("hexagonal", "circle_packing", ("circle-hexagonal",))
  both = recall.Query(
    "hexagonal", "circle_packing", ("circle-hexagonal", "circle-acceptance")
  )
  packing = [item for item in ITEMS if item.track == "circle_packing"]
  assert recall.recalls(packing, [query, both], k=1) == [1.0, 0.5]
