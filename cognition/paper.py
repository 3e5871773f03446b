"""A paper's text, and what is found in it: title, arXiv number, abstract."""

from __future__ import annotations

import dataclasses
import gzip
import io
import pathlib
import re
import tarfile
import zlib

from cognition.item import CognitionError

_NUMBER = r"(?P<number>\d\d(?:0[1-9]|1[0-2])\.\d{4,5})(?!\d)"
_ARXIV = re.compile(
  rf"arxiv(?:\.org)?[\s:./]*(?:(?:abs|pdf|html)/)?{_NUMBER}", re.IGNORECASE
)
# What arXiv prints on a first page: "arXiv:2501.01234v2 [cs.LG] 3 Jan 2025".
_STAMP = re.compile(rf"arXiv:{_NUMBER}v\d+\s+\[[\w.-]+\]\s+\d{{1,2}}\s[A-Z]")
# Where there is no abstract, what comes before the first references.
_HEAD_CHARS = 2000
_ABSTRACT = (
  re.compile(r"\\begin\{abstract\}(?P<text>.+?)\\end\{abstract\}", re.DOTALL),
  re.compile(
    r"^(?:#+\s*)?abstract[.:\s-]*\n?(?P<text>.+?)"
    r"(?=^\s*(?:#|(?:\d+\s*\.?\s*)?introduction\b|keywords)|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
  ),
)
_HEADING = re.compile(r"^#\s+(?P<text>.+)$", re.MULTILINE)
_PROSE = re.compile(r"(?!\\|%|-{3}|arxiv[:\s]).*?[^\W\d_]{2}", re.IGNORECASE)
_MOST_TITLE = 120  # characters of a line that stands in for a title
_MOST_GROUP = 2000  # characters between two braces of a title
_MOST_BYTES = 10_000_000

_TEX = re.compile(
  rb"\\(?:documentclass|documentstyle|begin|section|title|author)\b"
)
_COMMENT = re.compile(r"(?<!\\)%.*")
_CITED = re.compile(
  r"\\\w*cite\w*\*?(?:\s*\[[^\]]*\])*\s*\{[^}]*\}"
  r"|\\bibitem.*|\\begin\{thebibliography\}[\s\S]*"
)
_TITLE = re.compile(r"\\(?:icml)?title(?![A-Za-z])\*?\s*(?:\[[^\]]*\]\s*)?\{")
_NOTE = re.compile(
  r"\\(?:thanks|footnote|vspace|hspace|label)\*?\s*(?:\[[^\]]*\])?\{"
)
# \'e and \"{o}: slugs are in ASCII, and a person corrects the title.
_ACCENT = re.compile(r"\\['\"`^~=.](?=\s?\{?\\?[A-Za-z])")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+\*?|\\(?:\[[^\]]*\])?|[ ,;:!])")


@dataclasses.dataclass(frozen=True)
class Paper:
  """A paper's text: Markdown, LaTeX or what a PDF gave.

  Attributes:
    text: all of it.
    title: never "": where none is found, the first line of prose.
    arxiv: its own number, not one that it cites; "" where none is found.
    abstract: "" where none is found.
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
    found = (pattern.search(text) for pattern in _ABSTRACT)
    abstract = next((match for match in found if match), None)
    head = text[: abstract.start() if abstract else _HEAD_CHARS]
    return cls(
      text=text,
      title=_title(text),
      arxiv=_arxiv(text, head),
      abstract=abstract.group("text").strip() if abstract else "",
    )


def _title(text: str) -> str:
  latex = _COMMENT.sub("", text) if "\\" in text else ""
  for match in _TITLE.finditer(latex):
    title = _plain(_group(latex, match.end()))
    if title:
      return title
  heading = _HEADING.search(text)
  if heading:
    return heading.group("text").strip()
  body = text.partition("\\begin{document}")[2] or text
  lines = (line.strip() for line in body.splitlines())
  first = next((line for line in lines if _PROSE.match(line)), "")
  return (
    _plain(first.lstrip("# ")[:_MOST_GROUP])[:_MOST_TITLE].strip() or "Untitled"
  )


def _group(text: str, start: int) -> str:
  """Returns what stands between `start`, behind a brace, and its partner.

  A partner that is missing, or too far away for a title, gives "".
  """
  depth, place = 1, start
  while place < min(len(text), start + _MOST_GROUP):
    char = text[place]
    if char == "\\":
      place += 1  # whatever follows is no brace of a group
    elif char in "{}":
      depth += 1 if char == "{" else -1
      if not depth:
        return text[start:place]
    place += 1
  return ""


def _plain(latex: str) -> str:
  """Returns one line of `latex` without its simplest commands."""
  while note := _NOTE.search(latex):
    end = note.end() + len(_group(latex, note.end())) + 1
    latex = latex[: note.start()] + latex[end:]
  text = _COMMAND.sub(" ", _ACCENT.sub("", latex))
  text = re.sub(r"\\(?=[^\w\s])", "", text).replace("~", " ")
  return " ".join(re.sub(r"[{}$]", "", text).split())


def _arxiv(text: str, head: str) -> str:
  """Returns the one arXiv number that is the paper's own, or ""."""
  stamp = _STAMP.search(text)
  if stamp:
    return stamp.group("number")
  if "\\" in head:
    head = _CITED.sub("", _COMMENT.sub("", head))
  found = {match.group("number") for match in _ARXIV.finditer(head)}
  return found.pop() if len(found) == 1 else ""


def text_of(path: pathlib.Path) -> str:
  """Returns the text of a paper's file.

  Args:
    path: text in UTF-8, or LaTeX in Latin-1; or an arXiv source: one gzipped
      LaTeX file, or a tar archive of several, of which the main one comes
      first.

  Raises:
    CognitionError: if there is no text in it, or more than 10 MB.
    OSError: if it cannot be read.
  """
  data = path.read_bytes()
  try:
    if data[:2] == b"\x1f\x8b":
      with gzip.open(io.BytesIO(data)) as file:
        data = file.read(_MOST_BYTES + 1)
    parts = [data]
    if len(data) <= _MOST_BYTES and tarfile.is_tarfile(io.BytesIO(data)):
      parts = _latex(data)
  except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
    raise CognitionError(
      f"{path} is damaged ({error}): fetch it again."
    ) from error
  if sum(map(len, parts)) > _MOST_BYTES:
    raise CognitionError(
      f"{path} holds over {_MOST_BYTES // 1_000_000} MB: give the text alone."
    )
  return "\n\n".join(_decoded(part, path) for part in parts)


def _latex(archive: bytes) -> list[bytes]:
  """Returns the LaTeX files in a tar archive, the main one first."""
  found: list[bytes] = []
  with tarfile.open(fileobj=io.BytesIO(archive)) as files:
    for member in files:
      file = files.extractfile(member) if member.isfile() else None
      if file is not None and member.name.endswith(".tex"):
        # A few bytes can stand for any number of zeros.
        found.append(file.read(_MOST_BYTES + 1))
        if len(found[-1]) > _MOST_BYTES:
          break
  return sorted(found, key=lambda text: b"\\documentclass" not in text)


def _decoded(data: bytes, path: pathlib.Path) -> str:
  try:
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    if _TEX.search(data) and b"\0" not in data and data[:4] != b"%PDF":
      return data.decode("latin-1")
    raise CognitionError(
      f"{path} is no text ({error.reason}); extract it first, e.g. with "
      "pdftotext."
    ) from error
