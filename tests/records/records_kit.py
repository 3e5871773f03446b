"""Records for the tests of this folder."""

from __future__ import annotations

import time

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.records import Records
from asi_evolve_jax.records.store import Store


def program_id(n: int) -> str:
  # Ids of Proposals hold the first digits only.
  return f"{n:08x}".ljust(32, "0")


def number(program: str) -> int:
  return int(program[:8], 16)


def program(n: int, source: str = "x = 1") -> schema.Program:
  return schema.Program(hash=program_id(n), track="t", source=source)


def proposal(n: int, round: int | None = None, **fields) -> schema.Proposal:
  values = {
    "program": program_id(n),
    "track": "t",
    "name": f"p{n}",
    "author": "symbolic",
    "round": n + 1 if round is None else round,
    "operator": "mutate",
    "motivation": "because",
  }
  return schema.Proposal(**(values | fields))


def task(n: int, **fields) -> schema.Task:
  values = {"program": program_id(n), "rung": "quick", "seeds": (0,)}
  return schema.Task(**(values | fields))


def result(of: schema.Task, *scores: float, **fields) -> schema.Result:
  values = {
    "task": of.id,
    "program": of.program,
    "rung": of.rung,
    "seeds": of.seeds,
    "purpose": of.purpose,
    "attempt": of.attempt,
    "status": schema.OK,
    "metrics": tuple({"loss": s} for s in scores),
  }
  return schema.Result(**(values | fields))


def analysis(of: schema.Result) -> schema.Analysis:
  return schema.Analysis(program=of.program, results=(of.task,), text="so")


def milestone(name: str, at: float = 0.0) -> schema.Milestone:
  return schema.Milestone(name=name, by="test", created_at=at)


def fast(url, bucket_size: int = 200, clock=time.time, **clocks) -> Records:
  """Opens records with clocks and bucket size of the test's own."""
  return Records(Store(url), None, clock, bucket_size=bucket_size, **clocks)
