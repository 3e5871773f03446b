"""Discovery cards: for each Claim that holds, a page that a person can judge.

Everything on a card is derived from records; it says where each figure stands.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  CLAIMED,
  OK,
  Claim,
  Result,
)
from asi_evolve_jax.records.views import BASELINE
from asi_evolve_jax.reporting import leaderboard, lineage, verdict
from asi_evolve_jax.reporting.windows import over_windows
from asi_evolve_jax.roles.claims import records_of
from asi_evolve_jax.roles.waves import waves
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track

_DEARER = 1.1  # a cost this many times the baseline's is worth a look
_CLOSE = 0.01  # a corrected p above it is not far from the level


def write(
  view: View,
  settings: RunSettings,
  track: Track,
  records: Records,
  folder: Path,
) -> list[Path]:
  """Writes a card for each standing Claim; a card that fell is removed.

  Args:
    view: of the run.
    settings: of the run.
    track: of the run.
    records: of the run.
    folder: of cards alone; made if there is a Claim.

  Returns:
    The files.
  """
  held = [c for c in verdict.comparisons(view) if c.verdict == CLAIMED]
  pages = {}
  for claim in held:
    name = f"{_slug(view.name_of(claim.program))}-over-"
    name += f"{_slug(view.name_of(claim.baseline))}-{claim.id[:8]}.md"
    pages[folder / name] = card(view, settings, track, records, claim)
  for old in folder.glob("*.md"):
    if old not in pages:
      old.unlink()
  for path, text in pages.items():
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return list(pages)


def card(
  view: View,
  settings: RunSettings,
  track: Track,
  records: Records,
  claim: Claim,
) -> str:
  """Returns the card of one Claim as Markdown."""
  name, over = view.name_of(claim.program), view.name_of(claim.baseline)
  gain = verdict.interval(claim.effect, claim.low, claim.high)
  sections = (
    ("What it is", _what(view, track, claim)),
    ("How it was found", _found(view, settings, claim)),
    ("The evidence", _evidence(view, records, claim)),
    ("Where it failed", _failed(view, claim)),
    ("Limits", _limits(view, settings, track, claim)),
    ("Cost", _cost(view, track, claim)),
    ("How to repeat it", _repeat(settings, claim)),
    ("What a person should inspect", _inspect(view, track, claim)),
  )
  lines = [
    f"# {name} beats {over}\n",
    f"Claim `{claim.id}` of run {settings.name}: gain {gain} "
    f"{track.final_metric.unit or claim.metric} ({claim.metric}), "
    f"{claim.why}.\n",
  ]
  for title, body in sections:
    lines += [f"## {title}\n", "\n".join(body) + "\n"]
  return "\n".join(lines)


def _what(view: View, track: Track, claim: Claim) -> list[str]:
  proposal = view.proposal_of[claim.program]
  lines = [f"Program `{claim.program}`, written by {proposal.author}."]
  told = _docstring(view, claim.program)
  if told and proposal.name not in told:
    lines.append(f"Its source says of itself: {told}")
  if proposal.motivation.strip():
    lines += ["", "Why it was written:", ""]
    lines += [f"> {line}" for line in proposal.motivation.strip().splitlines()]
  space = track.space
  genome = space.place(proposal.genome)
  if not genome:
    return lines
  other = space.place(view.proposal_of[claim.baseline].genome) or {}
  lines += [
    "",
    f"In the symbolic space it is `{space.title(genome)}`:",
    "",
    f"| gene | value | {view.name_of(claim.baseline)} | what it chooses |",
    "|---|---|---|---|",
  ]
  for gene in space.genes:
    if gene.active is None or gene.active(genome):
      mine, theirs = genome[gene.name], other.get(gene.name, "")
      shown = f"**{mine}**" if other and mine != theirs else f"{mine}"
      lines.append(f"| {gene.name} | {shown} | {theirs} | {gene.doc} |")
  return lines


def _found(view: View, settings: RunSettings, claim: Claim) -> list[str]:
  lines = []
  for step in lineage.chain(view, claim.program):
    how = "published" if step.author == BASELINE else step.operator
    scores = [
      f"{score:.4f} at {rung.name}"
      for rung in settings.ladder
      if (score := view.score(step.program, rung.name)) is not None
    ]
    changed = ", ".join(
      f"{c['gene']} {c['old']} -> {c['new']}" for c in step.changes
    )
    text = f"- round {step.round}, {step.name} ({how})"
    text += f": {', '.join(scores)}" if scores else ""
    text += f"; changed {changed}" if changed else ""
    lines.append(text)
    for id in step.knowledge:
      lines.append(f"  - used {_known(view, id)}")
    for analysis in view.analyses_of.get(step.program, [])[-1:]:
      lines += [f"  - taught: {lesson}" for lesson in analysis.lessons[:3]]
  return lines


def _known(view: View, id: str) -> str:
  insight = view.insights.get(id.rpartition(".")[0])
  if insight is None:
    return f"cognition item `{id}`"
  span = verdict.interval(insight.effect, insight.low, insight.high)
  return f"this run's lesson `{id}`: {insight.title} ({span})"


def _evidence(view: View, records: Records, claim: Claim) -> list[str]:
  lines = [
    f"{len(claim.seeds)} fresh seeds, each with the same data in the same "
    "order for both. Gains are positive where the Program is better, with 95 % "
    "t intervals, uncorrected; one metric decides, the rest say how far it "
    "carries.",
    "",
    "| metric | better is | gain [95 %] | seeds | |",
    "|---|---|---|---|---|",
  ]
  for row in claim.held:
    direction = "lower" if row["direction"] == "minimize" else "higher"
    name = row["metric"]
    lines.append(
      f"| {f'**{name}**' if name == claim.metric else name} | {direction} | "
      f"{verdict.interval(row['effect'], row['low'], row['high'])} "
      f"{row['unit']} | {len(row['seeds'])} | {row['verdict']} |"
    )
  mine = verdict.program_scores(view, claim)
  theirs = verdict.baseline_scores(view, claim)
  lines += ["", f"| seed | {claim.metric} | baseline |", "|---|---|---|"]
  lines += [
    f"| {seed} | {a:.5f} | {b:.5f} |"
    for seed, a, b in zip(claim.seeds, mine, theirs, strict=True)
  ]
  lines += [
    "",
    f"Paired t test, two-sided: p {claim.p:.3g}; {claim.p_corrected:.3g} after "
    f"Holm's correction over all that entered verify (Programs: "
    f"{claim.entered}, comparisons: {claim.family}; {claim.proposed} "
    "candidates were ever proposed). The "
    f"sign-flip test says {claim.p_signs:.3g}; with {len(claim.seeds)} seeds "
    f"it cannot say less than {2 / 2 ** len(claim.seeds):.2g}.",
  ]
  found = over_windows(view, records, claim)
  if found is not None:
    gain, count = found
    lines += [
      "",
      f"Over the {count} windows of held-out data, seeds averaged: "
      f"{verdict.interval(gain.mean, gain.low, gain.high)} (95 % bootstrap; "
      "the verdict does not rest on it).",
    ]
  return lines


def _failed(view: View, claim: Claim) -> list[str]:
  lines = [
    f"- {row['metric']}: {row['verdict']}, gain "
    f"{verdict.interval(row['effect'], row['low'], row['high'])}"
    for row in claim.held
    if row["verdict"] != "held"
  ]
  lines += [
    f"- over {view.name_of(other.baseline)}: {other.verdict}, {other.why}"
    for other in verdict.comparisons(view)
    if other.program == claim.program and other.verdict != CLAIMED
  ]
  lines += [
    f"- {result.status} at {result.rung}: "
    f"{' '.join(result.error.split())[:160]}"
    for result in view.results_of.get(claim.program, ())
    if result.status != OK
  ]
  return lines or ["Nowhere that was looked at."]


def _limits(
  view: View, settings: RunSettings, track: Track, claim: Claim
) -> list[str]:
  facts = _report(view, claim.results)
  rung = settings.verify.rung
  lines = []
  if "parameters" in facts:
    lines.append(f"- Models of {facts['parameters']:,.0f} parameters.")
  if "tokens" in claim.budget:
    each = claim.budget["tokens"] / len(claim.seeds)
    lines.append(
      f"- {each:,.0f} tokens of training a seed, learning rates and suites "
      "included; nothing beyond."
    )
  if rung is not None and rung.options:
    lines.append(f"- One setting of everything else: `{rung.options}`.")
  lines.append(
    f"- {len(claim.seeds)} seeds; the t test trusts that seeds differ as a "
    "bell curve does."
  )
  if claim.metric != track.metric.name:
    lines.append(
      "- The t intervals are over training seeds alone. Every seed is scored "
      "on the same held-out data: of other data they say nothing."
    )
  if settings.judge.ratio:
    lines.append(
      f"- A model's marks were {settings.judge.ratio:.0%} of the fitness that "
      "chose what was edited; promotion and verify went by the metric alone."
    )
  kinds = ", ".join(claim.machines) or "not recorded"
  lines.append(f"- Measured on: {kinds}.")
  read = sum(not wave.control_seeds for wave in waves(view, settings))
  lines.append(
    f"- The held-out data was read by {read} verify "
    f"{'wave' if read == 1 else 'waves'} of this run."
  )
  return lines


def _cost(view: View, track: Track, claim: Claim) -> list[str]:
  name, over = view.name_of(claim.program), view.name_of(claim.baseline)
  lines = [f"| | {name} | {over} |", "|---|---|---|"]
  for key in dict.fromkeys((*claim.budget, *claim.baseline_budget)):
    lines.append(
      f"| {key.replace('_', ' ')}, all seeds | "
      f"{_figure(key, claim.budget)} | {_figure(key, claim.baseline_budget)} |"
    )
  mine, theirs = _facts(view, track, claim)
  for key in dict.fromkeys((*mine, *theirs)):
    lines.append(
      f"| {key.replace('_', ' ')} | {_figure(key, mine)} | "
      f"{_figure(key, theirs)} |"
    )
  return lines


def _repeat(settings: RunSettings, claim: Claim) -> list[str]:
  return [
    "On the same kind of machine the last command ends with the same bits "
    "(docs/claims.md):",
    "",
    "```sh",
    *claim.commands[:-1],
    "# Only where the run itself is not: from its archive.",
    "python -m launch.records import ARCHIVE.zip "
    f"--records={records_of(settings)}",
    *claim.commands[-1:],
    "```",
  ]


def _inspect(view: View, track: Track, claim: Claim) -> list[str]:
  lines = [
    f"- The source: `python -m launch.records show program/{claim.program}`. "
    "Does it do what its motivation says?"
  ]
  mine, theirs = _facts(view, track, claim)
  for key in sorted(set(mine) & set(theirs)):
    cost = key.endswith(
      ("_s", "_seconds", "_bytes", "_size", "flops_per_token")
    )
    if cost and theirs[key] > 0 and mine[key] > _DEARER * theirs[key]:
      lines.append(
        f"- {key.replace('_', ' ')} is {mine[key] / theirs[key]:.2f} times the "
        "baseline's: is the gain worth it, or bought by it?"
      )
  if claim.p_corrected > _CLOSE:
    lines.append(
      f"- The corrected p is {claim.p_corrected:.2g}: more seeds would tell "
      "(`launch.verify --program`)."
    )
  if len(claim.machines) > 1:
    lines.append("- The two sides were measured on different kinds of machine.")
  failed = [r["metric"] for r in claim.held if r["verdict"] == "failed"]
  if failed:
    lines.append(f"- It is worse on {', '.join(failed)}: why?")
  copies = [t for t in claim.results if view.results[t].copied_from]
  if copies:
    lines.append(
      "- Another Program computes exactly the same; it was measured for both."
    )
  lines.append(
    "- Whether the baseline is at its best under the settings above: they were "
    "the same for both, which is fair only if they suit both."
  )
  return lines


def _facts(
  view: View, track: Track, claim: Claim
) -> tuple[dict[str, float], dict[str, float]]:
  metrics = {metric.name for metric in track.metrics()}
  columns = tuple(c for c in track.columns() if c not in metrics)
  return (
    leaderboard.facts(_ok(view, claim.results), columns),
    leaderboard.facts(_ok(view, claim.baseline_results), columns),
  )


def _ok(view: View, tasks: Iterable[str]) -> Sequence[Result]:
  found = [view.results[task] for task in tasks if task in view.results]
  return [result for result in found if result.status == OK]


def _report(view: View, tasks: Iterable[str]) -> dict:
  return {k: v for r in _ok(view, tasks) for k, v in r.report.items()}


def _figure(name: str, values: dict[str, float]) -> str:
  return leaderboard.human(name, values.get(name))


def _docstring(view: View, program: str) -> str:
  record = view.programs.get(program)
  if record is None:
    return ""
  try:
    told = ast.get_docstring(ast.parse(record.source))
  except (SyntaxError, ValueError):
    return ""
  return " ".join((told or "").split())


def _slug(name: str) -> str:
  return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
