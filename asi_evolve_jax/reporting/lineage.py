"""The line of first parents of a Program: how it came about."""

from __future__ import annotations

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import Proposal
from asi_evolve_jax.settings import RunSettings


def chain(view: View, program: str) -> list[Proposal]:
  """Returns the first Proposals of a Program's first parents, oldest first.

  The last one is the Program's own.
  """
  found: list[Proposal] = []
  current: str | None = program
  while current is not None and current in view.proposal_of:
    proposal = view.proposal_of[current]
    if proposal in found:
      break
    found.append(proposal)
    current = proposal.parents[0] if proposal.parents else None
  return found[::-1]


def text(view: View, program: str, settings: RunSettings) -> str:
  """Returns the line as Markdown, with what each step changed and taught."""
  lines = ["# How the best Program came about\n"]
  for proposal in chain(view, program):
    lines.append(f"## Round {proposal.round}: {proposal.name}\n")
    lines.append(f"Program `{proposal.program}`, {proposal.operator}.")
    for rung in settings.ladder:
      score = view.score(proposal.program, rung.name)
      if score is not None:
        lines.append(f"Score at {rung.name}: {score:.6g}.")
    lines.append(f"\n{proposal.motivation}\n")
    for change in proposal.changes:
      lines.append(f"- {change['gene']}: {change['old']} -> {change['new']}")
    for analysis in view.analyses_of.get(proposal.program, [])[-1:]:
      quoted = analysis.text.strip().replace("\n", "\n> ")
      lines.append(f"\n> {quoted}")
    lines.append("")
  return "\n".join(lines)
