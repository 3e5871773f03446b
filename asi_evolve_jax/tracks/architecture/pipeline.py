"""From source to Artifact in one process, for Programs that are trusted."""

from __future__ import annotations

import dataclasses

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.settings import plain
from asi_evolve_jax.tracks.architecture import judge, trace
from asi_evolve_jax.tracks.architecture.options import StageOptions


def make_artifact(
  source: str, options: StageOptions, seed: int | None = None
) -> StageReply:
  """Returns what the judge says of a Program, or the trace stage before it.

  The same code as in a run, without its processes: the source can do anything
  here.

  Args:
    source: of the Program.
    options: of the stages; the Program's id is filled in.
    seed: as in `judge.run`.
  """
  options = dataclasses.replace(options, program=program_id(source))
  request = StageRequest(source, b"", (), plain(options), "", "", 600.0)
  traced = trace.run(request)
  if traced.status != "ok":
    return traced
  return judge.run(
    dataclasses.replace(request, source="", payload=traced.payload), seed
  )
