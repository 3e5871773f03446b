"""Every record kind, its fields and its key: the one place they are defined.

A record is immutable. Its key is deterministic, so two writers that make the
same thing collide instead of doubling it. Times are unix seconds of the
writer's clock: for people to read, never to order or to expire anything.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any, ClassVar

SCHEMA_VERSION = 1

# Statuses of a Result. Only `ok` carries a score.
OK = "ok"
REJECTED = "rejected"  # a gate said no
FAILED = "failed"  # the Program raised or printed garbage
TIMEOUT = "timeout"  # the deadline killed it
STOPPED = "stopped"  # behind the baseline, its training ended early
LOST = "lost"  # the machine killed it (memory, signal): asked for again
STATUSES = (OK, REJECTED, FAILED, TIMEOUT, STOPPED, LOST)

# Purposes of a Task.
SEARCH = "search"
PAIR = "pair"  # a missing seed for a paired comparison
VERIFY = "verify"  # fresh seeds, held-out data
REPEAT = "repeat"  # a measurement once more, to be compared bit for bit
PURPOSES = (SEARCH, PAIR, VERIFY, REPEAT)
UNSEEN = (VERIFY, REPEAT)  # whose Results must not reach the search

# Verdicts of a Claim.
CLAIMED = "claimed"
NOT_CLAIMED = "not claimed"

# Operators of Proposals that are no rounds of their own.
REPAIR = "repair"
IMPORT = "import"


def digest(*parts: Any) -> str:
  """Returns 32 hex digits that name `parts` (JSON values), in order."""
  text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """Base of all kinds; `id` is unique within the kind."""

  kind: ClassVar[str] = ""
  created_at: float = 0.0  # unix seconds; 0 lets the store fill it in

  @property
  def id(self) -> str:
    raise NotImplementedError

  @property
  def key(self) -> str:
    """The record's key in the store, `<kind>/<id>`."""
    return f"{self.kind}/{self.id}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Record):
  """One research run; a store holds exactly one."""

  kind: ClassVar[str] = "run"
  name: str
  track: str
  config: dict[str, Any]
  commit: str
  machine: dict[str, Any]  # cpu, cores, memory, platform
  versions: dict[str, str]  # package -> version
  manifest: dict[str, Any]  # corpus manifest or {}

  @property
  def id(self) -> str:
    return "run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Record):
  """The candidate: source of one Python module that meets its contract."""

  kind: ClassVar[str] = "program"
  hash: str  # programs.source.program_id(source)
  track: str
  source: str

  @property
  def id(self) -> str:
    return self.hash


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact(Record):
  """What a Program becomes for given shapes; its bytes are a blob."""

  kind: ClassVar[str] = "artifact"
  hash: str  # of the computation, not of the bytes
  program: str  # the first Program that traced to it
  track: str
  platform: str  # cpu, tpu, cuda
  shape_key: str  # what the track says it was traced at
  blob: str  # id for get_bytes
  report: dict[str, Any]  # parameters, FLOPs, state size: track's own

  @property
  def id(self) -> str:
    return self.hash


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal(Record):
  """A Program, why it was written, and what its author knew."""

  kind: ClassVar[str] = "proposal"
  program: str
  track: str
  name: str  # short, for tables: "deltanet", "gdn+vector-decay"
  author: str  # "baseline", "symbolic", "random", "llm:<model>"
  round: int  # 0 for baselines, then 1, 2, ...
  # "baseline"; "sample", "mutate", "crossover" of genomes; "write" (whole),
  # "edit" of sources by a model; "repair" (of its parent, which
  # a gate rejected; it belongs to that one's round), "import" (round 0).
  operator: str
  motivation: str
  parents: tuple[str, ...] = ()  # Program ids; the first was edited
  references: tuple[str, ...] = ()  # Program ids looked at, not edited
  genome: dict[str, Any] | None = None
  changes: tuple[dict[str, Any], ...] = ()  # {"gene", "old", "new", "why"}
  knowledge: tuple[str, ...] = ()  # cognition item and Insight ids
  seen: str = ""  # log position its author had seen
  cost: dict[str, float] = dataclasses.field(default_factory=dict)
  # How its author was chosen among several: {"proposer", "model", ...}, with
  # what spoke for each; or whom it stands in for, and why.
  choice: dict[str, Any] = dataclasses.field(default_factory=dict)
  island: int = 0  # where it lives, if there are several (search/islands.py)
  # Of an import: the run it comes from and what that measured, for people.
  origin: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def id(self) -> str:
    if self.operator == REPAIR:
      # One a rejected Program, whoever writes it: a second one collides.
      return f"{self.round:06d}-repair-{self.parents[0][:12]}"
    return f"{self.round:06d}-{self.program[:12]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Record):
  """Program x rung x seeds x purpose: the unit of work that is leased."""

  kind: ClassVar[str] = "task"
  program: str
  rung: str
  seeds: tuple[int, ...]
  purpose: str = SEARCH
  attempt: int = 0
  priority: int = 0  # larger first; baselines and pairs go ahead
  requested_by: str = ""  # a field, not part of the id

  @functools.cached_property
  def id(self) -> str:
    return digest(
      self.program, self.rung, list(self.seeds), self.purpose, self.attempt
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(Record):
  """What a Task measured. A failure is a status, never a score."""

  kind: ClassVar[str] = "result"
  task: str
  program: str
  rung: str
  seeds: tuple[int, ...]
  purpose: str
  status: str
  attempt: int = 0
  # One dict a seed, in the order of `seeds`; empty unless status is ok.
  metrics: tuple[dict[str, float], ...] = ()
  gate: str = ""  # the gate that rejected
  error: str = ""  # last useful lines; what to change
  # The end of what each stage printed, by its name; a candidate's own words.
  printed: dict[str, str] = dataclasses.field(default_factory=dict)
  artifact: str = ""
  copied_from: str = ""  # task whose equal Artifact was measured already
  report: dict[str, Any] = dataclasses.field(default_factory=dict)
  curves: str = ""  # name for get_array, "" if none
  # wall_seconds, cpu_seconds, peak_memory_bytes, flops, ...
  cost: dict[str, float] = dataclasses.field(default_factory=dict)
  worker: str = ""
  machine: str = ""  # evaluation.machine.kind of the worker

  @property
  def id(self) -> str:
    return self.task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis(Record):
  """The lesson of Results: text plus structured effects."""

  kind: ClassVar[str] = "analysis"
  program: str
  results: tuple[str, ...]  # task ids it read
  text: str
  # {"parent", "rung", "effect", "low", "high", "seeds", "basis", "better"};
  # low, high and better are None where nothing can be said.
  comparisons: tuple[dict[str, Any], ...] = ()
  # {"feature", "effect", "low", "high", "n", "rung"}; effect > 0 means better
  # than the mean over the gene's values, all else equal.
  effects: tuple[dict[str, Any], ...] = ()
  lessons: tuple[str, ...] = ()
  # What a language model made of it; {}: none was asked. {"author", "status"},
  # then "why" there is none, or "changed", "effects" ({"fact", "of", "effect",
  # "low", "high"}), "cause", "next", "lessons" and "misquotes": numbers in it
  # that were not measured.
  report: dict[str, Any] = dataclasses.field(default_factory=dict)
  # A judge's marks for the Program; {}: none was asked, or it had some before.
  # {"author", "status", "why"} and, where there are any, "novelty",
  # "complexity", "efficiency" (0-10, 10 is best) and "score", their mean in
  # [0, 1].
  judged: dict[str, Any] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def id(self) -> str:
    return digest(self.program, sorted(self.results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Insight(Record):
  """A lesson that joined the Cognition Base, with its evidence."""

  kind: ClassVar[str] = "insight"
  slug: str  # what it is about; a later version has a larger `version`
  version: int
  title: str
  text: str
  suggests: tuple[str, ...] = ()  # "gene=value"
  warns: tuple[str, ...] = ()
  effect: float = 0.0  # > 0 better, in units of the track's metric
  low: float = 0.0
  high: float = 0.0
  evidence: tuple[str, ...] = ()  # Analysis ids
  # What retrieval multiplies its score with: halved each time that later
  # evidence contradicted it, doubled when it held again, 1 at most.
  weight: float = 1.0

  @property
  def id(self) -> str:
    return f"{self.slug}.{self.version}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim(Record):
  """Whether a Program beats a baseline on fresh seeds, and the evidence.

  Gains are positive where the Program is better. A figure is None where too
  little was measured to have it. A later verify of the same run enlarges the
  family; then every Claim is written again, and the one that rests on most
  stands.
  """

  kind: ClassVar[str] = "claim"
  program: str
  baseline: str  # Program id; equal to `program` in a control (A/A)
  verdict: str  # CLAIMED or NOT_CLAIMED
  why: str  # the verdict's reason, one sentence
  asked_by: str  # name of the Milestone that asked for the measurements
  rung: str
  metric: str  # the track's final metric
  direction: str  # "minimize" or "maximize"
  seeds: tuple[int, ...]  # of the Program, in the order of the pairs
  baseline_seeds: tuple[int, ...]  # the same seeds, but for a control
  effect: float | None = None  # mean gain over the pairs
  low: float | None = None  # 95 % t interval of the mean gain
  high: float | None = None
  p: float = 1.0  # two-sided, paired t test; 1 where nothing was measured
  p_signs: float = 1.0  # two-sided sign-flip test, which assumes less
  p_corrected: float = 1.0
  correction: str = "holm"
  family: int = 1  # comparisons corrected for, failed ones included
  measured: int = 0  # Results that the family rests on
  entered: int = 0  # Programs that entered verify
  proposed: int = 0  # Programs ever proposed, baselines aside
  # Each metric of the final Results, not corrected: {"metric", "direction",
  # "unit", "effect", "low", "high", "seeds", "verdict": "held" (the interval
  # lies above 0), "failed" (below) or "undecided"}.
  held: tuple[dict[str, Any], ...] = ()
  # What measuring took, all seeds: tokens, flops, core_seconds.
  budget: dict[str, float] = dataclasses.field(default_factory=dict)
  baseline_budget: dict[str, float] = dataclasses.field(default_factory=dict)
  results: tuple[str, ...] = ()  # task ids of the Program's evidence
  baseline_results: tuple[str, ...] = ()
  commands: tuple[str, ...] = ()  # that repeat it
  commit: str = ""
  machines: tuple[str, ...] = ()  # kinds of machine that measured

  @functools.cached_property
  def id(self) -> str:
    return digest(
      self.program,
      self.baseline,
      self.asked_by,
      self.rung,
      list(self.seeds),
      list(self.baseline_seeds),
      self.family,
      self.measured,
    )

  @property
  def control(self) -> bool:
    """Whether a Program is compared with itself, to test the pipeline."""
    return self.program == self.baseline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call(Record):
  """One call of a language model, whole, keys blanked."""

  kind: ClassVar[str] = "call"
  nonce: str  # a digest of what was asked, and for the how manyth time
  role: str
  model: str
  prompt: str
  reply: str
  status: str  # one of llm.port.STATUSES
  usage: dict[str, float]  # "tokens" and "money" count against budgets
  seconds: float
  error: str = ""
  purpose: str = ""  # "propose", "edit", "mend", "judge", "analyze", ...
  about: str = ""  # "round 12", "repair of <program>", "analysis <id>"

  @property
  def id(self) -> str:
    return self.nonce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Milestone(Record):
  """A point that a run passes once, or once a session.

  Names in use: `session/<nonce>` (a supervisor started), `seeded` (Programs of
  another run came in), `no-repair/<program>` (the proposer has none),
  `search-ended`, `verify-asked` (finalists chosen after the search),
  `verify-asked/<digest>` (a person asked for another verify), `finished`.
  """

  kind: ClassVar[str] = "milestone"
  name: str
  by: str
  detail: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def id(self) -> str:
    return self.name.replace("/", "-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steer(Record):
  """A person's word to a running run; see records/steering.py.

  Words are numbered, so that their order hangs on no clock: two people who
  speak at once collide, and the second takes the next number.
  """

  kind: ClassVar[str] = "steer"
  number: int  # 1, 2, ...
  verb: str
  by: str
  arguments: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def id(self) -> str:
    return f"{self.number:06d}"


KINDS: dict[str, type[Record]] = {
  cls.kind: cls
  for cls in (
    Run,
    Program,
    Artifact,
    Proposal,
    Task,
    Result,
    Analysis,
    Insight,
    Claim,
    Call,
    Milestone,
    Steer,
  )
}
