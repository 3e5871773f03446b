"""What the framework itself costs: one round with nothing to compute.

An instant proposer and a trivial evaluation leave the work of the roles: the
store, the log, views, sampling, statistics, leases. Each role has a store
handle of its own, so that what it reads is paid and counted.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from asi_evolve_jax.evaluation.stages import Stage, StageReply, StageRequest
from asi_evolve_jax.evaluation.workers import InlinePool
from asi_evolve_jax.programs.genome import Gene, Genome, Space
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import (
  OK,
  SEARCH,
  Analysis,
  Program,
  Proposal,
  Record,
  Result,
  Task,
)
from asi_evolve_jax.roles.analyzer import Analyzer
from asi_evolve_jax.roles.cognition import CognitionRole
from asi_evolve_jax.roles.engineer import Engineer
from asi_evolve_jax.roles.researcher import Researcher
from asi_evolve_jax.settings import (
  ResearcherSettings,
  RungSettings,
  RunSettings,
  VerifySettings,
  WorkerSettings,
)
from asi_evolve_jax.tracks.base import (
  MAXIMIZE,
  Axis,
  Baseline,
  Expectation,
  Metric,
)

_GENES = 12
_RECORDS_A_ROUND = 5  # program, proposal, task, result, analysis
_BATCH = 8


class SumSpace(Space):
  """Genomes whose score is the sum of their genes."""

  genes = tuple(
    Gene(f"x{i}", tuple(range(10)), 0, ordered=True) for i in range(_GENES)
  )

  def render(self, genome: Genome) -> str:
    return f"X = {[genome[g.name] for g in self.genes]}\n"

  def title(self, genome: Genome) -> str:
    return "sum " + "".join(str(genome[g.name]) for g in self.genes)


class SumTrack:
  """The trivial track; its evaluation reads a list and adds it up."""

  name = "sum"
  metric = Metric("total", MAXIMIZE)
  final_metric = metric
  brief = "Choose twelve digits; more is better."
  space = SumSpace()
  stages: tuple[Stage, ...] = (
    Stage("add", "asi_evolve_jax.supervisor.benchmark:add_up", trusted=False),
  )

  def __init__(self, options: dict[str, Any]):
    del options  # it has none

  def baselines(self) -> tuple[Baseline, ...]:
    found = []
    for digit in (0, 1, 2):
      genome = self.space.repair({g.name: digit for g in self.space.genes})
      source = self.space.render(genome)
      found.append(Baseline(f"all-{digit}", source, "A constant.", genome))
    return tuple(found)

  def shape_key(self, rung: RungSettings, purpose: str = SEARCH) -> str:
    del rung
    return ""

  def stage_options(self, rung: RungSettings) -> dict[str, Any]:
    return dict(rung.options)

  def work(self, rung: RungSettings, purpose: str = SEARCH) -> float:
    del rung, purpose
    return 1.0

  def manifest(self) -> dict[str, Any]:
    return {}

  def folders(self) -> dict[str, str]:
    return {}

  def metrics(self) -> tuple[Metric, ...]:
    return (self.metric,)

  def expectations(self) -> tuple[Expectation, ...]:
    return ()

  def axes(self) -> tuple[Axis, ...]:
    return (Axis("x0"), Axis("x1"))

  def columns(self) -> tuple[str, ...]:
    return ()


def add_up(request: StageRequest) -> StageReply:
  """The trivial stage."""
  digits = request.source.partition("[")[2].partition("]")[0].split(",")
  total = float(sum(int(d) for d in digits))
  return StageReply(metrics=tuple({"total": total} for _ in request.seeds))


def bench_rounds(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
  """Measures a round at each store size, with and without fsync.

  Args:
    sizes: records in the store before the timed rounds.
    rounds: timed rounds.

  Returns:
    One row a (size, durable): work of all roles [ms a round], store
    operations a round by name and in total, rounds a second, start-up of all
    roles [s].
  """
  rows = []
  for size in sizes:
    folder = Path(tempfile.mkdtemp(prefix="bench-rounds-"))
    try:
      _fill(folder, size)
      for durable in (False, True):
        rows.append(_bench(folder, size, rounds, durable))
    finally:
      shutil.rmtree(folder, ignore_errors=True)
  return rows


def _fill(folder: Path, size: int) -> None:
  """Writes `size` records as past rounds would have left them."""
  records = Records.open(f"file://{folder}/records/", durable=False)
  rng = random.Random(0)
  space = SumTrack.space
  for start in range(0, size // _RECORDS_A_ROUND, _BATCH):
    proposals: list[Record] = []
    results: list[Record] = []
    analyses: list[Record] = []
    stop = min(start + _BATCH, size // _RECORDS_A_ROUND)
    for number in range(start, stop):
      genome = space.sample(rng)
      # A comment line would be normalised away: a constant keeps it unique.
      source = f"{space.render(genome)}Y = {number}\n"
      program = program_id(source)
      task = Task(program=program, rung="only", seeds=(0,))
      result = Result(
        task=task.id,
        program=program,
        rung="only",
        seeds=(0,),
        purpose="search",
        status=OK,
        metrics=({"total": float(sum(genome.values()))},),
      )
      proposals += [
        Program(hash=program, track="sum", source=source),
        Proposal(
          program=program,
          track="sum",
          name=space.title(genome),
          author="random",
          round=number + 1,
          operator="sample",
          motivation="Filled in.",
          genome=genome,
        ),
        task,
      ]
      results.append(result)
      analyses.append(
        Analysis(program=program, results=(task.id,), text="Filled in.")
      )
    for batch in (proposals, results, analyses):
      records.put(*batch)


def _bench(
  folder: Path, size: int, rounds: int, durable: bool
) -> dict[str, Any]:
  settings = RunSettings(
    name="bench",
    track="asi_evolve_jax.supervisor.benchmark:SumTrack",
    rounds=10**9,
    durable=durable,
    ladder=(RungSettings(name="only"),),
    researcher=ResearcherSettings(
      proposer="random", queue=_BATCH, batch=_BATCH, knowledge=0
    ),
    verify=VerifySettings(finalists=0),
    workers=WorkerSettings(count=1),
  )
  url = f"file://{folder}/records/"
  track = SumTrack({})
  items = folder / "no-items"
  items.mkdir(exist_ok=True)
  handles = [Records.open(url, durable=durable) for _ in range(4)]
  began = time.perf_counter()
  researcher = Researcher(handles[0], settings, track, items)
  roles = [
    researcher,
    Engineer(
      handles[1],
      settings,
      track,
      run_dir=folder,
      pool=InlinePool(slots=_BATCH),
    ),
    Analyzer(handles[2], settings, track),
    CognitionRole(handles[3], settings, track),
  ]
  for role in roles:  # catch up with the log, measure baselines
    role.step()
  started = time.perf_counter() - began
  for _ in range(4):
    for role in roles:
      role.step()
  before = [Counter(h.operations) for h in handles]
  first = researcher.view.rounds()
  done, spent = 0, 0.0
  while done < rounds:
    tick = time.perf_counter()
    for role in roles:
      role.step()
    spent += time.perf_counter() - tick
    done = researcher.view.rounds() - first
  operations: Counter[str] = Counter()
  for handle, old in zip(handles, before, strict=True):
    operations += Counter(handle.operations) - old
  for role in roles:
    role.close()
  return {
    "records": size,
    "durable": durable,
    "ms_a_round": 1000 * spent / done,
    "rounds_a_second": done / spent,
    "operations_a_round": sum(operations.values()) / done,
    **{f"{k}_a_round": v / done for k, v in sorted(operations.items())},
    "start_s": started,
    "rounds": done,
  }
