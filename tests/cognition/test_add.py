"""Papers become candidates that lint holds back."""

import pytest

from cognition import CognitionError, Names, lint
from cognition.add import Template, candidates, ids, targets
from cognition.item import parse_item
from cognition.paper import Paper

MARKDOWN = """# Gates of the third kind

A. Person and B. Person, arXiv:2501.01234v2

## Abstract

We open gates. They stay open, and: loss falls by 3 %.

## Introduction

Long text.
"""


def test_the_form_is_an_item_that_awaits_review():
  ((name, text),) = candidates(
    Paper.read(MARKDOWN), "architecture", ("bits_per_byte",), Template()
  )
  item = parse_item(text, name, "here")
  assert name == "gates-of-the-third-kind"
  assert not item.checked
  assert "2501.01234" in item.source
  assert item.claims[1].endswith("They stay open, and: loss falls by 3 %.")
  names = {"architecture": Names((), ("bits_per_byte",))}
  assert [p.text for p in lint([item], names)] == [
    "is a candidate: check it against its source, then drop the tag candidate"
  ]


def test_a_model_cannot_vouch_for_what_it_writes():
  class Model:
    most = 2

    def write(self, paper, track, metrics):
      del metrics
      front = (
        f"title: T\ntrack: {track}\nsource: arXiv {paper.arxiv}\n"
        "checked: true\n"
        "claims: [c]\napplies: a\ntriggers: [t]\nsuggests: ['conv=4']"
      )
      return [f"---\n{front}\n---\n\nBody {n}." for n in (1, 2)]

  found = candidates(Paper.read(MARKDOWN), "architecture", (), Model())
  assert [name[-2:] for name, _ in found] == ["nd", "-2"]
  for name, text in found:
    item = parse_item(text, name, "here")
    assert not item.checked
    assert item.tags == ("candidate",)
    assert item.suggests == ("conv=4",)


def test_what_is_no_item_is_refused():
  class Model:
    most = 2

    def write(self, paper, track, metrics):
      return ["I am sorry"]

  with pytest.raises(CognitionError, match="candidate gates-of-the-third"):
    candidates(Paper.read(MARKDOWN), "architecture", (), Model())


def test_no_file_and_no_item_is_in_the_way_of_any_that_may_come(tmp_path):
  paper = Paper.read(MARKDOWN)
  items, out = tmp_path / "items", tmp_path / "not" / "there"
  items.mkdir()
  name = "gates-of-the-third-kind"
  assert ids(paper, 3) == [name, f"{name}-2", f"{name}-3"]
  assert targets(paper, 2, out, items) == {
    name: out / f"{name}.md",
    f"{name}-2": out / f"{name}-2.md",
  }
  ((_, text),) = candidates(paper, "architecture", (), Template())
  (items / f"{name}-3.md").write_text(text)
  targets(paper, 2, out, items)
  with pytest.raises(CognitionError, match="item gates-of-the-third-kind-3"):
    targets(paper, 3, out, items)
  out.mkdir(parents=True)
  (out / f"{name}-2.md").touch()
  with pytest.raises(CognitionError, match=r"-2\.md exists already: move it"):
    targets(paper, 3, out, items)
