"""Settings: frozen, validated dataclasses made once from a config file.

A config file is plain `ml_collections` (configs/*.py). `from_config` turns it
into these classes and refuses unknown keys and wrong types with the remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
  """A config that cannot be used; the message names key and remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IslandSettings:
  """Islands with MAP-Elites (search/islands.py); the paper's figures noted."""

  count: int = 5  # paper: 5
  every: int = 10  # rounds of an island between migrations; paper: 10
  migrants: int = 1  # of an island's best that settle on both neighbours
  archive: int = 500  # best Programs of a rung that are kept on islands
  # Shares of parents: drawn evenly from the grid, and the island's best.
  explore: float = 0.2  # paper: 0.2
  exploit: float = 0.3  # paper: 0.3

  def __post_init__(self) -> None:
    if min(self.count, self.every, self.archive) < 1 or self.migrants < 0:
      raise SettingsError(
        "config.sampler.islands needs count, every and archive of at least 1 "
        f"and migrants of at least 0; got {self.count}, {self.every}, "
        f"{self.archive} and {self.migrants}."
      )
    shares = (self.explore, self.exploit)
    if min(shares) < 0 or sum(shares) > 1:
      raise SettingsError(
        "config.sampler.islands: explore and exploit are shares of the "
        f"parents, together 1 at most; got {self.explore} and {self.exploit}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerSettings:
  """How parents and references are chosen (search/samplers.py)."""

  name: str = "ucb1"  # ucb1, greedy, random, islands
  exploration: float = 1.414  # c of UCB1
  pool: int = 50  # best Programs that may be sampled; paper: 50
  parent_ranks: tuple[int, int] = (1, 10)  # 1-based, inclusive; paper: 1-10
  reference_ranks: tuple[int, int] = (11, 50)  # paper: 11-50
  references: int = 4
  islands: IslandSettings = IslandSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResearcherSettings:
  # symbolic, random; llm; mixed: both, a bandit decides who is next; auto:
  # mixed where a model can be called, else symbolic.
  proposer: str = "symbolic"
  queue: int = 2  # Tasks kept waiting a worker
  batch: int = 4  # most Proposals written in one commit
  knowledge: int = 4  # items retrieved a Proposal; 0 switches cognition off
  # Whether it sees what the Analyzer says: effects, lessons, and the Insights
  # that Cognition makes of them.
  analyses: bool = True
  crossover: float = 0.25  # share of Proposals from two parents
  fresh: float = 0.1  # share sampled anew from the space
  # Whether a Program that a gate rejected is mended, once, by its proposer.
  repair: bool = True
  # What follows is for Proposals of a language model.
  edits: float = 0.5  # share asked for as edits of the parent, not whole
  turns: int = 4  # calls that may go into one Proposal
  max_chars: int = 60_000  # of a Program; a longer one is sent back
  # Likeness to what is known: from the first on a model judges whether it is
  # new, from the second on it is not (proposers/novelty.py).
  novelty: tuple[float, float] = (0.75, 0.95)
  exploration: float = 0.7  # of the bandits over proposers and models

  def __post_init__(self) -> None:
    low, high = self.novelty
    if not (0 <= self.edits <= 1 and 0 <= low <= high and self.turns >= 1):
      raise SettingsError(
        "config.researcher needs edits in [0, 1], novelty thresholds in "
        f"order and at least one turn; got {self.edits}, {self.novelty} and "
        f"{self.turns}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
  """Which language models are called, and how (asi_evolve_jax/llm)."""

  names: tuple[str, ...] = ("gemini-3.8-flash",)
  weights: tuple[float, ...] = ()  # one a model; (): all alike
  choice: str = "weights"  # weights; bandit: UCB on improvement per money
  base_url: str = ""  # instead of Google's; a gateway, a test
  key_variable: str = "OPENAI_API_KEY"  # that holds the key for openai:<URL>
  parallel: int = 2  # calls at once
  timeout_s: float = 240.0  # of one try
  deadline_s: float = 600.0  # of a call, all tries
  tries: int = 5
  context_tokens: int = 200_000  # most that a prompt may have
  output_tokens: int = 32_768  # most that a reply may have, thoughts included
  temperature: float = 1.0
  # Role -> tokens to think; -1: as the model likes. Roles that are not here
  # leave it to the provider.
  thinking: dict[str, Any] = dataclasses.field(default_factory=dict)
  # Folder of prompts for the track: its system.md and analyst.md stand in for
  # those of proposers/prompts; "": none.
  prompts: str = ""
  # Model -> {"input", "output"} per million tokens, for models that
  # llm/prices.json does not list.
  prices: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    if not self.names or len(self.weights) not in (0, len(self.names)):
      raise SettingsError(
        "config.models needs at least one name, and one weight a name or "
        f"none; got {len(self.names)} and {len(self.weights)}."
      )
    if any(w < 0 for w in self.weights) or (
      self.weights and not sum(self.weights)
    ):
      raise SettingsError(
        f"config.models.weights must not be negative, nor all 0: "
        f"{self.weights}."
      )
    if self.choice not in ("weights", "bandit"):
      raise SettingsError(
        f"config.models.choice is weights or bandit, got {self.choice!r}."
      )
    for name in (
      "parallel",
      "timeout_s",
      "deadline_s",
      "tries",
      "context_tokens",
      "output_tokens",
    ):
      if getattr(self, name) <= 0:
        raise SettingsError(f"config.models.{name} must be positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzerSettings:
  """Who reads what was measured."""

  # symbolic; llm: and a language model, where one can be called, adds a report.
  kind: str = "symbolic"
  model: str = ""  # one of models.names; "": the first
  # Most that a prompt may have: evidence that does not fit is left out, the
  # least telling first.
  context_tokens: int = 30_000
  max_chars: int = 6_000  # of a report; a longer one is sent back

  def __post_init__(self) -> None:
    if self.kind not in ("symbolic", "llm"):
      raise SettingsError(
        f"config.analyzer.kind is symbolic or llm, got {self.kind!r}."
      )
    if self.context_tokens <= 0 or self.max_chars <= 0:
      raise SettingsError(
        "config.analyzer.context_tokens and max_chars must be positive."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeSettings:
  """A language model's marks in the fitness that samplers see."""

  # Share of its marks (novelty, complexity, efficiency) in that fitness, below
  # 1; 0: no judge. Promotion, verify and Claims know nothing of it.
  ratio: float = 0.0
  model: str = ""  # one of models.names; "": the first

  def __post_init__(self) -> None:
    if not 0 <= self.ratio < 1:
      raise SettingsError(
        f"config.judge.ratio is a share in [0, 1), got {self.ratio}."
      )


MINILM = "minilm"  # a value of config.cognition.embeddings


@dataclasses.dataclass(frozen=True, kw_only=True)
class CognitionSettings:
  """Which items of the Cognition Base a run may read.

  The twelve items of circle packing tagged `paper-prior` name the target and
  the method that reaches it, those tagged `earlier-run` what a search of this
  repository found: a run that reads them claims something else.
  """

  exclude: tuple[str, ...] = ("paper-prior", "earlier-run")  # tags or ids
  # The dense side of retrieval. "": hashed TF-IDF; "minilm": all-MiniLM-L6-v2
  # on this machine; else an embedding model of config.llm (gemini or vertex),
  # e.g. gemini-embedding-001.
  embeddings: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopSettings:
  """Candidates of the search that fall behind a baseline stop early.

  They are compared at equal tokens, wherever the rung's options evaluate on
  the way. One that stopped has no score; baselines never stop.
  """

  reference: str = ""  # the baseline's name; "": nobody stops
  margin: float = 0.0  # how far behind, in the unit of the track's metric
  after: float = 0.25  # share of the steps that everybody gets

  def __post_init__(self) -> None:
    if self.margin < 0 or not 0 <= self.after <= 1:
      raise SettingsError(
        "a rung's stop needs a margin of at least 0 and a share `after` in "
        f"[0, 1]; got {self.margin} and {self.after}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RungSettings:
  """One level of fidelity."""

  name: str
  seeds: tuple[int, ...] = (0,)
  deadline_s: float = 600.0  # wall-clock of one Task, all seeds
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  # Promoted to the next rung: the best `promote` share of what this rung has
  # measured so far (successive halving, asynchronous), baselines always.
  promote: float = 0.5
  stop: StopSettings = StopSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifySettings:
  """The last phase: finalists and baselines on fresh seeds, held-out data."""

  finalists: int = 2  # 0 switches the phase off
  rung: RungSettings | None = None
  # Baselines that all others are compared with; a Claim each, one family.
  references: tuple[str, ...] = ("deltanet",)
  baselines: str = "all"  # or "references": only those get fresh seeds
  min_seeds: int = 3  # fewer paired seeds claim nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
  count: int = 0  # 0: one a core
  memory_gb: float = 6.0  # address space beyond the preloaded modules
  pin: bool = True  # one core a worker
  warm: int = 1  # idle pre-forked processes kept ready
  lease_ttl_s: float = 20.0
  attempts: int = 2  # tries of a Task lost to the machine
  # Seconds that the scratch folder (checkpoints) of a finished Task is kept;
  # 0: it goes with its Result. Logs of failures stay for good.
  keep_scratch_s: float = 0.0
  # "auto": every means of confinement that the machine has, and Programs that
  # a model wrote only if they suffice; "required": no Program unless they do;
  # "none": your word that candidates may do what you may. docs/security.md
  sandbox: str = "auto"

  def __post_init__(self) -> None:
    if self.sandbox not in ("auto", "required", "none"):
      raise SettingsError(
        f"workers.sandbox is {self.sandbox!r}: use auto, required or none."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetSettings:
  """What the whole run may cost, over all sessions; 0: as much as it takes.

  Nothing begins whose expected cost does not fit, and the search ends early
  enough to leave verify its share (evaluation/budget.py). Tokens and money
  bound the calls of models alone: the search goes on without them.
  """

  wall_s: float = 0.0  # seconds that the run goes on, pauses excluded
  device_s: float = 0.0  # core- or device-seconds of workers
  flops: float = 0.0  # as stages report them
  tokens: float = 0.0  # of language models
  money: float = 0.0  # of language models, in the currency of their prices


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApprovalSettings:
  """Promotions to a rung whose Tasks cost more wait for a person; 0: none."""

  device_s: float = 0.0
  flops: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeedSettings:
  """Programs that come in from elsewhere, to be measured here."""

  records: str = ""  # an archive (zip) or the URL of a run's records; "": none
  best: int = 4  # how many of its own, at the highest rung with scores
  programs: tuple[str, ...] = ()  # files of source, written by a person


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
  """A whole run."""

  name: str
  track: str
  run_dir: str = ""  # default: runs/<name>
  seed: int = 0
  rounds: int = 20  # Proposals; baselines, imports and repairs are none
  target_score: float | None = None
  patience: int = 0  # rounds without a new best; 0: none
  durable: bool = True  # fsync each write
  track_options: dict[str, Any] = dataclasses.field(default_factory=dict)
  # Who answers: gemini, vertex, openai:<base URL>, none, or replay:<URL of a
  # run's records>, which says again what was said there.
  llm: str = "gemini"
  models: ModelSettings = ModelSettings()
  researcher: ResearcherSettings = ResearcherSettings()
  analyzer: AnalyzerSettings = AnalyzerSettings()
  judge: JudgeSettings = JudgeSettings()
  cognition: CognitionSettings = CognitionSettings()
  sampler: SamplerSettings = SamplerSettings()
  ladder: tuple[RungSettings, ...] = ()
  verify: VerifySettings = VerifySettings()
  budget: BudgetSettings = BudgetSettings()
  approve_above: ApprovalSettings = ApprovalSettings()
  seed_from: SeedSettings = SeedSettings()
  workers: WorkerSettings = WorkerSettings()


def from_config(cls: type[T], config: Any, where: str = "config") -> T:
  """Builds dataclass `cls` from a mapping (a ConfigDict, a dict).

  Args:
    cls: a dataclass type; nested dataclasses and tuples of them are built too.
    config: mapping from field name to value.
    where: name of `config` in error messages.

  Raises:
    SettingsError: on an unknown key, a missing key or a value of wrong type.
  """
  if not isinstance(config, Mapping) and not hasattr(config, "items"):
    raise SettingsError(
      f"{where} must be a mapping of settings, got {type(config).__name__}."
    )
  hints = typing.get_type_hints(cls)
  fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
  values: dict[str, Any] = {}
  for key, value in config.items():
    if key not in fields:
      close = difflib.get_close_matches(key, fields, n=1)
      hint = f" Did you mean {where}.{close[0]}?" if close else ""
      raise SettingsError(
        f"{where}.{key} is not a setting.{hint} "
        f"Settings here: {', '.join(sorted(fields))}."
      )
    values[key] = _convert(hints[key], value, f"{where}.{key}")
  missing = [
    name
    for name, f in fields.items()
    if name not in values
    and f.default is dataclasses.MISSING
    and f.default_factory is dataclasses.MISSING
  ]
  if missing:
    raise SettingsError(f"{where} lacks {', '.join(missing)}: add it there.")
  return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
  origin = typing.get_origin(hint)
  if origin in (types.UnionType, typing.Union):
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    return None if value is None else _convert(inner[0], value, where)
  if dataclasses.is_dataclass(hint):
    if isinstance(value, hint):
      return value
    return from_config(hint, value, where)  # type: ignore[arg-type]
  if origin is tuple:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
      raise SettingsError(f"{where} must be a sequence, got {value!r}.")
    args = typing.get_args(hint)
    item = list(value)
    if len(args) == 2 and args[1] is Ellipsis:
      return tuple(
        _convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(item)
      )
    if len(item) != len(args):
      raise SettingsError(f"{where} must have {len(args)} values: {value!r}.")
    return tuple(
      _convert(a, v, f"{where}[{i}]")
      for i, (a, v) in enumerate(zip(args, item, strict=True))
    )
  if origin is dict:
    if not hasattr(value, "items"):
      raise SettingsError(f"{where} must be a mapping, got {value!r}.")
    return plain(value)
  if hint is Any:
    return plain(value)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  # bool is an int to Python, never to a config.
  wrong = not isinstance(value, hint) or (
    hint is not bool and isinstance(value, bool)
  )
  if wrong:
    raise SettingsError(
      f"{where} must be {hint.__name__}, got {value!r} "
      f"({type(value).__name__})."
    )
  return value


def of_run(config: Mapping[str, Any]) -> RunSettings:
  """Returns the settings that a Run record holds, of older versions too.

  A setting that did not exist then gets the value that acts as it did then.

  Raises:
    SettingsError: as `from_config`.
  """
  config = dict(config)
  if "time_limit" in config:
    config["budget"] = {"wall_s": config.pop("time_limit")}
  researcher = {"repair": False, **config.get("researcher", {})}
  if "use_effects" in researcher:  # until lessons went with them
    researcher["analyses"] = researcher.pop("use_effects")
  config["researcher"] = researcher
  verify = dict(config.get("verify") or {})
  if "reference" in verify:  # until there could be several
    verify["references"] = [verify.pop("reference")]
    if verify.get("baselines") == "reference":
      verify["baselines"] = "references"
    config["verify"] = verify
  return from_config(RunSettings, config)


def plain(value: Any) -> Any:
  """Returns `value` as JSON types: dicts, lists, numbers, text."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {
      f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)
    }
  if hasattr(value, "items"):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  return value


def difference(old: Any, new: Any, where: str = "config") -> list[str]:
  """Returns one line for each place where two plain configs differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    lines = []
    for key in sorted(set(old) | set(new)):
      here = f"{where}.{key}"
      if key not in old:
        lines.append(f"{here}: not set -> {new[key]!r}")
      elif key not in new:
        lines.append(f"{here}: {old[key]!r} -> not set")
      else:
        lines.extend(difference(old[key], new[key], here))
    return lines
  return [] if old == new else [f"{where}: {old!r} -> {new!r}"]
