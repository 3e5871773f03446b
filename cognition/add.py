"""A paper becomes candidate items, for a person to review.

A `Writer` turns a paper into items. The one here, `Template`, needs no model:
it finds title, source and abstract, and leaves a form to fill in. What a
language model writes goes the same way: it is read as an item, marked as
unchecked and as a candidate, and `lint` refuses it until somebody has
compared it with the paper and dropped the tag.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import pathlib
import re
import tarfile
import zlib
from collections.abc import Collection
from typing import Any, Protocol

import yaml

from cognition.item import CognitionError, Item, parse_item
from cognition.lint import CANDIDATE

_ARXIV = re.compile(r"\b(?:arxiv[:\s./]*(?:abs/|pdf/)?)?(\d{4}\.\d{4,5})", re.I)
_TITLE = (
  re.compile(r"\\title\*?(?:\[[^\]]*\])?\{(?P<text>[^{}]+)\}"),
  re.compile(r"^#\s+(?P<text>.+)$", re.MULTILINE),
)
_ABSTRACT = (
  re.compile(r"\\begin\{abstract\}(?P<text>.+?)\\end\{abstract\}", re.DOTALL),
  re.compile(
    r"^(?:#+\s*)?abstract[.:\s-]*\n?(?P<text>.+?)"
    r"(?=^\s*(?:#|(?:\d+\s*\.?\s*)?introduction\b|keywords)|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
  ),
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MOST_SENTENCES = 6
_MOST_BYTES = 10_000_000


@dataclasses.dataclass(frozen=True)
class Paper:
  """A paper's text: Markdown, LaTeX or what a PDF gave.

  Attributes:
    text: all of it.
    title, arxiv, abstract: found in it; "" where there is none.
  """

  text: str
  title: str
  arxiv: str
  abstract: str

  @classmethod
  def read(cls, text: str) -> Paper:
    """Finds title, arXiv number and abstract in `text`.

    Raises:
      CognitionError: if there is no text.
    """
    if not text.strip():
      raise CognitionError(
        "the paper holds no text; give Markdown, LaTeX or extracted text."
      )
    lines = (line.strip() for line in text.splitlines())
    first = next(line for line in lines if line)
    arxiv = _ARXIV.search(text)
    return cls(
      text=text,
      title=_first(_TITLE, text) or first.lstrip("# ")[:120],
      arxiv=arxiv.group(1) if arxiv else "",
      abstract=_first(_ABSTRACT, text),
    )


def text_of(path: pathlib.Path) -> str:
  """Returns the text of a paper's file.

  Args:
    path: UTF-8 text, or an arXiv source: one gzipped LaTeX file, or a tar
      archive of several, of which the main one comes first.

  Raises:
    CognitionError: if there is no text in it, or more than 10 MB.
    OSError: if it cannot be read.
  """
  data = path.read_bytes()
  if data[:2] == b"\x1f\x8b":
    try:
      with gzip.open(io.BytesIO(data)) as file:
        data = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error) as error:
      raise CognitionError(
        f"{path} is damaged ({error}): fetch it again."
      ) from error
  if len(data) <= _MOST_BYTES and tarfile.is_tarfile(io.BytesIO(data)):
    data = _latex(data)
  if len(data) > _MOST_BYTES:
    raise CognitionError(
      f"{path} holds over {_MOST_BYTES // 1_000_000} MB: give the text alone."
    )
  try:
    return data.decode("utf-8")
  except UnicodeDecodeError as error:
    raise CognitionError(
      f"{path} is no text ({error.reason}); extract it first, e.g. with "
      "pdftotext."
    ) from error


def _latex(archive: bytes) -> bytes:
  """Returns the LaTeX files in a tar archive, the main one first."""
  found = []
  with tarfile.open(fileobj=io.BytesIO(archive)) as files:
    for member in files:
      file = files.extractfile(member) if member.isfile() else None
      if file is not None and member.name.endswith(".tex"):
        found.append(file.read())
  found.sort(key=lambda text: b"\\documentclass" not in text)
  return b"\n\n".join(found)


class Writer(Protocol):
  """What turns a paper into items: a form, a language model."""

  def write(
    self, paper: Paper, track: str, metrics: Collection[str]
  ) -> list[str]:
    """Returns items as whole files (front matter and text).

    Args:
      paper: what to read.
      track: the research question that the items shall serve.
      metrics: names that a signature may use.
    """
    ...


class Template:
  """Writes one form from a paper's title, source and abstract.

  The sentences of the abstract stand in it as claims, each marked as the
  paper's words: a reviewer says them anew or drops them.
  """

  def write(
    self, paper: Paper, track: str, metrics: Collection[str]
  ) -> list[str]:
    sentences = _SENTENCE.split(" ".join(paper.abstract.split()))
    quoted = [f"SAY ANEW: {s}" for s in sentences if s][:_MOST_SENTENCES]
    where = f"arXiv {paper.arxiv}" if paper.arxiv else "WHERE AND WHEN"
    front = {
      "title": paper.title,
      "track": track,
      "source": f"AUTHORS, {where}",
      "checked": False,
      "claims": quoted or ["WHAT THE PAPER SAYS, A SENTENCE EACH"],
      "applies": "WHEN IT MATTERS",
      "signature": {name: "WHAT IT DOES TO THIS" for name in sorted(metrics)},
      "triggers": ["SYMPTOM IN THE WORDS OF AN ANALYSIS"],
      "tags": [CANDIDATE],
    }
    body = (
      "HOW IT WORKS, WHAT IT COSTS, WHAT TO TRY FIRST, AND WHEN IT FAILS: "
      "fifty to a hundred words of your own."
    )
    return [render(front, body)]


def candidates(
  paper: Paper,
  track: str,
  metrics: Collection[str],
  writer: Writer,
) -> list[tuple[str, str]]:
  """Returns (id, file) of candidate items.

  Args:
    paper: what to read.
    track: the research question that they shall serve.
    metrics: names that a signature may use.
    writer: e.g. `Template`.

  Raises:
    CognitionError: if the writer's text is no item.
  """
  files = writer.write(paper, track, metrics)
  found: list[tuple[str, str]] = []
  for number, text in enumerate(files):
    name = slug(paper.title) + (f"-{number + 1}" if number else "")
    item = parse_item(text, name, f"candidate {name}")
    found.append((name, _unchecked(item)))
  return found


def render(front: dict[str, Any], body: str) -> str:
  """Returns an item's file."""
  head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=79)
  return f"---\n{head}---\n\n{body.strip()}\n"


def _unchecked(item: Item) -> str:
  """Returns the file of `item`, whoever wrote it, as a candidate."""
  lists = ("claims", "triggers", "suggests", "warns", "effects")
  front: dict[str, Any] = {
    "title": item.title,
    "track": item.track,
    "source": item.source,
    "checked": False,
    "applies": item.applies,
    "signature": item.signature,
    "tags": sorted({CANDIDATE, *item.tags}),
    **{name: list(getattr(item, name)) for name in lists},
  }
  return render(
    {k: v for k, v in front.items() if v not in ([], {})}, item.text
  )


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> str:
  for pattern in patterns:
    found = pattern.search(text)
    if found:
      return found.group("text").strip()
  return ""


def slug(title: str) -> str:
  """Returns the id of the first item of a paper with this title."""
  words = re.findall(r"[a-z0-9]+", title.lower())
  return "-".join(words[:6]) or "paper"
