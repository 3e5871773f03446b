"""The Researcher: samples parents, retrieves knowledge, proposes Programs."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import time
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation.budget import Budget, rounds
from asi_evolve_jax.evaluation.limits import secret_values
from asi_evolve_jax.llm import connect
from asi_evolve_jax.llm.port import Credit
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Guidance,
)
from asi_evolve_jax.proposers.registry import announce, make_team
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
from asi_evolve_jax.records.views import BASELINE
from asi_evolve_jax.roles import library, repair, seeding
from asi_evolve_jax.roles.calls import CallBook
from asi_evolve_jax.roles.contexts import Contexts
from asi_evolve_jax.roles.credit import credits
from asi_evolve_jax.roles.embedding import make_embedder
from asi_evolve_jax.roles.repair import Rejections
from asi_evolve_jax.search.fitness import sampled
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track, rung_work

log = logging.getLogger(__name__)

BASELINE_PRIORITY = 100
# With fewer scored Programs at a rung there is nothing to choose from there.
_LEAST_SCORED = 3


@dataclasses.dataclass(frozen=True)
class _Turn:
  """Whose turn a round is, what spoke for that, and what it starts from.

  Attributes:
    island: where the Program is to live.
  """

  name: str
  choice: dict[str, Any]
  context: Context
  island: int


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
    self._work = rung_work(track, settings)
    self._cursor = None
    book = CallBook(records, self.view, settings)
    model = connect.connect(settings, connect.RESEARCHER, book, secret_values())
    self._team = make_team(settings, model)
    log.info("%s", announce(settings) or f"{self._team.name} proposes")
    self._embed = make_embedder(settings, book, secret_values())
    index = library.make_index(records, settings, track, items_dir, self._embed)
    vectors = self._embed and library.vectors(records, self._embed)
    self._contexts = Contexts(self.view, settings, track, index, vectors)
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
    """Ends what makes vectors."""
    if self._embed is not None:
      self._embed.close()

  def _learn(self, news: list[Record]) -> None:
    if not self._settings.researcher.analyses:
      # Insights are made of Analyses, all of them.
      news = [r for r in news if not isinstance(r, Analysis | Insight)]
    self.view.update(news)
    for record in news:
      if isinstance(record, Result):
        self._rejections.observe(record)
      elif isinstance(record, Task):
        self._lacking.pop(record.program, None)
      elif isinstance(record, Proposal) and record.operator == REPAIR:
        if not self._has_task(record.program):
          self._lacking[record.program] = record
      else:
        self._contexts.learn(record)

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
        author=BASELINE,
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
    """Brings in the Programs of `seed_from`, once."""
    if "seeded" in self.view.milestones:
      return False
    found = seeding.imports(self._settings, self._track)
    if not found:
      return False
    records: list[Record] = []
    for program, proposal in found:
      task = self._first_task(program.hash, self.name, seeding.PRIORITY)
      records += [program, proposal, task]
    self._commit([*records, Milestone(name="seeded", by=self.name)])
    return True

  def _budget(self) -> Budget:
    return Budget(self.view, self._settings, time.time(), self._work)

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
    wanted = self._budget().rounds_left(wanted)
    if self._team.waits:
      return self._propose_together(rung, proposed + 1, wanted)
    records: list[Record] = []
    written: set[str] = set()
    for number in range(proposed + 1, proposed + 1 + wanted):
      turn = self._turn(rung, number, written, {})
      draft = self._ask(turn)
      if draft is None:
        break
      drafted = self._drafted(turn, draft, number)
      written.add(drafted[0].id)
      records += drafted
      # The next parent of this batch is chosen knowing about this one.
      self.view.update(drafted)
    if records:
      self._commit(records)
    return bool(records)

  def _propose_together(self, rung: str, first: int, wanted: int) -> bool:
    """Asks for several Proposals at once, where an answer takes its time."""
    turns: list[_Turn] = []
    written: set[str] = set()
    earned = self._credits()
    for number in range(
      first, first + min(wanted, self._settings.models.parallel)
    ):
      turn = self._turn(rung, number, written, earned)
      turns.append(turn)
      # Its turn counts as a Proposal for those that are taken beside it.
      author = self._team.author(turn.name, turn.context)
      mine = earned.get(author, Credit())
      more = dataclasses.replace(mine, proposals=mine.proposals + 1)
      earned = {**earned, author: more}
      # As its Proposal will: the next one takes another parent.
      self.view.visits[turn.context.parent.program] += 1
    with futures.ThreadPoolExecutor(max(1, len(turns))) as pool:
      drafts = list(pool.map(self._ask, turns))
    for turn in turns:
      self.view.visits[turn.context.parent.program] -= 1
    records: list[Record] = []
    for turn, draft in zip(turns, drafts, strict=True):
      if draft is not None and program_id(draft.source) in written:
        draft = self._instead(turn, draft)
      if draft is None:
        continue
      drafted = self._drafted(turn, draft, first + len(written))
      written.add(drafted[0].id)
      records += drafted
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
      if not self._budget().rounds_left(1):
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
    parent = self._contexts.known(result.program, result.rung)
    name = self._team.mender(rejected.author, parent.genome is not None)
    context = self._contexts.make(
      parent,
      (),
      rng,
      about=f"repair of {result.program[:12]}",
      query=query,
      credits=self._credits() if self._team.waits else {},
      reads=self._team.reads(name),
    )
    try:
      draft = self._team.repair(name, context, rejection)
    except Exhausted as error:
      log.warning("no repair of %s: %s", rejected.name, error)
      name = f"no-repair/{result.program}"
      self._commit([Milestone(name=name, by=self.name)])
      return
    program, proposal = self._records_of(
      draft, context, rejected.round, rejected.island
    )
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

  def _turn(
    self,
    rung: str,
    round_number: int,
    written: set[str],
    earned: Mapping[str, Credit],
  ) -> _Turn:
    """Returns whose turn a round is, and with what.

    Args:
      rung: where parents are chosen.
      round_number: its number.
      written: ids of Programs of this batch.
      earned: author -> credit, for choices among them.
    """
    # One generator a round: a restart does not change what follows.
    rng = random.Random(f"{self._settings.seed}/{round_number}")
    name, choice = self._team.pick(earned)
    pinned = self._contexts.pinned()
    if pinned and not self._contexts.has_genome(pinned):
      name, choice = self._team.mender("", has_genome=False), {}
    reads = self._team.reads(name)
    sampler = make_sampler(self._settings.sampler, rng, self._track.axes())
    sample = sampler.sample(
      sampled(self.view, self._settings),
      rung,
      can_edit=lambda p: reads or self._contexts.has_genome(p),
      round_number=round_number,
    )
    context = self._contexts.make(
      self._contexts.known(pinned or sample.parent, rung),
      tuple(
        self._contexts.known(r, rung) for r in sample.references if r != pinned
      ),
      rng,
      about=f"round {round_number}",
      written=written,
      round_number=round_number,
      credits=earned,
      reads=reads,
    )
    if pinned:
      # A sample of the whole space would not come from the pinned parent.
      context = dataclasses.replace(
        context, settings=dataclasses.replace(context.settings, fresh=0.0)
      )
    context = self._team.assigned(name, context)
    return _Turn(name, choice, context, sample.island)

  def _credits(self) -> dict[str, Credit]:
    return credits(self.view, self._settings.ladder, self._track.metric)

  def _ask(self, turn: _Turn) -> Draft | None:
    try:
      return self._team.propose(turn.name, turn.context, turn.choice)
    except Exhausted as error:
      log.warning("round %d: %s", turn.context.round, error)
      return None

  def _instead(self, turn: _Turn, doubled: Draft) -> Draft | None:
    """Returns another Draft for a turn that doubled one of its batch.

    Left out, the turn and its cost would be in no record that a bandit sees.
    """
    try:
      return self._team.instead(turn.name, turn.context, doubled)
    except Exhausted as error:
      log.warning("round %d: %s", turn.context.round, error)
      return None

  def _drafted(
    self, turn: _Turn, draft: Draft, round_number: int
  ) -> list[Record]:
    program, proposal = self._records_of(
      draft, turn.context, round_number, turn.island
    )
    log.info("round %d: %s (%s)", round_number, draft.name, draft.operator)
    return [program, proposal, self._first_task(program.hash, self.name, 0)]

  def _records_of(
    self, draft: Draft, context: Context, round_number: int, island: int
  ) -> tuple[Program, Proposal]:
    program = program_id(draft.source)
    track = self._settings.track
    proposal = Proposal(
      program=program,
      track=track,
      name=draft.name,
      author=draft.author,
      round=round_number if draft.round is None else draft.round,
      operator=draft.operator,
      motivation=_with_words(draft.motivation, context.guidance),
      parents=draft.parents,
      references=tuple(known.program for known in context.references)
      if draft.references is None
      else draft.references,
      genome=draft.genome,
      changes=draft.changes,
      knowledge=(*draft.knowledge, *(word.id for word in context.guidance)),
      seen=self._cursor.position if self._cursor else "",
      cost=draft.cost,
      choice=draft.choice,
      island=island if draft.island is None else draft.island,
    )
    return Program(hash=program, track=track, source=draft.source), proposal

  def _commit(self, records: list[Record]) -> None:
    self._records.put(*records)
    # Its own writes come back by the log as well; seeing them now keeps a
    # fast loop from proposing the same round twice.
    self.view.update(records)


def _with_words(motivation: str, guidance: tuple[Guidance, ...]) -> str:
  """Returns `motivation` with what people asked for."""
  lines = [f"Asked for by {w.by} ({w.id}): {w.text}" for w in guidance]
  return "\n".join([motivation, *lines])
