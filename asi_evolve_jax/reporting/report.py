"""What a run leaves to read: `report/` in the run's folder.

leaderboard.md and .json, progress.png, lineage.md, best.py, and a discovery
card in claims/ for each Claim that holds.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import OK, VERIFY
from asi_evolve_jax.reporting import (
  calibration,
  cards,
  leaderboard,
  lineage,
  people,
  verdict,
)
from asi_evolve_jax.reporting.figures import draw_progress
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track


@dataclasses.dataclass(frozen=True)
class Written:
  """What was written, and the lines to print."""

  folder: Path
  summary: str


def write_report(
  view: View,
  settings: RunSettings,
  track: Track,
  records: Records,
  folder: Path,
) -> Written:
  """Writes the report of the records as they stand; may be called again.

  Raises:
    OSError: if `folder` cannot be written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  sections = [_header(view, settings, track, records)]
  tables = {}
  said = verdict.sentences(view, settings, track)
  verify = settings.verify.rung
  if said and verify is not None:
    table = leaderboard.rows(
      view, verify.name, track.final_metric, track.columns(), VERIFY
    )
    claimed, others = leaderboard.apart(view, table)
    tables[verify.name] = [row.json() for row in (*claimed, *others)]
    marks = leaderboard.yardsticks(view, verify.name)
    sections += [
      "## Verified on fresh seeds and held-out data\n",
      "\n".join(f"- {sentence}" for sentence in said) + "\n",
      "### Claimed\n",
      leaderboard.markdown(claimed, track.final_metric, {})
      if claimed
      else "Nothing.\n",
      "### Not claimed\n",
      leaderboard.markdown(others, track.final_metric, marks),
      "### Comparisons\n",
      verdict.table(view),
    ]
  for rung in reversed(settings.ladder):
    table = leaderboard.rows(view, rung.name, track.metric, track.columns())
    tables[rung.name] = [row.json() for row in table]
    marks = leaderboard.yardsticks(view, rung.name)
    sections += [
      f"## Search at rung {rung.name}\n",
      "Selected on these scores: nothing here is claimed.\n",
      leaderboard.markdown(table, track.metric, marks),
    ]
  sections += [_failures(view), people.section(view, settings, track)]
  text = "\n".join(sections)
  (folder / "leaderboard.md").write_text(text)
  (folder / "leaderboard.json").write_text(
    json.dumps(
      {
        "run": settings.name,
        "track": settings.track,
        "tables": tables,
        "verdict": said,
        "claims": [
          {"id": c.id, **dataclasses.asdict(c)} for c in view.standing_claims()
        ],
        "statuses": _statuses(view),
      },
      indent=1,
    )
  )
  last = settings.ladder[-1].name
  draw_progress(
    view, last, track.metric, _baselines(view, last), folder / "progress.png"
  )
  best = _best(view, settings)
  if best is not None:
    (folder / "lineage.md").write_text(lineage.text(view, best, settings))
    (folder / "best.py").write_text(_best_source(view, best))
  cards.write(view, settings, track, records, folder / "claims")
  return Written(folder, _summary(view, settings, track, said, folder))


def _header(
  view: View, settings: RunSettings, track: Track, records: Records
) -> str:
  run = view.run
  lines = [f"# {settings.name}\n"]
  if run is not None:
    machine = run.machine
    lines.append(
      f"Track {run.track}; commit {run.commit[:12]}; "
      f"{machine.get('processor')}, {machine.get('cores')} cores; "
      + ", ".join(f"{k} {v}" for k, v in run.versions.items())
      + "."
    )
  ended = view.milestones.get("search-ended")
  reason = ended.detail["reason"] if ended else "the search has not ended"
  lines.append(
    f"{view.rounds()} rounds, {len(view.results)} results, "
    f"{view.elapsed():.0f} s of search; {reason}.\n"
  )
  for name in ("verify-asked", "finished"):
    milestone = view.milestones.get(name)
    detail = milestone.detail if milestone else {}
    said = detail.get("note") or detail.get("reason")
    if said:
      lines.append(f"Verify: {said}.\n")
  calibrated = calibration.headline(view, settings, track)
  if calibrated:
    lines.append(f"{calibrated}\n")
  if settings.researcher.knowledge:
    without = ", ".join(settings.cognition.exclude) or "nothing"
    lines.append(
      f"Cognition: {settings.researcher.knowledge} items a Proposal; left out: "
      f"{without}.\n"
    )
  if records.set_aside:
    lines.append(
      "Set aside because they could not be read: "
      + ", ".join(sorted(records.set_aside))
      + ".\n"
    )
  return "\n".join(lines)


def _statuses(view: View) -> dict[str, dict[str, int]]:
  tally: dict[str, Counter] = {}
  for result in view.results.values():
    tally.setdefault(result.rung, Counter())[result.status] += 1
  return {rung: dict(counts) for rung, counts in tally.items()}


def _failures(view: View) -> str:
  lines = ["## How evaluations ended\n"]
  for rung, counts in _statuses(view).items():
    said = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    lines.append(f"- {rung}: {said}")
  reasons = Counter(
    f"{r.status} at {r.gate or r.rung}: {r.error.strip().splitlines()[-1]}"
    if r.error.strip()
    else f"{r.status} at {r.gate or r.rung}"
    for r in view.results.values()
    if r.status != OK
  )
  lines += [f"- {n} x {reason[:160]}" for reason, n in reasons.most_common(10)]
  return "\n".join(lines) + "\n"


def _baselines(view: View, rung: str) -> dict[str, float]:
  scores = {}
  for program, name in view.baselines.items():
    score = view.score(program, rung)
    if score is not None:
      scores[name] = score
  return scores


def _best(view: View, settings: RunSettings) -> str | None:
  """The best candidate: of verify where it ran, else of the search."""
  judged = [
    c
    for c in verdict.comparisons(view)
    if verdict.is_candidate(view, c) and c.effect is not None
  ]
  if judged:
    return max(judged, key=lambda c: c.effect or 0.0).program
  for rung in reversed(settings.ladder):
    best = view.best(rung.name)
    if best is not None:
      return best
  return None


def _best_source(view: View, best: str) -> str:
  proposal = view.proposal_of[best]
  head = (
    f"# {proposal.name}, round {proposal.round}, by {proposal.author}.\n"
    f"# Program {best}.\n"
  )
  return head + view.programs[best].source


def _summary(
  view: View,
  settings: RunSettings,
  track: Track,
  said: list[str],
  folder: Path,
) -> str:
  lines = [""]
  asked = sum(t.purpose == VERIFY for t in view.tasks.values())
  last = settings.ladder[-1].name
  table = leaderboard.rows(view, last, track.metric, ())[:5]
  lines.append(
    f"{view.rounds()} rounds, {len(view.results)} results"
    + (f", {asked} verify tasks" if asked else "")
  )
  for row in table:
    lines.append(f"  {row.rank}. {row.name}: {leaderboard.quality(row)}")
  lines += said
  lines.append(f"Report: {folder / 'leaderboard.md'}")
  return "\n".join(lines)
