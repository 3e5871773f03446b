"""Mending a Program that a gate rejected: which genes to change, and to what.

Suspects are tried first: the genes that the rejected Program changed (its
parent had passed), among them those that the space ties to the gate, then the
other genes that the space names, then the rest; within each group the one
whose value most of the Programs that had it were rejected with at this gate.
As few genes as possible change.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from asi_evolve_jax.programs.genome import Genome, Move, feature
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Rejection,
  gene_named,
)
from asi_evolve_jax.proposers.guidance import obey
from asi_evolve_jax.proposers.motivation import used_knowledge

_TRIES = 200
_MOST_GENES = 3  # changed at once
_SUSPECTS = 8  # genes that are combined


def mend(
  context: Context, rejection: Rejection, draw: Callable[[str], float]
) -> Draft:
  """Returns a Draft that differs from the rejected Program where it failed.

  Args:
    context: its parent is the rejected Program.
    rejection: what happened.
    draw: feature -> how good it seems; orders the values of a gene that were
      rejected equally often.

  Raises:
    Exhausted: if it has no genome, or no Program that is not known is near.
  """
  rejected = context.parent
  if rejected.genome is None:
    raise Exhausted(f"{rejected.name} has no genome: nothing to change in it.")
  space = context.space
  tried = _variants(context, rejection, draw, rejected.genome)
  for genome in itertools.islice(tried, _TRIES):
    if genome == rejected.genome:
      continue
    source = space.render(genome)
    if context.known(program_id(source)):
      continue
    moves = space.difference(rejected.genome, genome)
    return Draft(
      source=source,
      genome=genome,
      name=space.title(genome),
      motivation=_motivation(context, rejection, moves),
      operator="repair",
      parents=(rejected.program,),
      changes=tuple(
        {"gene": m.gene, "old": m.old, "new": m.new, "why": why}
        for m in moves
        for why in [_why(context, rejection, m)]
      ),
      knowledge=used_knowledge(context, moves),
    )
  raise Exhausted(
    f"{_TRIES} ways to mend {rejected.name} gave only known Programs."
  )


def suspects(context: Context, rejection: Rejection) -> list[str]:
  """Returns the genes that may be at fault, the first one most likely."""
  genome = context.parent.genome
  assert genome is not None
  space = context.space
  named = space.suspects(rejection.gate, rejection.message)
  active = {name.partition("=")[0] for name in space.features(genome)}

  def order(gene: str) -> tuple[int, float, int]:
    changed, tied = gene in rejection.changed, gene in named
    group = 0 if changed and tied else 1 if changed else 2 if tied else 3
    rate = rejection.rate(feature(gene, genome[gene]))
    return group, -rate, named.index(gene) if tied else len(named)

  return sorted((g.name for g in space.genes if g.name in active), key=order)


def _variants(
  context: Context,
  rejection: Rejection,
  draw: Callable[[str], float],
  genome: Genome,
) -> Iterator[Genome]:
  """Yields genomes near the rejected one, the most promising first."""
  genes = suspects(context, rejection)[:_SUSPECTS]
  values = {gene: _values(context, rejection, draw, gene) for gene in genes}
  for count in range(1, _MOST_GENES + 1):
    for chosen in itertools.combinations(genes, count):
      for new in itertools.product(*(values[gene] for gene in chosen)):
        changed = {**genome, **dict(zip(chosen, new, strict=True))}
        yield obey(context, context.space.repair(changed))


def _values(
  context: Context,
  rejection: Rejection,
  draw: Callable[[str], float],
  gene: str,
) -> list[Any]:
  """Returns the other values of `gene`: what its parent had comes first."""
  genome = context.parent.genome
  assert genome is not None
  others = list(gene_named(context.space, gene).values)
  others.remove(genome[gene])

  def order(value: Any) -> tuple[bool, float, float]:
    name = feature(gene, value)
    before = gene in rejection.changed and rejection.changed[gene] == value
    return not before, rejection.rate(name), -draw(name)

  return sorted(others, key=order)


def _why(context: Context, rejection: Rejection, move: Move) -> str:
  said = []
  if move.gene in rejection.changed:
    said.append("Changed by what was rejected; its parent had passed.")
  if move.gene in context.space.suspects(rejection.gate, rejection.message):
    said.append(f"It bears on the gate {rejection.gate}.")
  bad, tried = rejection.counts.get(feature(move.gene, move.old), (0, 0))
  if bad:
    said.append(
      f"{bad} of {tried} Programs with {move.gene}={move.old} were rejected "
      "there."
    )
  return " ".join(said) or "Nothing else was left to try."


def _motivation(
  context: Context, rejection: Rejection, moves: tuple[Move, ...]
) -> str:
  lines = [
    f"Repair of {context.parent.name}, which the gate {rejection.gate} "
    f"rejected: {rejection.message}"
  ]
  lines += [
    f"- {m.gene} {m.old} -> {m.new}. {_why(context, rejection, m)}"
    for m in moves
  ]
  return "\n".join(lines)
