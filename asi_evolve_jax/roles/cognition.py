"""The Cognition role: turns lessons into Insights that retrieval finds."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Any

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  FAILED,
  REJECTED,
  TIMEOUT,
  Analysis,
  Insight,
  Record,
  Result,
  digest,
)
from asi_evolve_jax.roles.effects import features_of
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track
from cognition.item import Item

log = logging.getLogger(__name__)

# Programs behind an effect before it may become an Insight.
_LEAST_PROGRAMS = 4
# Failures of one kind before they are a pattern, and of one feature in it.
_LEAST_FAILURES = 2
_LEAST_TIED = 3
_MOST_TIED = 4  # features that are warned of for one kind
# Analyses named as evidence; the latest ones.
_EVIDENCE = 5
# Of lessons that a model reads out of one Program: what is measured over many
# comes first.
_READ_WEIGHT = 0.5
_TITLE = 120  # characters
_ERROR = 300  # characters of a failure's message


class CognitionRole:
  """Follows Analyses and writes Insights where the evidence has changed.

  Insights are a function of the Analyses in the order of the log, and their
  ids hold a version, so two of these roles, or one that starts again, collide
  on the same records instead of doubling them.
  """

  name = "cognition"

  def __init__(self, records: Records, settings: RunSettings, track: Track):
    self._records = records
    self._track = track
    self._view = View(track.metric.name, track.metric.direction)
    self._cursor = None
    self._stored: dict[str, Insight] = {}
    self._latest: dict[str, Insight] = {}
    self._evidence: dict[str, list[str]] = {}
    self._failures = _Failures()
    # Kinds of failure whose latest Insight may warn of a feature.
    self._warning: dict[str, None] = {}

  def step(self) -> bool:
    """Takes in what is new, in one commit.

    Returns:
      Whether it wrote anything.
    """
    news, self._cursor = self._records.follow(self._cursor)
    self._view.update(news)
    for record in news:
      if isinstance(record, Insight):
        self._stored[record.id] = record
    output: list[Insight] = []
    for analysis in news:
      if not isinstance(analysis, Analysis):
        continue
      try:
        output += self._learn(analysis)
      except Exception:
        # One odd Analysis must not stop the lessons of all the others.
        log.exception("Analysis %s teaches nothing; going on.", analysis.id)
    return self._commit(output)

  def close(self) -> None:
    """Nothing is held."""

  def _learn(self, analysis: Analysis) -> list[Insight]:
    name = analysis.id  # a hash of much: once
    drafts = [
      self._from_effect(effect, name)
      for effect in analysis.effects
      if effect["n"] >= _LEAST_PROGRAMS
    ]
    drafts += self._from_failures(analysis)
    drafts.append(self._from_reading(analysis))
    return [
      insight
      for draft in drafts
      if draft is not None
      for insight in self._next_version(draft)
    ]

  def _next_version(self, draft: Insight) -> list[Insight]:
    """Numbers `draft`; returns it if the store does not hold that version."""
    old = self._latest.get(draft.slug)
    version = old.version + 1 if old is not None else 1
    insight = dataclasses.replace(draft, version=version)
    stored = self._stored.get(insight.id)
    # What is stored was said first and stands, whoever said it.
    self._latest[draft.slug] = stored or insight
    return [] if stored else [insight]

  def _note(self, slug: str, analysis: str) -> list[str]:
    """Adds to the evidence for `slug`; returns the latest of it."""
    evidence = self._evidence.setdefault(slug, [])
    evidence.append(analysis)
    del evidence[:-_EVIDENCE]
    return evidence

  def _commit(self, output: list[Insight]) -> bool:
    if not output:
      return False
    written = self._records.put(*output)
    for insight, new in zip(output, written, strict=True):
      record: Record | None = insight
      if not new:
        record = self._records.get(Insight.kind, insight.id)
      if isinstance(record, Insight):
        self._stored[record.id] = record
        if self._latest[record.slug].version == record.version:
          self._latest[record.slug] = record
    return any(written)

  def _from_effect(
    self, effect: dict[str, Any], analysis: str
  ) -> Insight | None:
    feature = effect["feature"]
    slug = feature_slug(feature)
    evidence = self._note(slug, analysis)
    old = self._latest.get(slug)
    low, high, mean = effect["low"], effect["high"], effect["effect"]
    sign = _sign(low, high)
    if old is None and not sign:
      return None
    if old is not None and not _differs(old, low, high):
      return None
    unit = self._track.metric.name
    size = (
      f"{mean:+.4g} {unit} (+ is better, 95 % interval {low:+.4g} to "
      f"{high:+.4g}, {effect['n']} programs at {effect.get('rung', '')})"
    )
    verdict = {1: "helps", -1: "hurts", 0: "is undecided"}[sign]
    text = (
      f"In this run {feature} {verdict}: {size}, against the mean over the "
      "values of this gene, other features equal."
    )
    before = _verdict(old) if old is not None else sign
    weight = 1.0 if old is None else min(1.0, 2 * old.weight)
    if old is not None and before != sign:
      weight = old.weight / 2
      was = {1: "help", -1: "hurt", 0: "be undecided"}[before]
      text += (
        f" This contradicts version {old.version}, which found it to {was} "
        f"({old.effect:+.4g}): later programs changed the picture."
      )
    return Insight(
      slug=slug,
      version=0,
      title=f"{feature} {verdict} ({mean:+.3g} {unit})",
      text=text,
      suggests=(feature,) if sign > 0 else (),
      warns=(feature,) if sign < 0 else (),
      effect=mean,
      low=low,
      high=high,
      evidence=tuple(evidence),
      weight=weight,
    )

  def _from_reading(self, analysis: Analysis) -> Insight | None:
    """Returns what a model says a Program taught, if all of it is quoted."""
    report = analysis.report
    lessons = report.get("lessons")
    if not lessons or report.get("misquotes"):
      return None
    slug = _safe(f"read-{analysis.program}")
    proposal = self._view.proposal_of.get(analysis.program)
    name = proposal.name if proposal is not None else analysis.program
    # What it explains stands too: retrieval finds the lesson by the symptom.
    said = [*lessons, f"Probable cause: {report['cause']}"]
    text = f"Read from {name} by a model, no measured effect: {' '.join(said)}"
    evidence = tuple(self._note(slug, analysis.id))
    old = self._latest.get(slug)
    if old is not None and old.text == text:
      return None
    return Insight(
      slug=slug,
      version=0,
      title=lessons[0][:_TITLE],
      text=text,
      evidence=evidence,
      weight=_READ_WEIGHT,
    )

  def _from_failures(self, analysis: Analysis) -> list[Insight]:
    program = analysis.program
    read = map(self._view.results.get, analysis.results)
    results = [r for r in read if r is not None and r.program == program]
    proposal = self._view.proposal_of.get(program)
    features = features_of(self._track.space, proposal)
    failures = self._failures
    new = failures.observe(program, features, results)
    drafts = []
    # Few kinds with a few features each: a step costs the same in a long run.
    for kind in dict.fromkeys((*new, *self._warning)):
      slug = _safe(f"stops-at-{kind}")
      if kind in new:
        self._note(slug, analysis.id)
      old = self._latest.get(slug)
      warns = old.warns if old is not None else ()
      if not warns:
        self._warning.pop(kind, None)
      refuted = [f for f in warns if not failures.is_tied(kind, f)]
      # Twice, four times, eight times: cost and noise stay flat.
      count = failures.count(kind)
      doubled = count >= _LEAST_FAILURES and not count & (count - 1)
      if kind in new and doubled:
        tied = failures.tied(kind)
      elif refuted:
        # No new warning in between, or two features could take turns.
        tied = [f for f in warns if f not in refuted]
      else:
        continue
      if kind not in new:  # then what passed is the evidence
        self._note(slug, analysis.id)
      self._warning[kind] = None
      drafts.append(self._from_gate(slug, kind, tied, refuted))
    return drafts

  def _from_gate(
    self, slug: str, kind: str, tied: list[str], refuted: list[str]
  ) -> Insight:
    """Returns what is known of a kind of failure.

    Args:
      slug: of the Insight.
      kind: of failure.
      tied: features to warn of.
      refuted: features that its latest version warned of, wrongly as is seen
        by now.
    """
    failures, old = self._failures, self._latest.get(slug)
    count = failures.count(kind)
    text = (
      f"{count} of {failures.programs} programs of this run stopped at {kind}."
    )
    for feature in tied:
      bad, tried = failures.with_feature(kind, feature)
      text += f" With {feature}: {bad} of {tried}."
    weight = 1.0 if old is None else min(1.0, 2 * old.weight)
    if old is not None and refuted:
      weight = old.weight / 2
      for feature in refuted:
        bad, tried = failures.with_feature(kind, feature)
        text += (
          f" Version {old.version} warned of {feature}: by now {bad} of "
          f"{tried} with it stopped there, and {count - bad} of "
          f"{failures.programs - tried} without."
        )
      text += " Later programs changed the picture."
    error = failures.latest(kind)
    if error:
      text += f" The latest said: {error}"
    return Insight(
      slug=slug,
      version=0,
      title=f"{kind}: {count} programs stopped there",
      text=text,
      warns=tuple(tied),
      evidence=tuple(self._evidence[slug]),
      weight=weight,
    )


class _Failures:
  """Counts which Programs failed how, and with which features."""

  def __init__(self) -> None:
    self._kinds: dict[str, set[str]] = {}
    self._tied: dict[str, dict[str, int]] = {}
    self._tried: dict[str, int] = {}
    self._said: dict[str, str] = {}
    self._seen: set[str] = set()

  @property
  def programs(self) -> int:
    return len(self._seen)

  def observe(
    self, program: str, features: frozenset[str], results: list[Result]
  ) -> list[str]:
    """Returns the kinds of failure that are new for this Program."""
    if program not in self._seen:
      self._seen.add(program)
      for feature in features:
        self._tried[feature] = self._tried.get(feature, 0) + 1
    new = []
    ended = {_kind(result): result for result in reversed(results)}
    for kind in dict.fromkeys(map(_kind, results)):
      if not kind or program in self._kinds.setdefault(kind, set()):
        continue
      self._said[kind] = " ".join(ended[kind].error.split())[:_ERROR]
      self._kinds[kind].add(program)
      tied = self._tied.setdefault(kind, {})
      for feature in features:
        tied[feature] = tied.get(feature, 0) + 1
      new.append(kind)
    return new

  def count(self, kind: str) -> int:
    return len(self._kinds.get(kind, ()))

  def latest(self, kind: str) -> str:
    """Returns what the latest failure of this kind said."""
    return self._said.get(kind, "")

  def with_feature(self, kind: str, feature: str) -> tuple[int, int]:
    """Returns how many Programs with `feature` failed so, and were tried."""
    bad = self._tied.get(kind, {}).get(feature, 0)
    return bad, self._tried.get(feature, 0)

  def is_tied(self, kind: str, feature: str) -> bool:
    """Whether a feature is tied to a kind of failure.

    At least half of the Programs with it fail so, and at most half as large a
    share of those without it.
    """
    bad, tried = self.with_feature(kind, feature)
    if bad < _LEAST_TIED:
      return False
    rate, others = bad / tried, self.programs - tried
    rest = (self.count(kind) - bad) / others if others else rate
    return rate >= 0.5 and rest <= rate / 2

  def tied(self, kind: str) -> list[str]:
    """Returns the features that are tied to it most, worst first."""
    found = [f for f in self._tied.get(kind, ()) if self.is_tied(kind, f)]

    def order(feature: str) -> tuple[float, int, str]:
      bad, tried = self.with_feature(kind, feature)
      return -bad / tried, -bad, feature

    return sorted(found, key=order)[:_MOST_TIED]


def feature_slug(feature: str) -> str:
  """Returns the slug of Insights about a feature."""
  return _safe(feature)


def insight_item(insight: Insight) -> Item:
  """Returns the Item by which an Index finds an Insight.

  Its id is the Insight's; a later version takes the earlier one's place.
  """
  features = (*insight.suggests, *insight.warns)
  return Item(
    id=insight.id,
    title=insight.title,
    track="",
    source=f"this run, analyses {', '.join(insight.evidence) or 'none'}",
    checked=True,
    claims=(insight.title,),
    applies="in this run, at the scale it trains",
    triggers=features or (insight.title,),
    text=insight.text,
    suggests=insight.suggests,
    warns=insight.warns,
    weight=insight.weight,
    series=f"insight-{insight.slug}",
    version=insight.version,
  )


def _kind(result: Result) -> str:
  if result.status == REJECTED:
    return result.gate or "unnamed-gate"
  return result.status if result.status in (FAILED, TIMEOUT) else ""


def _sign(low: float, high: float) -> int:
  return 1 if low > 0 else -1 if high < 0 else 0


def _verdict(insight: Insight) -> int:
  return _sign(insight.low, insight.high)


def _differs(old: Insight, low: float, high: float) -> bool:
  """Whether the evidence moved enough for a new version.

  An interval that hovers around 0 would flip the verdict with each Result:
  one that was decided stays so until 0 is well inside.
  """
  mean, half = (low + high) / 2, (high - low) / 2
  before, now = _verdict(old), _sign(low, high)
  doubtful = before and not now and abs(mean) > half / 2
  return (
    (before != now and not doubtful)
    or not old.low <= mean <= old.high
    or half < (old.high - old.low) / 4
  )


def _safe(text: str) -> str:
  """Returns a slug that is a safe key, different for different texts."""
  slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")
  # "a=b" -> "a-b" is read back by eye; anything else needs a mark.
  plain = re.fullmatch(r"[A-Za-z0-9_]+=[A-Za-z0-9._]+", text)
  if plain or slug == text:
    return slug
  return f"{slug}-{digest(text)[:6]}"
