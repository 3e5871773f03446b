"""Papers in several forms become candidates that lint holds back."""

import gzip
import io
import tarfile

import pytest

from cognition import CognitionError, Names, lint
from cognition.add import Paper, Template, candidates, text_of
from cognition.item import parse_item

MARKDOWN = """# Gates of the third kind

A. Person and B. Person, arXiv:2501.01234v2

## Abstract

We open gates. They stay open, and: loss falls by 3 %.

## Introduction

Long text.
"""
LATEX = r"""\documentclass{article}
\title[short]{Gates of the third kind}
\begin{document}
\begin{abstract} We open gates. They stay open. \end{abstract}
\section{Introduction}
"""
PLAIN = """
Gates of the third kind
A. Person

ABSTRACT
We open gates. They stay open.

1 Introduction
Long text.
"""


@pytest.mark.parametrize("text", [MARKDOWN, LATEX, PLAIN])
def test_title_and_abstract_are_found(text):
  paper = Paper.read(text)
  assert paper.title == "Gates of the third kind"
  assert paper.abstract.startswith("We open gates. They stay open")
  assert "Long text" not in paper.abstract
  assert paper.arxiv == ("2501.01234" if text is MARKDOWN else "")


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


def test_what_is_no_item_and_what_is_no_text_is_refused():
  class Model:
    def write(self, paper, track, metrics):
      return ["I am sorry"]

  with pytest.raises(CognitionError, match="candidate gates-of-the-third"):
    candidates(Paper.read(MARKDOWN), "architecture", (), Model())
  with pytest.raises(CognitionError, match="no text"):
    Paper.read("  \n ")


def test_an_arxiv_source_is_its_latex_the_main_file_first(tmp_path):
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:gz") as archive:
    for name, text in (
      ("a/part.tex", "Part."),
      ("b.sty", "x"),
      ("m.tex", LATEX),
    ):
      member = tarfile.TarInfo(name)
      member.size = len(text)
      archive.addfile(member, io.BytesIO(text.encode()))
  path = tmp_path / "2501.01234"
  path.write_bytes(packed.getvalue())
  assert text_of(path) == f"{LATEX}\n\nPart."
  path.write_bytes(gzip.compress(LATEX.encode()))
  assert text_of(path) == LATEX
  path.write_text(PLAIN)
  assert text_of(path) == PLAIN


@pytest.mark.parametrize(
  ("data", "why"),
  [
    (b"%PDF-1.7 \xff\xfe", "pdftotext"),
    (gzip.compress(bytes(20_000_000)), "over 10 MB"),
    (gzip.compress(b"text")[:-9], "damaged"),
  ],
)
def test_a_file_that_is_no_paper_says_what_to_do(tmp_path, data, why):
  path = tmp_path / "paper"
  path.write_bytes(data)
  with pytest.raises(CognitionError, match=why):
    text_of(path)
