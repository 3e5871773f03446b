"""What people asked for, made true of a genome."""

from __future__ import annotations

from asi_evolve_jax.programs.genome import Genome
from asi_evolve_jax.proposers.base import Context


def obey(context: Context, genome: Genome) -> Genome:
  """Returns `genome` with what people prefer set and what they avoid unset.

  A gene that does not matter in this genome stays as it is. Where all values
  of a gene are to be avoided, or the space allows no other, nothing changes.
  """
  space = context.space
  for word in context.guidance:
    for name in word.prefer:
      gene, value = space.parse(name)
      genome = space.repair({**genome, gene.name: value})
  unwanted = {name for word in context.guidance for name in word.avoid}
  for name in sorted(unwanted):
    if name not in space.features(genome):
      continue
    gene, _ = space.parse(name)
    values = list(gene.values)
    context.rng.shuffle(values)
    for value in values:
      other = space.repair({**genome, gene.name: value})
      if unwanted.isdisjoint(space.features(other)):
        genome = other
        break
  return genome
