"""The Researcher: samples parents, retrieves knowledge, proposes Programs."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import time
from pathlib import Path

from asi_evolve_jax.evaluation.budget import Budget, rounds
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Guidance,
  Knowledge,
  Known,
)
from asi_evolve_jax.proposers.registry import make_proposer
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  REPAIR,
  Analysis,
  Insight,
  Milestone,
  Program,
  Proposal,
  Record,
  Result,
  Task,
)
from asi_evolve_jax.roles import repair, seeding
from asi_evolve_jax.roles.cognition import insight_item
from asi_evolve_jax.roles.repair import Rejections
from asi_evolve_jax.search.samplers import make_sampler
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track
from cognition.index import Index
from cognition.item import load_items

log = logging.getLogger(__name__)

BASELINE_PRIORITY = 100
# With fewer scored Programs at a rung there is nothing to choose from there.
_LEAST_SCORED = 3


class Researcher:
  """Writes Proposals while work is wanted and rounds are left.

  All state is derived from the records: a Researcher that is killed and
  started again goes on where the records stand. The draws of a round depend
  on the run's seed and the round's number.
  """

  name = "researcher"

  def __init__(
    self,
    records: Records,
    settings: RunSettings,
    track: Track,
    items_dir: str | Path,
  ):
    self._records = records
    self._settings = settings
    self._track = track
    self.view = View(track.metric.name, track.metric.direction)
    self._cursor = None
    self._proposer = make_proposer(settings.researcher.proposer)
    wanted = settings.researcher.knowledge > 0
    items = load_items(items_dir, track=settings.track) if wanted else []
    self._index = Index(items)
    # Later Analyses replace earlier figures of the same feature.
    self._effects: dict[str, tuple[float, float, float, int]] = {}
    # Naming a Program parses it: once, not at every look.
    self._baselines = [(program_id(b.source), b) for b in track.baselines()]
    self._rejections = Rejections(track.space, self.view)
    # Repairs whose writer may have died before it asked for their Tasks.
    self._lacking: dict[str, Proposal] = {}
    workers = settings.workers.count or os.cpu_count() or 1
    self._capacity = workers * settings.researcher.queue

  def step(self) -> bool:
    """Reads what is new and proposes as much as is wanted.

    Returns:
      Whether it wrote anything.
    """
    news, self._cursor = self._records.follow(self._cursor)
    self._learn(news)
    if "search-ended" in self.view.milestones or self.view.steering.paused:
      return False
    if self._propose_baselines() or self._propose_imports():
      return True
    repaired = self._propose_repairs()
    return self._propose_candidates() or repaired

  def close(self) -> None:
    """Nothing is held."""

  def _learn(self, news: list[Record]) -> None:
    self.view.update(news)
    for record in news:
      if isinstance(record, Result):
        self._rejections.observe(record)
      elif isinstance(record, Task):
        self._lacking.pop(record.program, None)
      elif isinstance(record, Proposal) and record.operator == REPAIR:
        if not self._has_task(record.program):
          self._lacking[record.program] = record
      elif isinstance(record, Insight):
        self._index.add(insight_item(record))
      elif isinstance(record, Analysis):
        for effect in record.effects:
          self._effects[effect["feature"]] = (
            effect["effect"],
            effect["low"],
            effect["high"],
            effect["n"],
          )

  def _first_task(self, program: str, by: str, priority: int) -> Task:
    rung = self._settings.ladder[0]
    return Task(
      program=program,
      rung=rung.name,
      seeds=rung.seeds,
      priority=priority,
      requested_by=by,
    )

  def _propose_baselines(self) -> bool:
    known = self.view.proposal_of
    records: list[Record] = []
    for place, (program, baseline) in enumerate(self._baselines):
      if program in known:
        continue
      proposal = Proposal(
        program=program,
        track=self._settings.track,
        name=baseline.name,
        author="baseline",
        round=0,
        operator="baseline",
        motivation=baseline.motivation,
        genome=baseline.genome,
      )
      records += [
        Program(
          hash=program, track=self._settings.track, source=baseline.source
        ),
        proposal,
        self._first_task(program, self.name, BASELINE_PRIORITY - place),
      ]
    if records:
      self._commit(records)
    return bool(records)

  def _propose_imports(self) -> bool:
    """Brings in Programs of the run in `seed_from`, once."""
    seed = self._settings.seed_from
    if not (seed.records and seed.best) or "seeded" in self.view.milestones:
      return False
    records: list[Record] = []
    for program, proposal in seeding.imports(self._settings, self._track):
      task = self._first_task(program.hash, self.name, seeding.PRIORITY)
      records += [program, proposal, task]
    self._commit([*records, Milestone(name="seeded", by=self.name)])
    return True

  def _propose_candidates(self) -> bool:
    proposed = self.view.proposed()
    wanted = min(
      self._capacity - len(self.view.pending()),
      rounds(self.view, self._settings) - proposed,
      self._settings.researcher.batch,
    )
    rung = self._parent_rung()
    if wanted <= 0 or rung is None:
      return False
    budget = Budget(self.view, self._settings, time.time())
    wanted = budget.rounds_left(wanted)
    records: list[Record] = []
    written: set[str] = set()
    for offset in range(wanted):
      draft_records = self._draft(rung, proposed + offset + 1, written)
      if not draft_records:
        break
      records += draft_records
      # The next parent of this batch is chosen knowing about this one.
      self.view.update(draft_records)
    if records:
      self._commit(records)
    return bool(records)

  def _propose_repairs(self) -> bool:
    """Mends each Program that a gate rejected, once.

    The key of such a Proposal is that of the rejected Program: of several
    Researchers one writes it, and whoever sees it asks for its Task.
    """
    if not self._settings.researcher.repair:
      return False
    did = False
    for result in self.view.unrepaired():
      if not Budget(self.view, self._settings, time.time()).rounds_left(1):
        break
      self._repair(result)
      did = True
    tasks = [
      self._first_task(program, self.name, repair.PRIORITY)
      for program in self._lacking
    ]
    if tasks:
      self._lacking.clear()
      self._commit(list(tasks))
    return did or bool(tasks)

  def _repair(self, result: Result) -> None:
    """Writes the repair of what `result` rejected, or that there is none."""
    rejection = self._rejections.of(result)
    rejected = self.view.proposal_of[result.program]
    query = f"{rejection.gate}: {rejection.message}"
    rng = random.Random(f"{self._settings.seed}/repair/{result.program}")
    parent = self._known(result.program, result.rung)
    context = self._context(parent, (), query, rng, set())
    try:
      draft = self._proposer.repair(context, rejection)
    except Exhausted as error:
      log.warning("no repair of %s: %s", rejected.name, error)
      name = f"no-repair/{result.program}"
      self._commit([Milestone(name=name, by=self.name)])
      return
    program, proposal = self._records_of(draft, context, rejected.round)
    # Its Task comes after: only the one Proposal that counts gets one.
    if self._records.put(program, proposal)[1]:
      self.view.update([program, proposal])
      self._lacking[proposal.program] = proposal
      log.info("round %d: repaired as %s", rejected.round, draft.name)

  def _has_task(self, program: str) -> bool:
    first = self._first_task(program, self.name, repair.PRIORITY)
    return first.id in self.view.tasks

  def _parent_rung(self) -> str | None:
    """Returns the highest rung where there is something to choose from."""
    # Once nothing more is to come, fewer will do.
    least = _LEAST_SCORED if self.view.pending() else 1
    for rung in reversed(self._settings.ladder):
      if len(self.view.ranked(rung.name, least)) >= least:
        return rung.name
    return None

  def _draft(
    self, rung: str, round_number: int, written: set[str]
  ) -> list[Record]:
    # One generator a round: a restart does not change what follows.
    rng = random.Random(f"{self._settings.seed}/{round_number}")
    sampler = make_sampler(self._settings.sampler, rng)
    sample = sampler.sample(self.view, rung, can_edit=self._has_genome)
    pinned = self._pinned()
    parent = self._known(pinned or sample.parent, rung)
    references = tuple(
      self._known(r, rung) for r in sample.references if r != pinned
    )
    context = self._context(
      parent, references, self._query(parent.program), rng, written
    )
    if pinned:
      # A sample of the whole space would not come from the pinned parent.
      context = dataclasses.replace(
        context, settings=dataclasses.replace(context.settings, fresh=0.0)
      )
    try:
      draft = self._proposer.propose(context)
    except Exhausted as error:
      log.warning("round %d: %s", round_number, error)
      return []
    program, proposal = self._records_of(draft, context, round_number)
    written.add(program.hash)
    log.info("round %d: %s (%s)", round_number, draft.name, draft.operator)
    return [program, proposal, self._first_task(program.hash, self.name, 0)]

  def _records_of(
    self, draft: Draft, context: Context, round_number: int
  ) -> tuple[Program, Proposal]:
    program = program_id(draft.source)
    track = self._settings.track
    proposal = Proposal(
      program=program,
      track=track,
      name=draft.name,
      author=self._settings.researcher.proposer,
      round=round_number,
      operator=draft.operator,
      motivation=_with_words(draft.motivation, context.guidance),
      parents=draft.parents,
      references=tuple(known.program for known in context.references),
      genome=draft.genome,
      changes=draft.changes,
      knowledge=(*draft.knowledge, *(word.id for word in context.guidance)),
      seen=self._cursor.position if self._cursor else "",
    )
    return Program(hash=program, track=track, source=draft.source), proposal

  def _has_genome(self, program: str) -> bool:
    return self.view.proposal_of[program].genome is not None

  def _known(self, program: str, rung: str) -> Known:
    proposal = self.view.proposal_of[program]
    return Known(
      program=program,
      name=proposal.name,
      genome=proposal.genome,
      score=self.view.score(program, rung),
    )

  def _pinned(self) -> str:
    """Returns the Program that people want edited, or ""."""
    pin = self.view.steering.pinned
    program = pin.arguments["program"] if pin is not None else ""
    return "" if program in self.view.vetoed else program

  def _context(
    self,
    parent: Known,
    references: tuple[Known, ...],
    query: str,
    rng: random.Random,
    written: set[str],
  ) -> Context:
    return Context(
      space=self._track.space,
      parent=parent,
      references=references,
      knowledge=self._retrieve(query),
      effects=self._effects if self._settings.researcher.use_effects else {},
      known=lambda p: p in self.view.programs or p in written,
      rng=rng,
      settings=self._settings.researcher,
      guidance=self._guidance(),
    )

  def _guidance(self) -> tuple[Guidance, ...]:
    steering = self.view.steering
    prefer, avoid = steering.wanted()
    words = []
    for steer in steering.guidance:
      said = steer.arguments
      word = Guidance(
        id=steer.key,
        by=steer.by,
        text=said["text"],
        prefer=tuple(n for n, by in prefer.items() if by is steer),
        avoid=tuple(n for n, by in avoid.items() if by is steer),
      )
      replaced = not (word.prefer or word.avoid)
      if not (replaced and (said["prefer"] or said["avoid"])):
        words.append(word)
    return tuple(words)

  def _query(self, parent: str) -> str:
    """Returns what to look up before editing `parent`."""
    analyses = self.view.analyses_of.get(parent, [])
    proposal = self.view.proposal_of[parent]
    # At round 0 nothing is analysed yet: the brief still says what matters.
    return (
      analyses[-1].text
      if analyses
      else f"{proposal.motivation}\n{self._track.brief}"
    )

  def _retrieve(self, query: str) -> tuple[Knowledge, ...]:
    wanted = self._settings.researcher.knowledge
    if not wanted:
      return ()
    words = [word.text for word in self._guidance()]
    return tuple(
      Knowledge(
        id=hit.item.id,
        title=hit.item.title,
        suggests=hit.item.suggests,
        warns=hit.item.warns,
        weight=hit.score,
      )
      for hit in self._index.search("\n".join([*words, query]), wanted)
    )

  def _commit(self, records: list[Record]) -> None:
    self._records.put(*records)
    # Its own writes come back by the log as well; seeing them now keeps a
    # fast loop from proposing the same round twice.
    self.view.update(records)


def _with_words(motivation: str, guidance: tuple[Guidance, ...]) -> str:
  """Returns `motivation` with what people asked for."""
  lines = [f"Asked for by {w.by} ({w.id}): {w.text}" for w in guidance]
  return "\n".join([motivation, *lines])
