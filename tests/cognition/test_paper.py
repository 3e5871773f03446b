"""Papers in several forms: what is read, and what is found in it."""

import gzip
import io
import tarfile

import pytest

from cognition import CognitionError
from cognition.paper import Paper, text_of

MARKDOWN = """# Gates of the third kind

A. Person and B. Person, arXiv:2501.01234v2

## Abstract

We open gates. They stay open.

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


def _packed(*files):
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w") as archive:
    for name, text in files:
      member = tarfile.TarInfo(name)
      member.size = len(text)
      archive.addfile(member, io.BytesIO(text.encode()))
  return packed.getvalue()


@pytest.mark.parametrize("text", [MARKDOWN, LATEX, PLAIN])
def test_title_and_abstract_are_found(text):
  paper = Paper.read(text)
  assert paper.title == "Gates of the third kind"
  assert paper.abstract.startswith("We open gates. They stay open")
  assert "Long text" not in paper.abstract
  assert paper.arxiv == ("2501.01234" if text is MARKDOWN else "")


@pytest.mark.parametrize(
  ("text", "title"),
  [
    (r"\title{Gated {DeltaNet}: X}", "Gated DeltaNet: X"),
    (
      "\\title{%\n  \\textbf{Gated} \\\\[2pt] \\emph{Nets}~of 5\\% \\& more"
      "\\thanks{Of {nobody}.}}",
      "Gated Nets of 5% & more",
    ),
    (
      r"\title{Poincar\'e and G\"{o}del $\alpha$-nets}",
      "Poincare and Godel -nets",
    ),
    ("% \\title{Old}\n\\titlerunning{G}\n\\icmltitle{New}", "New"),
    (
      "\\documentclass[a4paper]{article}\n\\usepackage{x}\n"
      "\\begin{document}\n% note\n\\maketitle\nGates are open.",
      "Gates are open.",
    ),
    ("arXiv:2501.01234v2 [cs.LG] 3 Jan 2025\n\nGates\nA. Person", "Gates"),
    ("## Gates\n\nText.", "Gates"),
    ("\\title{never closed\n\\documentclass{x}", "Untitled"),
    ("#\n", "Untitled"),
  ],
)
def test_a_title_is_what_a_reader_sees(text, title):
  assert Paper.read(text).title == title


_CITED = "As in arXiv:2006.16236, gates open."


@pytest.mark.parametrize(
  ("text", "own"),
  [
    (f"# T\n\n## Abstract\n\n{_CITED}\n", False),
    (
      f"# T\n\nhttps://arxiv.org/abs/2501.01234\n\n{'x ' * 2000}{_CITED}",
      True,
    ),
    (f"# T\n\narXiv 2501.01234\n\n{_CITED}", False),  # which of the two?
    (f"{_CITED}\n\narXiv:2501.01234v1 [cs.LG] 12 Jan 2025", True),
    ("\\title{T}\\citep[see][]{arXiv:2006.16236}", False),
    ("\\title{T} % arXiv:2006.16236\n arXiv:2501.01234", True),
    ("\\title{T}\n\\begin{thebibliography}{9}\narXiv:2006.16236", False),
    ("# T\n\n2048.1024 arXiv:2048.1024", False),  # months end at 12
  ],
)
def test_only_its_own_arxiv_number_is_a_papers(text, own):
  assert Paper.read(text).arxiv == ("2501.01234" if own else "")


def test_without_text_there_is_no_paper():
  with pytest.raises(CognitionError, match="no text"):
    Paper.read("  \n ")


def test_an_arxiv_source_is_its_latex_the_main_file_first(tmp_path):
  data = _packed(("a/part.tex", "Part."), ("b.sty", "x"), ("m.tex", LATEX))
  path = tmp_path / "2501.01234"
  path.write_bytes(gzip.compress(data))
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
    (_packed(("m.tex", "x" * 2000))[:1500], "damaged"),
    (gzip.compress(b"text")[:-8] + bytes(8), "damaged"),
  ],
  # Gzip writes the time: an id made of the bytes would differ between the
  # processes that share out the tests.
  ids=["pdf", "too_large", "gzip_cut", "tar_cut", "gzip_sum"],
)
def test_a_file_that_is_no_paper_says_what_to_do(tmp_path, data, why):
  path = tmp_path / "paper"
  path.write_bytes(data)
  with pytest.raises(CognitionError, match=why):
    text_of(path)


def test_latex_may_be_latin_1(tmp_path):
  path = tmp_path / "paper.tex"
  latex = "\\title{Portes à bascule}\n"
  path.write_bytes(latex.encode("latin-1"))
  assert text_of(path) == latex
  path.write_bytes(latex.encode("utf-8-sig"))
  assert text_of(path) == latex
  path.write_bytes("Portes à bascule".encode("latin-1"))
  with pytest.raises(CognitionError, match="pdftotext"):
    text_of(path)
