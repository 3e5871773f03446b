"""A paper becomes candidate items, for a person to review.

A `Writer` turns a paper into items. The one here, `Template`, needs no model:
it leaves a form to fill in, with the paper's title, source and abstract. What a
language model writes goes the same way: it is read as an item, marked as
unchecked and as a candidate, and `lint` refuses it until somebody has
compared it with the paper and dropped the tag.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Collection
from typing import Any, Protocol

import yaml

from cognition.item import CognitionError, Item, load_items, parse_item
from cognition.lint import CANDIDATE
from cognition.paper import Paper

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MOST_SENTENCES = 6


class Writer(Protocol):
  """What turns a paper into items: a form, a language model.

  Attributes:
    most: items that it may write.
  """

  @property
  def most(self) -> int: ...

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

  most = 1

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
  return [
    (name, _unchecked(parse_item(text, name, f"candidate {name}")))
    for name, text in zip(ids(paper, len(files)), files, strict=True)
  ]


def ids(paper: Paper, count: int) -> list[str]:
  """Returns the ids of the first `count` items of a paper."""
  words = re.findall(r"[a-z0-9]+", paper.title.lower())
  name = "-".join(words[:6]) or "paper"
  return [name, *(f"{name}-{i}" for i in range(2, count + 1))][:count]


def targets(
  paper: Paper, count: int, folder: pathlib.Path, items: pathlib.Path
) -> dict[str, pathlib.Path]:
  """Returns id -> file for the first `count` items of a paper.

  Args:
    paper: what they are of.
    count: how many there may be.
    folder: for the files.
    items: folder of the base that they are meant for.

  Raises:
    CognitionError: if one of the files or ids is taken.
  """
  found = {name: folder / f"{name}.md" for name in ids(paper, count)}
  known = {item.id for item in load_items(items)}
  for name, path in found.items():
    if path.exists():
      raise CognitionError(
        f"{path} exists already: move it away or give another --out."
      )
    if name in known:
      raise CognitionError(
        f"an item {name} exists already in {items}: rename it there or change "
        "the paper's title."
      )
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
