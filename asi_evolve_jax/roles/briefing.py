"""What the records say of Programs, in words, for proposers that read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asi_evolve_jax.proposers.base import Briefing, Failure, Story, Vectors
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, UNSEEN, Result
from asi_evolve_jax.tracks.base import MINIMIZE, Track

_FAILURES = 6


def make(
  view: View,
  track: Track,
  about: str,
  parent: str,
  references: Sequence[str],
  vectors: Vectors | None = None,
) -> Briefing:
  """Returns the Briefing for an edit of `parent`.

  Nothing in it comes from verify: what it measures must not reach the search.
  """
  better = "lower" if track.metric.direction == MINIMIZE else "higher"
  return Briefing(
    about=about,
    brief=track.brief,
    metric=f"{track.metric.name} ({better} is better)",
    parent=_story(view, track, parent),
    references=tuple(_story(view, track, program) for program in references),
    failures=_failures(view, track, parent),
    archive=lambda: [_outline(view, program) for program in view.proposal_of],
    vectors=vectors,
  )


def _outline(view: View, program: str) -> Story:
  proposal = view.proposal_of[program]
  return Story(
    program=program,
    name=proposal.name,
    source=view.programs[program].source,
    motivation=proposal.motivation,
  )


def _story(view: View, track: Track, program: str) -> Story:
  outline = _outline(view, program)
  analyses = view.analyses_of.get(program, [])
  lines = [
    _measured(track, result)
    for result in view.results_of.get(program, ())
    if result.purpose not in UNSEEN
  ]
  return Story(
    program=program,
    name=outline.name,
    source=outline.source,
    motivation=outline.motivation,
    results="\n".join(lines),
    analysis=analyses[-1].text if analyses else "",
  )


def _measured(track: Track, result: Result) -> str:
  if result.status != OK:
    why = f"{result.gate}: {result.error}" if result.gate else result.error
    return f"- {result.rung}: {result.status}: {why}"
  figures = []
  for metric in track.metrics():
    if metric.name == track.final_metric.name != track.metric.name:
      continue
    values = [m[metric.name] for m in result.metrics if metric.name in m]
    if values:
      mean = math.fsum(values) / len(values)
      figures.append(f"{metric.name} {mean:.6g} {metric.unit}".strip())
  seeds = ", ".join(map(str, result.seeds))
  return f"- {result.rung} (seeds {seeds}): {'; '.join(figures)}"


def _failures(view: View, track: Track, parent: str) -> tuple[Failure, ...]:
  """Returns children of `parent` and of its parents that did not work."""
  near = {parent, *view.proposal_of[parent].parents[:1]}
  found: list[Failure] = []
  for _, proposal in sorted(view.proposals.items(), reverse=True):
    if proposal.program == parent or near.isdisjoint(proposal.parents[:1]):
      continue
    why = _why(view, track, proposal.program, proposal.parents[0])
    if why:
      found.append(Failure(proposal.name, proposal.motivation, why))
    if len(found) == _FAILURES:
      break
  return tuple(found)


def _why(view: View, track: Track, program: str, parent: str) -> str:
  """Returns what went wrong with `program`, or ""."""
  for result in view.results_of.get(program, ()):
    if result.purpose in UNSEEN:
      continue
    if result.status != OK:
      return _measured(track, result).removeprefix("- ")
    mine = view.score(program, result.rung)
    before = view.score(parent, result.rung)
    if mine is None or before is None:
      continue
    if not track.metric.better(mine, before):
      return (
        f"{result.rung}: {track.metric.name} {mine:.6g}, no better than the "
        f"{before:.6g} of what it was made from"
      )
  return ""
