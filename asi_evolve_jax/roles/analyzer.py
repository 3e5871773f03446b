"""The Analyzer: turns Results into comparisons, effects and lessons."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from asi_evolve_jax.evaluation.statistics import paired_difference
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  LOST,
  OK,
  PAIR,
  SEARCH,
  Analysis,
  Proposal,
  Record,
  Result,
  Task,
)
from asi_evolve_jax.roles import effects as effects_lib
from asi_evolve_jax.roles import sentences
from asi_evolve_jax.roles.analyst import make_analyst
from asi_evolve_jax.roles.evidence import Evidence, gather
from asi_evolve_jax.roles.sentences import Comparison
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track

log = logging.getLogger(__name__)

PAIR_PRIORITY = 50
# Features listed in an Analysis beyond those the child changed. The first one
# after a regression lists all: readers keep the latest figure of each feature.
_LISTED = 20
# Records in one commit, about; the rest waits for the next step.
_BATCH = 200


class Analyzer:
  """Writes an Analysis of each child once it was measured.

  A child is analysed again when it, or a parent on its seeds, gets a new
  Result. Verification is left alone: what held-out data says must not flow
  back into the search. Where a language model reads along, an Analysis waits
  for its report; once the search has ended nobody is asked any more.
  """

  name = "analyzer"

  def __init__(self, records: Records, settings: RunSettings, track: Track):
    self._records = records
    self._settings = settings
    self._track = track
    self._view = View(track.metric.name, track.metric.direction)
    self._cursor = None
    rungs = tuple(rung.name for rung in settings.ladder)
    self._table = effects_lib.EffectTable(
      track.space, track.metric.gain(1.0, 0.0), rungs
    )
    self._told = 0  # regressions whose whole table was written
    self._noise: dict[str, effects_lib.SeedNoise] = {}
    self._children: dict[str, list[str]] = {}
    # Program ids to look at, in the order they came; a dict is an ordered set.
    self._todo: dict[str, None] = {}
    self._analyst = make_analyst(records, self._view, settings, _BATCH)

  def step(self) -> bool:
    """Analyses what is new, in one commit.

    Returns:
      Whether it wrote anything, or there is more to do.
    """
    news, self._cursor = self._records.follow(self._cursor)
    self._view.update(news)
    self._learn(news)
    ended = "search-ended" in self._view.milestones
    analyst = None if ended else self._analyst
    most = analyst.batch if analyst is not None else _BATCH
    output: list[Record] = []
    waiting = []
    while self._todo and len(output) < most:
      program = next(iter(self._todo))
      del self._todo[program]
      if program not in self._view.proposal_of:
        waiting.append(program)
        continue
      try:
        output += self._look_at(program)
      except Exception:
        # One odd record must not stop the lessons of all the others.
        log.exception("Program %s cannot be analysed; going on.", program)
    more = bool(self._todo)
    self._todo.update(dict.fromkeys(waiting))
    if analyst is not None:
      # A Task need not wait for a model.
      tasks = [record for record in output if isinstance(record, Task)]
      more = self._put(tasks) or more
      analyses = [record for record in output if isinstance(record, Analysis)]
      output = list(analyst.add(analyses, self._evidence))
    return self._put(output) or more

  def close(self) -> None:
    """Nothing is held."""

  def _put(self, records: Sequence[Record]) -> bool:
    return any(self._records.put(*records)) if records else False

  def _evidence(self, analysis: Analysis) -> Evidence:
    """Returns what is behind `analysis`, reference baselines included."""
    view, program = self._view, analysis.program
    parents = view.proposal_of[program].parents
    named = map(view.baseline, self._settings.verify.references)
    references = [b for b in named if b is not None and b not in parents]
    results = [view.results[task] for task in analysis.results]
    found = [
      self._compare(program, baseline, rung)
      for rung in dict.fromkeys(r.rung for r in results)
      for baseline in references
    ]
    return gather(
      view,
      self._records,
      self._track,
      analysis,
      [c.as_dict() for c in found if c is not None],
    )

  def _learn(self, news: list[Record]) -> None:
    for record in news:
      if isinstance(record, Proposal):
        for parent in record.parents:
          self._children.setdefault(parent, []).append(record.program)
        # Only where a Result was seen before the Proposal it belongs to.
        for result in self._results(record.program):
          self._measure(record.program, result.rung)
      elif isinstance(record, Result) and _counts(record):
        self._todo[record.program] = None
        if record.purpose == PAIR:
          children = self._children.get(record.program, ())
          self._todo.update(dict.fromkeys(children))
        if record.status == OK:
          self._measure(record.program, record.rung)

  def _measure(self, program: str, rung: str) -> None:
    scores = self._view.measurements(program, rung)
    if not scores:
      return
    self._table.observe(self._view.proposal_of.get(program), rung, scores)
    noise = self._noise.setdefault(rung, effects_lib.SeedNoise())
    noise.observe(program, scores)

  def _results(self, program: str) -> list[Result]:
    results = self._view.results_of.get(program, ())
    return [r for r in results if _counts(r)]

  def _look_at(self, program: str) -> list[Record]:
    proposal = self._view.proposal_of[program]
    own = self._results(program)
    if program in self._view.baselines or not own:
      return []
    asked, pairs, comparisons = [], [], []
    for rung in dict.fromkeys(r.rung for r in own if r.status == OK):
      seeds = set(self._view.measurements(program, rung))
      for parent in dict.fromkeys(proposal.parents):
        known = set(self._view.measurements(parent, rung))
        if known and seeds - known:
          asked += self._ask(parent, rung, seeds - known)
        pairs += [
          r
          for r in self._results(parent)
          if r.purpose == PAIR and r.rung == rung and seeds & set(r.seeds)
        ]
        comparison = self._compare(program, parent, rung)
        if comparison is not None:
          comparisons.append(comparison)
    read = {r.task for r in (*own, *pairs)}
    analyses = self._view.analyses_of.get(program, ())
    if read <= {task for a in analyses for task in a.results}:
      return asked
    return [*asked, self._analyse(proposal, own, comparisons, read)]

  def _ask(self, parent: str, rung: str, seeds: set[int]) -> list[Task]:
    """Asks for a parent's missing seeds, once, while the search goes on.

    Only at a rung where the parent was measured already: taking it to a rung
    that it was not promoted to would cost more than the comparison is worth.
    """
    task = Task(
      program=parent,
      rung=rung,
      seeds=tuple(sorted(seeds)),
      purpose=PAIR,
      priority=PAIR_PRIORITY,
      requested_by=self.name,
    )
    ended = "search-ended" in self._view.milestones
    return [] if ended or task.id in self._view.tasks else [task]

  def _compare(self, child: str, parent: str, rung: str) -> Comparison | None:
    ours, theirs = (
      self._view.measurements(child, rung),
      self._view.measurements(parent, rung),
    )
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
      return None
    gains = [self._track.metric.gain(ours[s], theirs[s]) for s in seeds]
    if len(gains) > 1:
      mean, low, high, _ = paired_difference(gains)
      return Comparison(parent, rung, mean, low, high, seeds, "paired")
    (gain,) = gains
    noise = self._noise.get(rung)
    margin = noise.margin() if noise is not None else None
    if margin is None:
      return Comparison(parent, rung, gain, None, None, seeds, "")
    low, high = gain - margin, gain + margin
    return Comparison(parent, rung, gain, low, high, seeds, "seed noise")

  def _analyse(
    self,
    proposal: Proposal,
    own: list[Result],
    comparisons: list[Comparison],
    read: set[str],
  ) -> Analysis:
    rung = self._table.rung()
    table = self._table.effects(rung)
    changed = effects_lib.changed_features(proposal)
    ordered = sorted(
      table.values(), key=lambda e: (-effects_lib.strength(e), e.feature)
    )
    if self._table.fits == self._told:
      ordered = ordered[:_LISTED]
    self._told = self._table.fits
    listed = {e.feature: e for e in ordered}
    listed.update({f: table[f] for f in changed if f in table})
    effects = tuple(effects_lib.as_dict(e, rung) for e in listed.values())
    lessons = (
      *(self._failure(proposal, r) for r in own if r.status != OK),
      *(self._lesson(proposal, c) for c in comparisons),
      *(
        sentences.effect_line(effects_lib.as_dict(table[f], rung), self._unit())
        for f in changed
        if f in table and effects_lib.strength(table[f]) > 1
      ),
    )
    return Analysis(
      program=proposal.program,
      results=tuple(sorted(read)),
      text=self._report(proposal, own, comparisons, effects, lessons),
      comparisons=tuple(c.as_dict() for c in comparisons),
      effects=effects,
      lessons=lessons,
    )

  def _report(
    self,
    proposal: Proposal,
    own: list[Result],
    comparisons: list[Comparison],
    effects: tuple[dict[str, Any], ...],
    lessons: tuple[str, ...],
  ) -> str:
    """Returns what a person reads, and what retrieval takes as a query."""
    features = effects_lib.features_of(self._track.space, proposal)
    changed = set(effects_lib.changed_features(proposal))
    lines = [f"# {proposal.name} ({proposal.program[:12]})", ""]
    lines += [
      f"Changed {sentences.change(proposal)}."
      if changed
      else "No parent was changed."
    ]
    lines += [f"It is {', '.join(sorted(features))}."] if features else []
    lines += ["", "## Measured", ""]
    lines += [f"- {sentences.measured(r)}" for r in own]
    lines += [f"- {self._versus(c)}" for c in comparisons]
    if not comparisons and any(r.status == OK for r in own):
      lines += ["- No parent was measured on the same seeds and rung."]
    if effects:
      lines += ["", f"## History at {effects[0]['rung']}", ""]
      lines += [
        f"- {sentences.effect_line(e, self._unit())}"
        + (" (changed here)" if e["feature"] in changed else "")
        for e in effects[:8]
        + tuple(e for e in effects[8:] if e["feature"] in changed)
      ]
    if lessons:
      lines += ["", "## Lessons", "", *(f"- {lesson}" for lesson in lessons)]
    return "\n".join(lines)

  def _unit(self) -> str:
    return self._track.metric.name

  def _versus(self, c: Comparison) -> str:
    word = "better" if c.effect > 0 else "worse"
    amount = f"{abs(c.effect):.4g} {self._unit()}"
    parent = self._view.name_of(c.parent)
    text = f"{c.rung}: {word} than parent {parent} by {amount}"
    if c.low is None or c.high is None:
      return f"{text}; one seed: no interval"
    span = f"gain {c.low:+.4g} to {c.high:+.4g}"
    if c.better is None:
      span += ", interval spans zero: inside the noise floor"
    if c.basis == "paired":
      return f"{text}; {len(c.seeds)} paired seeds, {span}"
    noise = self._noise[c.rung]
    return (
      f"{text}; one seed: interval from the seed noise of "
      f"{noise.programs} programs, {span}"
    )

  def _lesson(self, proposal: Proposal, c: Comparison) -> str:
    word = "better" if c.effect > 0 else "worse"
    if c.low is None:
      verdict = f"scored {word}, on one seed and without interval, than"
    elif c.better is None:
      verdict = "cannot be told from noise against"
    else:
      verdict = f"is {word} than"
    parent = self._view.name_of(c.parent)
    return (
      f"{sentences.change(proposal)}: {verdict} {parent} at {c.rung} "
      f"({c.effect:+.4g} {self._unit()}, + is better)"
    )

  def _failure(self, proposal: Proposal, result: Result) -> str:
    return f"{sentences.change(proposal)}: {sentences.measured(result)}"


def _counts(result: Result) -> bool:
  # What the machine killed says nothing about the Program; it is asked again.
  return result.purpose in (SEARCH, PAIR) and result.status != LOST
