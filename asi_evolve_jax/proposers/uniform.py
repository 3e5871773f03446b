"""Random sampling of the space: the control that a search has to beat."""

from __future__ import annotations

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Rejection,
)
from asi_evolve_jax.proposers.guidance import obey
from asi_evolve_jax.proposers.repair import mend

_TRIES = 200


class Uniform:
  """Draws genomes uniformly, whatever is known about them."""

  reads = False

  def propose(self, context: Context) -> Draft:
    """See proposers.base.Proposer."""
    for _ in range(_TRIES):
      genome = obey(context, context.space.sample(context.rng))
      source = context.space.render(genome)
      if not context.known(program_id(source)):
        return Draft(
          source=source,
          genome=genome,
          name=context.space.title(genome),
          motivation="Drawn uniformly from the space.",
          operator="sample",
          parents=(),
        )
    raise Exhausted(
      f"{_TRIES} draws gave only known Programs: the space is all but used up."
    )

  def repair(self, context: Context, rejection: Rejection) -> Draft:
    """See proposers.base.Proposer."""
    return mend(context, rejection, lambda name: context.rng.random())
