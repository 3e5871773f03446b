"""A View: what the records say, in memory, kept up to date record by record.

Nothing here is stored as truth: two Views of the same records are equal,
whatever the order in which these arrived.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.ordered import Ranking
from asi_evolve_jax.records.sessions import Sessions
from asi_evolve_jax.records.spending import Spending
from asi_evolve_jax.records.steering import Steering

BASELINE = "baseline"  # author of Proposals that are no rounds
_SEARCH_ENDED = "search-ended"
_NO_REPAIR = "no-repair/"
LEAST_DIGITS = 4  # of an id that say which Program is meant


class View:
  """Records by what they are about.

  Attributes:
    run: the Run, or None.
    programs: Program id -> Program.
    proposals: Proposal id -> Proposal.
    proposal_of: Program id -> its first Proposal (lowest id).
    tasks: Task id -> Task.
    results: Task id -> Result.
    results_of: Program id -> its Results, in order of arrival.
    analyses_of: Program id -> its Analyses, in order of arrival.
    insights: slug -> latest Insight.
    milestones: name -> Milestone.
    claims: Claim id -> Claim, those that no longer stand included.
    artifacts: (Program id, shape key) -> Artifact.
    artifact_users: Artifact id -> Program ids that traced to it.
    visits: Program id -> number of Proposals that cite it as a parent.
    baselines: Program id -> name.
    steering: what people have said.
    vetoed: ids of the Programs that people want no more of.
    spending: what has been spent, and what a seed costs at each rung.
  """

  def __init__(
    self, metric_name: str, direction: str, rungs: Sequence[str] = ()
  ):
    """
    Args:
      metric_name: the track's metric, a key of Result.metrics.
      direction: "minimize" or "maximize".
      rungs: names, lowest first; by default the ladder in the Run's config.
    """
    if direction not in ("minimize", "maximize"):
      raise ValueError(f"direction must be minimize or maximize: {direction}")
    self._metric = metric_name
    self._sign = 1.0 if direction == "minimize" else -1.0
    self._rungs = list(rungs)
    self.run: schema.Run | None = None
    self.programs: dict[str, schema.Program] = {}
    self.proposals: dict[str, schema.Proposal] = {}
    self.proposal_of: dict[str, schema.Proposal] = {}
    self.tasks: dict[str, schema.Task] = {}
    self.results: dict[str, schema.Result] = {}
    self.results_of: dict[str, list[schema.Result]] = {}
    self.analyses_of: dict[str, list[schema.Analysis]] = {}
    self.insights: dict[str, schema.Insight] = {}
    self.milestones: dict[str, schema.Milestone] = {}
    self.claims: dict[str, schema.Claim] = {}
    self.artifacts: dict[tuple[str, str], schema.Artifact] = {}
    self.artifact_users: dict[str, set[str]] = {}
    self.visits: collections.Counter[str] = collections.Counter()
    self.baselines: dict[str, str] = {}
    self.steering = Steering()
    self.vetoed: set[str] = set()
    self.spending = Spending()
    self._steers: dict[int, schema.Steer] = {}
    self._calls: set[str] = set()
    self._rejected: dict[str, schema.Result] = {}
    self._mended: set[str] = set()
    self._by_hash: dict[str, schema.Artifact] = {}
    self._analyses: set[str] = set()
    self._insights: set[str] = set()
    self._pending = Ranking()  # Task ids
    self._arrived = 0
    self._next_attempts: set[tuple] = set()
    self._rounds_of: collections.Counter[str] = collections.Counter()
    self._finished: set[str] = set()
    self._rounds = 0
    self._proposed = 0
    self._ranked: dict[str, Ranking] = {}  # rung -> Program ids
    self._sessions = Sessions()

  def update(self, records: Iterable[schema.Record]) -> None:
    """Takes in records of any kind, in any order; doubles are ignored."""
    for record in records:
      take = getattr(self, f"_take_{record.kind}", None)
      if take is None or take(record) is not False:
        self._sessions.add(record)

  # One method a kind; False: it was known.

  def _take_run(self, run: schema.Run) -> bool | None:
    if self.run is not None:
      return False
    self.run = run
    if not self._rungs:
      ladder = run.config.get("ladder")
      if isinstance(ladder, list):
        self._rungs = [r["name"] for r in ladder if "name" in r]
    return None

  def _take_program(self, program: schema.Program) -> bool | None:
    if program.hash in self.programs:
      return False
    self.programs[program.hash] = program
    return None

  def _take_proposal(self, proposal: schema.Proposal) -> bool | None:
    if proposal.id in self.proposals:
      return False
    self.proposals[proposal.id] = proposal
    first = self.proposal_of.get(proposal.program)
    if first is None or proposal.id < first.id:
      self.proposal_of[proposal.program] = proposal
    self.visits.update(set(proposal.parents))
    if proposal.author == BASELINE:
      self.baselines[proposal.program] = proposal.name
    if proposal.operator == schema.REPAIR:
      self._mend(proposal.parents[0])
    if self.steering.lines and not self.vetoed.isdisjoint(proposal.parents):
      self._count_vetoes()
    if is_round(proposal):
      self._proposed += 1
      self._rounds_of[proposal.program] += 1
      self._rounds += proposal.program in self._finished
    return None

  def _take_task(self, task: schema.Task) -> bool | None:
    if task.id in self.tasks:
      return False
    self.tasks[task.id] = task
    self._arrived += 1
    if task.attempt:
      self._next_attempts.add(_attempt(task, task.attempt))
      self._settle(task.program)
    if task.id not in self.results:
      self._pending.put(task.id, (-task.priority, self._arrived))
    return None

  def _take_result(self, result: schema.Result) -> bool | None:
    if result.task in self.results:
      return False
    self.results[result.task] = result
    self.results_of.setdefault(result.program, []).append(result)
    self._pending.discard(result.task)
    if result.artifact:
      self._use(result.artifact, result.program)
    self._settle(result.program)
    self.spending.add_result(result)
    if (
      result.status == schema.REJECTED
      and result.purpose == schema.SEARCH
      and result.program not in self._mended
    ):
      self._rejected.setdefault(result.program, result)
    if result.status == schema.OK and result.purpose not in schema.UNSEEN:
      self._rank(result.program, result.rung)
    return None

  def _take_analysis(self, analysis: schema.Analysis) -> bool | None:
    if analysis.id in self._analyses:
      return False
    self._analyses.add(analysis.id)
    self.analyses_of.setdefault(analysis.program, []).append(analysis)
    return None

  def _take_insight(self, insight: schema.Insight) -> bool | None:
    if insight.id in self._insights:
      return False
    self._insights.add(insight.id)
    latest = self.insights.get(insight.slug)
    if latest is None or latest.version < insight.version:
      self.insights[insight.slug] = insight
    return None

  def _take_claim(self, claim: schema.Claim) -> bool | None:
    if claim.id in self.claims:
      return False
    self.claims[claim.id] = claim
    return None

  def _take_milestone(self, milestone: schema.Milestone) -> bool | None:
    if milestone.name in self.milestones:
      return False
    self.milestones[milestone.name] = milestone
    if milestone.name.startswith(_NO_REPAIR):
      self._mend(milestone.name.removeprefix(_NO_REPAIR))
    return None

  def _take_call(self, call: schema.Call) -> bool | None:
    if call.id in self._calls:
      return False
    self._calls.add(call.id)
    self.spending.add_call(call)
    return None

  def _take_steer(self, steer: schema.Steer) -> bool | None:
    if steer.number in self._steers:
      return False
    self._steers[steer.number] = steer
    self.steering = Steering(self._steers.values())
    self._count_vetoes()
    return None

  def _count_vetoes(self) -> None:
    """Finds anew who is vetoed: those named, and who descends from a line."""
    before = self.vetoed
    lines = set(self.steering.lines)
    found = -1
    while lines and found != len(lines):
      # Mostly twice: parents have earlier ids than their children.
      found = len(lines)
      for _, proposal in sorted(self.proposals.items()):
        if not lines.isdisjoint(proposal.parents):
          lines.add(proposal.program)
    self.vetoed = lines | set(self.steering.vetoes)
    for program in before ^ self.vetoed:
      self._settle(program)

  def _mend(self, program: str) -> None:
    self._mended.add(program)
    self._rejected.pop(program, None)

  def _take_artifact(self, artifact: schema.Artifact) -> bool | None:
    if artifact.hash in self._by_hash:
      return False
    self._by_hash[artifact.hash] = artifact
    for program in {
      artifact.program,
      *self.artifact_users.get(artifact.hash, ()),
    }:
      self._use(artifact.hash, program)
    return None

  def _use(self, artifact_id: str, program: str) -> None:
    self.artifact_users.setdefault(artifact_id, set()).add(program)
    artifact = self._by_hash.get(artifact_id)
    if artifact is not None:
      self.artifacts[program, artifact.shape_key] = artifact

  def _settle(self, program: str) -> None:
    """Counts the rounds of `program` once a search Task of it has ended."""
    ended = program in self.vetoed or any(
      r.purpose == schema.SEARCH
      and not (
        r.status == schema.LOST
        and _attempt(r, r.attempt + 1) in self._next_attempts
      )
      for r in self.results_of.get(program, ())
    )
    if ended == (program in self._finished):
      return
    rounds = self._rounds_of[program]
    if ended:
      self._finished.add(program)
      self._rounds += rounds
    else:
      self._finished.discard(program)
      self._rounds -= rounds

  def _rank(self, program: str, rung: str) -> None:
    score = self.score(program, rung)
    if score is not None:
      ranking = self._ranked.setdefault(rung, Ranking())
      ranking.put(program, self._sign * score)

  # Questions.

  def name_of(self, program: str) -> str:
    """Returns a Program's name, or how its id begins where it has none."""
    proposal = self.proposal_of.get(program)
    return proposal.name if proposal is not None else program[:12]

  def meant(self, text: str) -> list[str]:
    """Returns the Programs that a person may mean: one, if all is well.

    Args:
      text: an id, its first digits (4 or more), or a name.
    """
    if text in self.proposal_of:
      return [text]
    return [
      program
      for program, proposal in self.proposal_of.items()
      if proposal.name == text
      or (len(text) >= LEAST_DIGITS and program.startswith(text))
    ]

  def baseline(self, name: str) -> str | None:
    """Returns the Program id of the baseline `name`, if it is proposed."""
    known = (p for p, called in self.baselines.items() if called == name)
    return next(known, None)

  def last_attempt(self, task: schema.Task) -> schema.Task:
    """Returns the latest attempt at a Task that was asked for."""
    while True:
      again = dataclasses.replace(task, attempt=task.attempt + 1)
      if again.id not in self.tasks:
        return task
      task = again

  def pending(self) -> list[schema.Task]:
    """Returns the Tasks without a Result: highest priority, then oldest.

    Those of vetoed Programs are left out: nobody is to do them.
    """
    tasks = (self.tasks[task] for task in self._pending)
    return [task for task in tasks if task.program not in self.vetoed]

  def unrepaired(self) -> list[schema.Result]:
    """Returns the rejections that the proposer has not answered yet.

    One a Program that a gate rejected in the search; not those of baselines,
    imports, repairs and vetoed Programs, nor those that the proposer gave up.
    """
    found = []
    for program, result in self._rejected.items():
      proposal = self.proposal_of.get(program)
      if program not in self.vetoed and proposal and is_round(proposal):
        found.append(result)
    return found

  def measurements(
    self,
    program: str,
    rung: str,
    purpose: str | None = None,
    metric: str | None = None,
  ) -> dict[int, float]:
    """Returns seed -> metric, mean over repeats, of ok Results.

    Args:
      program: Program id.
      rung: name of the rung.
      purpose: of the Tasks; None: those of the search (not verify, whose data
        it must not see, nor repeats, which check and do not measure anew).
      metric: by default the one that ranks.
    """
    name = metric or self._metric
    found: dict[int, list[float]] = {}
    for result in self.results_of.get(program, ()):
      if result.status != schema.OK or result.rung != rung:
        continue
      if (
        result.purpose in schema.UNSEEN
        if purpose is None
        else result.purpose != purpose
      ):
        continue
      for seed, metrics in zip(result.seeds, result.metrics, strict=False):
        value = metrics.get(name)
        if value is not None and math.isfinite(value):
          found.setdefault(seed, []).append(value)
    return {seed: math.fsum(v) / len(v) for seed, v in sorted(found.items())}

  def seed_scores(
    self, program: str, rung: str, purpose: str | None = None
  ) -> list[float]:
    """Returns the scores of `measurements`, in the order of their seeds."""
    return list(self.measurements(program, rung, purpose).values())

  def score(
    self, program: str, rung: str | None = None, purpose: str | None = None
  ) -> float | None:
    """Returns the mean over seeds of the metric; None if there is none.

    Args:
      program: Program id.
      rung: name of the rung; None: the highest where it has a score.
      purpose: as in `measurements`.
    """
    rungs = [rung] if rung is not None else self._reached(program)
    for name in rungs:
      values = self.seed_scores(program, name, purpose)
      if values:
        return math.fsum(values) / len(values)
    return None

  def ranked(self, rung: str, k: int | None = None) -> list[str]:
    """Returns the `k` best Program ids at `rung`, best first; None: all.

    Vetoed Programs are left out.
    """
    found = (p for p in self._ranked.get(rung, ()) if p not in self.vetoed)
    return list(itertools.islice(found, k))

  def best(self, rung: str) -> str | None:
    """Returns the best Program id at `rung`, or None."""
    return next(iter(self.ranked(rung, 1)), None)

  def standing_claims(self) -> list[schema.Claim]:
    """Returns the last word on each comparison, controls behind the others.

    Of Claims on the same comparison the one that rests on most stands.
    """
    standing: dict[tuple, schema.Claim] = {}
    for claim in self.claims.values():
      key = (claim.asked_by, claim.program, claim.baseline, claim.seeds)
      if key not in standing or _rests_on(standing[key]) < _rests_on(claim):
        standing[key] = claim
    return sorted(
      standing.values(),
      key=lambda c: (c.control, c.asked_by, c.p, c.program, c.baseline),
    )

  def rounds(self) -> int:
    """Returns how many rounds have ended.

    A round is a Proposal that is no baseline, import or repair. It ends when a
    search Task of its Program has a Result, unless that is "lost" and the next
    attempt is asked for, or when the Program is vetoed.
    """
    return self._rounds

  def proposed(self) -> int:
    """Returns the number of rounds that have begun; see `rounds`."""
    return self._proposed

  def elapsed(
    self, now: float | None = None, *, until: str = _SEARCH_ENDED
  ) -> float:
    """Returns seconds of search, over all sessions, without pauses.

    A session lasts from its milestone to the last record before the next one
    (or before the search ended), by the times that their writers gave them.

    Args:
      now: unix time; the last session lasts until then. None: as above.
      until: name of the milestone that ends the count, once it is there;
        "finished" for the whole run.
    """
    end = math.inf if now is None else now
    if until in self.milestones:
      end = self.milestones[until].created_at
    return self._sessions.elapsed(self.steering, end, lasting=now is not None)

  def _reached(self, program: str) -> list[str]:
    """Returns the rungs of `program`'s Results, highest first."""
    seen = {r.rung: None for r in self.results_of.get(program, ())}
    place = {name: i for i, name in enumerate(self._rungs)}
    # Rungs outside the ladder (verify's) come last, whatever they measure.
    return sorted(seen, key=lambda r: (-place.get(r, -1), r))


def is_round(proposal: schema.Proposal) -> bool:
  """Whether it counts as a round: baselines, imports and repairs do not."""
  return proposal.author != BASELINE and proposal.operator not in (
    schema.REPAIR,
    schema.IMPORT,
  )


def _rests_on(claim: schema.Claim) -> tuple[int, int]:
  return claim.family, claim.measured


def _attempt(task: schema.Task | schema.Result, attempt: int) -> tuple:
  return task.program, task.rung, task.seeds, task.purpose, attempt
