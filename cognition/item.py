"""Cognition items: one Markdown file with front matter for each source.

```
---
title: What it is about, one line
track: architecture
source: Authors, where, when
checked: true            # false: a claim nobody here could verify
claims: [what the source says, ...]
applies: when it matters
signature: {bits_per_byte: what it should do to this metric of ours}
triggers: [symptom that should make a reader think of this, ...]
suggests: [gene=value, ...]
warns: [gene=value, ...]
effects: [size of one change and the setting it was measured in, ...]
tags: [name, ...]        # what callers may leave out; see load_items
---
Text for a person or a model to read.
```

Triggers are written in the words of an Analysis, because retrieval matches a
symptom of the run with the trigger of an item (the idea is ASI-Arch's).
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable
from typing import Any

import yaml

ITEMS_DIR = pathlib.Path(__file__).parent / "items"
# An arXiv number, with or without a version behind it.
ARXIV = re.compile(r"(?<!\d)\d{4}\.\d{4,5}(?!\d)")

_FEATURE = re.compile(r"[a-z][a-z0-9_]*=[^\s=]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CognitionError(ValueError):
  """An item that cannot be used: names the file, the line and the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """One piece of knowledge.

  Attributes:
    id: file stem, or the id of the Insight it was made from.
    title: one line.
    track: the research question it serves; "" serves every track.
    source: where it comes from.
    checked: False where its claims could not be verified.
    claims: what the source says, a sentence each.
    applies: when it matters.
    signature: metric name -> what the change should do to it.
    triggers: symptoms that should bring it up.
    suggests: features ("gene=value") it speaks for.
    warns: features it speaks against.
    effects: sizes of single changes, with the setting they were seen in.
    text: the body.
    tags: names by which callers leave items out.
    weight: what a search multiplies its score with; 1 is full trust.
    series: items of one series replace one another in an Index.
    version: the larger one wins within a series.
  """

  id: str
  title: str
  track: str
  source: str
  checked: bool
  claims: tuple[str, ...]
  applies: str
  triggers: tuple[str, ...]
  text: str
  signature: dict[str, str] = dataclasses.field(default_factory=dict)
  suggests: tuple[str, ...] = ()
  warns: tuple[str, ...] = ()
  effects: tuple[str, ...] = ()
  tags: tuple[str, ...] = ()
  weight: float = 1.0
  series: str = ""
  version: int = 0

  @property
  def slot(self) -> str:
    """What an Index keeps one item of."""
    return self.series or self.id

  def papers(self) -> tuple[str, ...]:
    """Returns the arXiv numbers of its source."""
    return tuple(ARXIV.findall(self.source))

  def reading(self) -> str:
    """Returns what somebody who writes a candidate should know of it."""
    said = {
      "Claims": self.claims,
      "Applies": (self.applies,),
      "Expected": [f"{k}: {v}" for k, v in self.signature.items()],
      "Effect sizes": self.effects,
      "Speaks for": self.suggests,
      "Speaks against": self.warns,
    }
    lines = [f"{name}: {'; '.join(v)}" for name, v in said.items() if any(v)]
    return "\n".join([self.text, *lines, f"Source: {self.source}"])

  def document(self) -> str:
    """Returns the text that retrieval matches.

    Triggers stand twice: a symptom says more than a word in passing.
    """
    triggers = " ".join(self.triggers)
    parts = (
      self.title,
      triggers,
      triggers,
      " ".join(f"{k} {v}" for k, v in self.signature.items()),
      " ".join(self.claims),
      self.applies,
      " ".join(self.suggests),
      " ".join(self.warns),
      " ".join(self.effects),
      self.text,
    )
    return "\n".join(parts)


# key -> (type, required); the types of front matter.
_KEYS: dict[str, tuple[str, bool]] = {
  "title": ("text", True),
  "track": ("name", True),
  "source": ("text", True),
  "checked": ("flag", True),
  "claims": ("texts", True),
  "applies": ("text", True),
  "signature": ("words", False),
  "triggers": ("texts", True),
  "suggests": ("features", False),
  "warns": ("features", False),
  "effects": ("texts", False),
  "tags": ("texts", False),
}


def parse_item(text: str, name: str, where: str) -> Item:
  """Reads one item.

  Args:
    text: the whole file.
    name: its id.
    where: how error messages call the file.

  Raises:
    CognitionError: on anything malformed.
  """
  if not _NAME.fullmatch(name):
    raise CognitionError(
      f"{where}:1: the file stem {name!r} is the item's id; rename it to "
      "lower-case letters, digits, - and _."
    )
  lines = text.split("\n")
  if lines[0].rstrip() != "---":
    raise CognitionError(
      f"{where}:1: no front matter; start the file with a line `---`."
    )
  end = next(
    (i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None
  )
  if end is None:
    raise CognitionError(
      f"{where}:1: the front matter does not end; close it with `---`."
    )
  values = _front_matter("\n".join(lines[1:end]), where)
  body = "\n".join(lines[end + 1 :]).strip()
  if not body:
    raise CognitionError(
      f"{where}:{end + 1}: no text; write what a reader needs below `---`."
    )
  both = sorted(set(values.get("suggests", ())) & set(values.get("warns", ())))
  if both:
    raise CognitionError(
      f"{where}:1: {both[0]} is both suggested and warned of; keep one."
    )
  return Item(id=name, text=body, **values)


def load_items(
  folder: str | pathlib.Path = ITEMS_DIR,
  track: str | None = None,
  exclude: Collection[str] = (),
) -> list[Item]:
  """Reads all `*.md` below `folder`, sorted by id.

  Args:
    folder: where the items are; sub-folders count.
    track: keep only items that serve this track.
    exclude: tags and ids of items to leave out.

  Raises:
    CognitionError: if any item is malformed or two share an id.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise CognitionError(
      f"{folder}: no such folder; give the folder that holds the items."
    )
  items: dict[str, Item] = {}
  files: dict[str, pathlib.Path] = {}
  for path in sorted(folder.rglob("*.md")):
    try:
      text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
      raise CognitionError(
        f"{path}:1: not UTF-8 ({error.reason}); save it as UTF-8."
      ) from error
    item = parse_item(text, path.stem, str(path))
    if item.id in items:
      raise CognitionError(
        f"{path}:1: id {item.id!r} is taken by {files[item.id]}; "
        "rename one of the files."
      )
    items[item.id], files[item.id] = item, path
  kept = (items[name] for name in sorted(items))
  return [
    item
    for item in kept
    if serves(item, track) and not {item.id, *item.tags} & set(exclude)
  ]


def serves(item: Item, track: str | None) -> bool:
  """Whether `item` belongs to `track`; None means any."""
  return track is None or item.track in ("", track)


def _front_matter(text: str, where: str) -> dict[str, Any]:
  try:
    node = yaml.compose(text, Loader=_Loader)
    loaded = yaml.load(text, Loader=_Loader)
  except yaml.YAMLError as error:
    mark = getattr(error, "problem_mark", None)
    # The front matter starts on line 2; marks count from 0.
    line = mark.line + 2 if mark is not None else 1
    problem = getattr(error, "problem", None) or "not YAML"
    raise CognitionError(
      f"{where}:{line}: {problem}; quote values that hold `: ` or start "
      "with a sign."
    ) from error
  if not isinstance(loaded, dict):
    raise CognitionError(
      f"{where}:2: the front matter must be `key: value` lines."
    )
  lines: dict[str, int] = {}
  for key_node, _ in node.value:
    line = key_node.start_mark.line + 2
    key = str(key_node.value)
    if key not in _KEYS:
      raise CognitionError(
        f"{where}:{line}: unknown key {key!r}; keys here: {', '.join(_KEYS)}."
      )
    if key in lines:
      raise CognitionError(
        f"{where}:{line}: {key} stands twice (first on line "
        f"{lines[key]}); merge them."
      )
    lines[key] = line
  missing = [k for k, (_, need) in _KEYS.items() if need and k not in lines]
  if missing:
    raise CognitionError(
      f"{where}:2: missing {', '.join(missing)}; add it to the front matter."
    )
  return {
    key: _value(_KEYS[key][0], value, f"{where}:{lines[key]}: {key}")
    for key, value in loaded.items()
  }


def _value(kind: str, value: Any, where: str) -> Any:
  if kind == "flag":
    if not isinstance(value, bool):
      raise CognitionError(f"{where} must be true or false, got {value!r}.")
    return value
  if kind == "words":
    if not isinstance(value, dict):
      raise CognitionError(f"{where} must map metric names to words.")
    return {str(k): _text(v, f"{where}.{k}") for k, v in value.items()}
  if kind in ("texts", "features"):
    if not isinstance(value, list):
      raise CognitionError(f"{where} must be a list, got {value!r}.")
    texts = tuple(_text(v, where) for v in value)
    if kind == "texts" and not texts:
      raise CognitionError(f"{where} is empty; give at least one or drop it.")
    if kind == "features":
      _check_features(texts, where)
    return texts
  text = _text(value, where)
  if kind == "name" and not _NAME.fullmatch(text):
    raise CognitionError(f"{where} must name a track, got {text!r}.")
  return text


def _text(value: Any, where: str) -> str:
  if not isinstance(value, str) or not value.strip():
    raise CognitionError(
      f"{where} must be text, got {value!r}; quote it if it looks like a "
      "number, a flag or a mapping."
    )
  return " ".join(value.split())


def _check_features(features: Iterable[str], where: str) -> None:
  for feature in features:
    if not _FEATURE.fullmatch(feature):
      raise CognitionError(
        f"{where}: {feature!r} is not a feature; write it as gene=value."
      )
