"""Words for a move: what changes and what speaks for and against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asi_evolve_jax.programs.genome import Move, feature
from asi_evolve_jax.proposers.base import Context, Known, gene_named


def changes(
  context: Context, moves: Sequence[Move]
) -> tuple[dict[str, Any], ...]:
  """Returns moves as a Proposal records them."""
  return tuple(
    {"gene": m.gene, "old": m.old, "new": m.new, "why": reasons(context, m)}
    for m in moves
  )


def used_knowledge(context: Context, moves: Sequence[Move]) -> tuple[str, ...]:
  """Returns ids of the items that speak for one of the moves."""
  new = {move.feature for move in moves}
  old = {feature(move.gene, move.old) for move in moves}
  return tuple(
    item.id
    for item in context.knowledge
    if new & set(item.suggests) or old & set(item.warns)
  )


def motivation(
  context: Context,
  operator: str,
  parents: Sequence[Known],
  moves: Sequence[Move],
) -> str:
  """Returns the text of a Proposal that edits `parents[0]`: a line a move."""
  base = parents[0]
  score = "" if base.score is None else f" (score {base.score:.6g})"
  start = f"From {base.name}{score}"
  if operator == "crossover":
    start += f", crossed with {parents[1].name}"
  lines = [f"{start}:"]
  for move in moves:
    doc = gene_named(context.space, move.gene).doc
    about = f" ({doc})" if doc else ""
    lines.append(
      f"- {move.gene} {move.old} -> {move.new}{about}. {reasons(context, move)}"
    )
  return "\n".join(lines)


def reasons(context: Context, move: Move) -> str:
  """Returns what is measured and known of the move's two values."""
  old = feature(move.gene, move.old)
  said = []
  for name, value in ((move.feature, "new"), (old, "old")):
    if name in context.effects:
      effect, low, high, n = context.effects[name]
      said.append(
        f"Measured effect of the {value} value {effect:+.3g} "
        f"[{low:+.3g}, {high:+.3g}], {n} Programs."
      )
  for item in context.knowledge:
    if move.feature in item.suggests:
      said.append(f"{item.id} suggests it.")
    if move.feature in item.warns:
      said.append(f"{item.id} warns of it: to be checked.")
    if old in item.warns:
      said.append(f"{item.id} warns of {old}.")
  for word in context.guidance:
    if move.feature in word.prefer:
      said.append(f"{word.by} prefers it ({word.id}).")
    if old in word.avoid:
      said.append(f"{word.by} wants {old} avoided ({word.id}).")
  return " ".join(said) or "Not measured yet."
