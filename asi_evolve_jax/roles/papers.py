"""A language model turns a paper into candidate items, for a person to review.

What it writes is held against the paper: sentences that are copied and names
that do not exist go back, and so do numbers that the paper does not hold, and a
source that is another paper's. Of the second reply only copies are refused; a
number that is still nowhere in the paper is marked, and `lint` names the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from asi_evolve_jax.llm.port import Completion, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.roles import errands
from asi_evolve_jax.roles.printed import PaperFacts
from asi_evolve_jax.settings import ModelSettings
from cognition import CognitionError, Names, lint
from cognition.add import render
from cognition.item import ARXIV, Item, parse_item
from cognition.lint import CANDIDATE
from cognition.paper import Paper

ROLE = "cognition"
_MOST_ITEMS = 6
_MARK = "NOT IN THE PAPER"
# Words in a row that nobody writes twice by chance.
_COPIED = 12
_PIECE = 4000  # characters of a paper that stay or go together
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_LISTS = ("claims", "triggers", "suggests", "warns", "effects")
_WORDS = ("title", "source", "applies", "text")
_SIGNATURE = {
  "type": "array",
  "items": {
    "type": "object",
    "properties": {"metric": _TEXT, "expected": _TEXT},
    "required": ["metric", "expected"],
  },
}
_FIELDS = {
  **dict.fromkeys(_WORDS, _TEXT),
  **dict.fromkeys(_LISTS, _TEXTS),
  "signature": _SIGNATURE,
}
SCHEMA = {
  "type": "object",
  "properties": {
    "items": {
      "type": "array",
      "items": {
        "type": "object",
        "properties": _FIELDS,
        "required": list(_FIELDS),
      },
    },
  },
  "required": ["items"],
}


class PaperReader:
  """A cognition.add.Writer."""

  most = _MOST_ITEMS

  def __init__(
    self,
    complete: Callable[[Prompt], Completion],
    models: ModelSettings,
    names: Mapping[str, Names],
  ):
    """
    Args:
      complete: of a Model.
      models: as config.models; the first of the names is asked.
      names: what exists in each track.
    """
    self._complete = complete
    self._models = models
    self._names = names

  def write(
    self, paper: Paper, track: str, metrics: Collection[str]
  ) -> list[str]:
    """See cognition.add.Writer.

    Raises:
      ErrandError: if the model cannot be asked or writes nothing usable.
    """
    features = ", ".join(sorted(self._names[track].features))
    prompt = Prompt(
      role=ROLE,
      purpose="paper",
      about=paper.title[:80],
      text=prompting.template(
        "paper",
        track=track,
        most=_MOST_ITEMS,
        metrics=", ".join(sorted(metrics)),
        features=features or "none yet: leave both empty",
      ),
      schema=SCHEMA,
      model=self._models.names[0],
    )
    reading = _Reading(paper, track, self._names)
    said = errands.ask(
      self._complete,
      prompt,
      reading.problem,
      context_tokens=self._models.context_tokens,
      pieces=list(pieces(paper.text)),
    )
    return [reading.file(item) for item in said["items"]]


class _Reading:
  """What a model says of one paper, and what is wrong with it."""

  def __init__(self, paper: Paper, track: str, names: Mapping[str, Names]):
    self._track = track
    self._names = names
    self._features = frozenset(names[track].features)
    self._facts = PaperFacts(paper.text)
    # Without a number of its own, any that it holds may be its own.
    self._arxiv = (
      {paper.arxiv} if paper.arxiv else set(ARXIV.findall(paper.text))
    )
    self._runs = set(_runs(paper.text))
    self._again = False

  def problem(self, said: Mapping[str, Any]) -> str:
    """Returns what is to be mended, all of it; the second time what must be."""
    items = said["items"]
    if not 0 < len(items) <= _MOST_ITEMS:
      return f"there are {len(items)} items: write 1 to {_MOST_ITEMS}"
    hard, soft = [], []
    for number, item in enumerate(items, 1):
      where = f"item {number}"
      hard += [f"{where}: {text}" for text in self._copies(item)]
      try:
        parsed = parse_item(self.file(item), f"item-{number}", where)
      except CognitionError as error:
        hard.append(str(error))
        continue
      soft += [f"{where}: {text}" for text in self._doubts(item, parsed)]
    lines = hard if self._again else hard + soft
    self._again = True
    return "\n".join(f"- {line}" for line in lines)

  def file(self, said: Mapping[str, Any]) -> str:
    """Returns an item's file, numbers marked that the paper does not hold."""
    source = _line(said["source"])
    front: dict[str, Any] = {
      "title": self._marked(_line(said["title"])),
      "track": self._track,
      "source": _mark(source, self._foreign(source)),
      "checked": False,
      "applies": self._marked(_line(said["applies"])),
      "signature": {
        _line(entry["metric"]): self._marked(_line(entry["expected"]))
        for entry in said["signature"]
      },
    }
    for name in _LISTS:
      front[name] = [_line(text) for text in said[name] if text.strip()]
    for name in ("claims", "triggers", "effects"):
      front[name] = [self._marked(text) for text in front[name]]
    kept = {k: v for k, v in front.items() if v not in ([], {})}
    return render(kept, self._marked(said["text"].strip()))

  def _marked(self, text: str) -> str:
    return _mark(text, self._misquotes(text))

  def _misquotes(self, text: str) -> list[str]:
    words = (
      w for w in text.split() if w.strip("`.,;:()") not in self._features
    )
    return self._facts.misquotes(" ".join(words))

  def _foreign(self, source: str) -> list[str]:
    """Returns the arXiv numbers in `source` that are not the paper's."""
    return [n for n in ARXIV.findall(source) if n not in self._arxiv]

  def _copies(self, said: Mapping[str, Any]) -> list[str]:
    texts = _said(said)
    copied = (run for text in texts for run in _runs(text) if run in self._runs)
    first = next(copied, None)
    return [f"copied from the paper, say it anew: {first!r}"] if first else []

  def _doubts(self, said: Mapping[str, Any], item: Item) -> list[str]:
    wrong = [number for text in _said(said) for number in self._misquotes(text)]
    found = [
      f"{number} stands nowhere in the paper" for number in dict.fromkeys(wrong)
    ]
    found += [
      f"arXiv {number} in its source is not this paper's number"
      for number in self._foreign(said["source"])
    ]
    found += [
      problem.text
      for problem in lint([item], self._names)
      if CANDIDATE not in problem.text
    ]
    return found


def pieces(text: str) -> Iterable[prompting.Piece]:
  """Yields a paper's paragraphs in their order, some thousand characters each.

  The first stays always; where not all fit, the last go first: references and
  appendices.
  """
  part: list[str] = []
  rank = 0
  for paragraph in re.split(r"\n\s*\n", text):
    if part and sum(map(len, part)) + len(paragraph) > _PIECE:
      yield prompting.Piece(rank, "\n\n".join(part))
      rank, part = rank + 1, []
    part.append(paragraph)
  yield prompting.Piece(rank, "\n\n".join(part))


def _said(said: Mapping[str, Any]) -> list[str]:
  """Returns what an item says of the paper in its own words."""
  return [
    *(said[name] for name in ("title", "applies", "text")),
    *(
      text for name in ("claims", "triggers", "effects") for text in said[name]
    ),
    *(entry["expected"] for entry in said["signature"]),
  ]


def _mark(text: str, wrong: Sequence[str]) -> str:
  return f"{_MARK} ({', '.join(wrong)}): {text}" if wrong else text


def _runs(text: str) -> Iterable[str]:
  """Yields all runs of _COPIED words, whatever their case and punctuation."""
  words: Sequence[str] = re.findall(r"[a-z0-9]+", text.lower())
  for start in range(len(words) - _COPIED + 1):
    yield " ".join(words[start : start + _COPIED])


def _line(text: str) -> str:
  return " ".join(text.split())
