"""What is wrong with items that can be read: names that exist nowhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping

from cognition.item import Item

CANDIDATE = "candidate"  # tag of an item that nobody has reviewed yet

_FEATURE = re.compile(r"\b([a-z][a-z0-9_]*)=([^\s,;:)('\"]*\w)")
# "bits_per_byte", "dev/recall": words that can only be names.
_IDENTIFIER = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b|\b(?:dev|gen)/\w+")


@dataclasses.dataclass(frozen=True)
class Names:
  """What exists in a track.

  Attributes:
    features: "gene=value" of its space; empty where it has no space yet.
    metrics: names of its metrics and of the entries of its reports.
    others: more names that a trigger may use: gates, modes, statuses.
  """

  features: Collection[str]
  metrics: Collection[str]
  others: Collection[str] = ()


@dataclasses.dataclass(frozen=True)
class Problem:
  """One thing to mend: the item's id and what is wrong, with the remedy."""

  item: str
  text: str


def lint(items: Iterable[Item], names: Mapping[str, Names]) -> list[Problem]:
  """Checks that what items name exists.

  Features that are suggested, warned of or written in running text must be of
  the track's space, signatures must name its metrics, and words in triggers
  that can only be names (with an underscore or a suite in front) must be
  metrics, genes or other names of the track.

  Args:
    items: of any tracks; one that serves every track may name what any has.
    names: what exists, by track.
  """
  problems = []
  for item in items:
    if item.track and item.track not in names:
      known = ", ".join(sorted(names))
      text = f"no track {item.track!r}; tracks here: {known}"
      problems.append(Problem(item.id, text))
      continue
    texts = _check(item, [names[item.track]] if item.track else names.values())
    problems += [Problem(item.id, text) for text in texts]
  return problems


def _check(item: Item, names: Iterable[Names]) -> list[str]:
  features = {feature for n in names for feature in n.features}
  metrics = {metric for n in names for metric in n.metrics}
  genes = {feature.partition("=")[0] for feature in features}
  known = metrics | genes | {other for n in names for other in n.others}
  texts = []
  if CANDIDATE in item.tags:
    texts.append(
      f"is a candidate: check it against its source, then drop the tag "
      f"{CANDIDATE}"
    )
  for feature in (*item.suggests, *item.warns):
    if feature not in features:
      texts.append(f"{feature} is no feature of the track's space")
  for gene, value in _FEATURE.findall(item.document()):
    feature = f"{gene}={value}"
    named = feature in item.suggests or feature in item.warns
    if gene in genes and feature not in features and not named:
      texts.append(f"{feature} stands in its text and is no feature")
  for metric in item.signature:
    if metric not in metrics:
      texts.append(
        f"{metric} in its signature is no metric; metrics of "
        f"{item.track or 'all tracks'}: {', '.join(sorted(metrics))}"
      )
  for trigger in item.triggers:
    plain = _FEATURE.sub(" ", trigger)
    for word in _IDENTIFIER.findall(plain):
      if word not in known:
        texts.append(
          f"{word} in a trigger is no metric and no gene; write it in words "
          "or register it"
        )
  return list(dict.fromkeys(texts))
