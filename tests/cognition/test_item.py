"""The files of the Cognition Base and what is refused."""

import collections
import re

import pytest

from cognition import item as item_lib

GOOD = """---
title: Short convolution
track: architecture
source: somebody 2024
checked: true
claims:
  - helps recall
applies: always
signature:
  recall: higher
triggers:
  - recall at chance
suggests: [conv=4]
warns: [conv=0]
---

Some text.
"""


def write(folder, name, text):
  path = folder / name
  path.write_text(text)
  return path


def test_reads_every_field(tmp_path):
  write(tmp_path, "short-conv.md", GOOD)
  (item,) = item_lib.load_items(tmp_path)
  assert item.id == "short-conv"
  assert item.checked is True
  assert item.claims == ("helps recall",)
  assert item.signature == {"recall": "higher"}
  assert item.suggests == ("conv=4",)
  assert item.warns == ("conv=0",)
  assert item.text == "Some text."


def test_items_are_left_out_by_tag_and_by_id(tmp_path):
  write(tmp_path, "plain.md", GOOD)
  write(tmp_path, "marked.md", GOOD.replace("applies", "tags: [x]\napplies"))

  def ids(*exclude):
    return [i.id for i in item_lib.load_items(tmp_path, exclude=exclude)]

  assert ids() == ["marked", "plain"]
  assert ids("x") == ["plain"]
  assert ids("plain", "nothing") == ["marked"]


@pytest.mark.parametrize(
  ("old", "new", "line", "says"),
  [
    ("---\ntitle", "title", 1, "start the file with a line"),
    ("warns: [conv=0]\n---\n", "warns: [conv=0]\n", 1, "close it"),
    ("applies: always", "aplies: always", 8, "unknown key 'aplies'"),
    ("source: somebody 2024\n", "", 2, "missing source"),
    ("checked: true", "checked: maybe", 5, "true or false"),
    ("claims:\n  - helps recall", "claims: none", 6, "must be a list"),
    ("[conv=4]", "[conv]", 13, "gene=value"),
    ("[conv=0]", "[conv=4]", 1, "both suggested and warned"),
    ("applies: always", "title: again", 8, "stands twice"),
    ("title: Short", "title: a: b Short", 2, "quote"),
    ("Some text.\n", "", 15, "no text"),
    ("track: architecture", "track: Big Track", 3, "name a track"),
    ("  - recall at chance", "  - 3", 11, "must be text"),
  ],
)
def test_refuses_with_file_line_and_remedy(tmp_path, old, new, line, says):
  assert old in GOOD
  path = write(tmp_path, "bad.md", GOOD.replace(old, new))
  pattern = re.escape(f"{path}:{line}:") + ".*" + re.escape(says)
  with pytest.raises(item_lib.CognitionError, match=pattern):
    item_lib.load_items(tmp_path)


def test_equal_stems_in_two_folders_are_refused(tmp_path):
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
    write(tmp_path / folder, "same.md", GOOD)
  with pytest.raises(item_lib.CognitionError, match=r"b.same\.md.*is taken"):
    item_lib.load_items(tmp_path)


def test_a_file_that_is_no_text_and_a_missing_folder(tmp_path):
  (tmp_path / "bad.md").write_bytes(b"---\n\xff\xfe")
  with pytest.raises(item_lib.CognitionError, match="UTF-8"):
    item_lib.load_items(tmp_path)
  with pytest.raises(item_lib.CognitionError, match="no such folder"):
    item_lib.load_items(tmp_path / "none")


def test_the_items_that_ship():
  items = item_lib.load_items()
  tracks = collections.Counter(item.track for item in items)
  assert tracks["architecture"] >= 150
  assert tracks["rl_loss"] >= 40
  assert tracks["data_curation"] >= 40
  papers = {
    number
    for item in item_lib.load_items(track="architecture")
    for number in item.papers()
  }
  assert len(papers) >= 60
  for item in items:
    assert 40 <= len(item.text.split()) <= 250, item.id
    assert item.signature, item.id


def test_the_papers_priors_are_apart_from_ours():
  ours = item_lib.load_items(track="circle_packing", exclude=("paper-prior",))
  both = item_lib.load_items(track="circle_packing")
  assert len(ours) >= 12
  assert len(both) - len(ours) == 12
  # The paper's items name the score to reach; ours must not.
  assert not any("2.63" in item.document() for item in ours)


def test_a_reader_is_told_conditions_and_sizes_too(tmp_path):
  write(tmp_path, "gates.md", GOOD)
  (item,) = item_lib.load_items(tmp_path)
  told = item.reading()
  assert told.startswith(item.text)
  for part in (*item.claims, item.applies, *item.suggests, item.source):
    assert part in told
  assert "Expected: recall: higher" in told
  assert "Effect sizes" not in told  # it has none
