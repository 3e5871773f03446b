"""The Researcher's hand without a model: moves in a typed genome.

Moves, and crossovers out of a few, are chosen by Thompson sampling over an
additive model of the score: each feature ("gene=value") has a belief, normal,
about its effect. What was measured is the Analyzer's posterior; what was not
has a prior around zero, as wide as the effects are large, moved up or down by
what retrieved knowledge suggests or warns of. One draw of all beliefs ranks
what could be done. So a feature is tried about as often as it is likely to be
the best one: known gains are used, the unknown keeps being explored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from asi_evolve_jax.programs.genome import Genome, Move, Space, feature
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Draft,
  Exhausted,
  Known,
  Rejection,
  gene_named,
)
from asi_evolve_jax.proposers.guidance import obey
from asi_evolve_jax.proposers.motivation import (
  changes,
  motivation,
  used_knowledge,
)
from asi_evolve_jax.proposers.repair import mend

_TRIES = 200
_WIDEN_AFTER = 15  # known Programs, one more move each time
_LAST_RESORT = 45  # from this try on, look anywhere
_MOVES = (1, 1, 1, 2, 2, 3)  # moves of one mutation, drawn evenly
_Z = 1.96  # half width of a 95 % interval in standard deviations
# Of the prior's deviation: how far the most relevant item moves a belief.
_KNOWLEDGE_SHIFT = 1.0
# Crossovers of two parents that one draw of beliefs chooses from.
_LITTER = 8
# Share of moves of ordered genes beyond a neighbouring value that are kept.
_FAR_STEPS = 0.3


class Symbolic:
  """Mutation, crossover and fresh samples, weighted by what is known."""

  reads = False

  def propose(self, context: Context) -> Draft:
    """See proposers.base.Proposer."""
    for attempt in range(_TRIES):
      if attempt < _LAST_RESORT:
        draft = self._try(context, widen=attempt // _WIDEN_AFTER)
      else:
        draft = _fresh(context)
      if not context.known(program_id(draft.source)):
        return draft
    raise Exhausted(
      f"{_TRIES} tries around {context.parent.name} and anywhere gave only "
      "known Programs: the space is all but used up."
    )

  def repair(self, context: Context, rejection: Rejection) -> Draft:
    """See proposers.base.Proposer."""
    return mend(context, rejection, _Beliefs(context).draw)

  def _try(self, context: Context, widen: int) -> Draft:
    rng, settings = context.rng, context.settings
    draw = rng.random()
    mates = [
      r
      for r in context.references
      if r.genome is not None and r.genome != context.parent.genome
    ]
    if context.parent.genome is None or draw < settings.fresh:
      return _fresh(context)
    if mates and draw < settings.fresh + settings.crossover:
      return _crossover(context, rng.choice(mates), widen)
    return _mutation(context, rng.choice(_MOVES) + widen)


def _fresh(context: Context) -> Draft:
  genome = obey(context, context.space.sample(context.rng))
  return Draft(
    source=context.space.render(genome),
    genome=genome,
    name=context.space.title(genome),
    motivation=(
      "A fresh sample of the space, so that the search does not only look "
      "around what it has found."
    ),
    operator="sample",
    parents=(),
  )


def _mutation(context: Context, count: int) -> Draft:
  parent = context.parent
  assert parent.genome is not None
  moves = choose_moves(context, parent.genome, count)
  genome = context.space.apply(parent.genome, moves)
  return _draft(context, genome, "mutate", (parent,))


def _crossover(context: Context, mate: Known, widen: int) -> Draft:
  parent = context.parent
  assert parent.genome is not None
  assert mate.genome is not None
  beliefs = _Beliefs(context)
  litter = [
    context.space.crossover(parent.genome, mate.genome, context.rng)
    for _ in range(_LITTER)
  ]
  new = [g for g in litter if g not in (parent.genome, mate.genome)]
  genome = max(new or litter, key=lambda g: beliefs.value(context.space, g))
  if widen or not new:
    genome = context.space.apply(
      genome, choose_moves(context, genome, 1 + widen)
    )
  return _draft(context, genome, "crossover", (parent, mate))


def choose_moves(context: Context, genome: Genome, count: int) -> list[Move]:
  """Returns up to `count` moves of different genes, drawn as said above."""
  beliefs = _Beliefs(context)
  scored = []
  for move in context.space.moves(genome):
    if _is_far(context, move) and context.rng.random() > _FAR_STEPS:
      continue
    gain = beliefs.draw(move.feature) - beliefs.draw(
      feature(move.gene, move.old)
    )
    scored.append((gain, move))
  scored.sort(key=lambda entry: -entry[0])
  chosen: list[Move] = []
  for _, move in scored:
    if move.gene not in {m.gene for m in chosen}:
      chosen.append(move)
    if len(chosen) == count:
      break
  return chosen


class _Beliefs:
  """One joint draw of the effects of all features."""

  def __init__(self, context: Context):
    self._rng = context.rng
    self._effects = context.effects
    # As wide as what is known: effects and the doubt about them.
    squares = [
      effect**2 + ((high - low) / (2 * _Z)) ** 2
      for effect, low, high, _ in context.effects.values()
      if math.isfinite(effect) and math.isfinite(high - low)
    ]
    self._prior = math.sqrt(math.fsum(squares) / max(len(squares), 1)) or 1.0
    self._shift = _knowledge_shift(context)
    self._drawn: dict[str, float] = {}

  def draw(self, name: str) -> float:
    """Returns the effect of feature `name` in this draw."""
    if name not in self._drawn:
      mean, deviation = self._belief(name)
      self._drawn[name] = self._rng.gauss(mean, deviation)
    return self._drawn[name]

  def value(self, space: Space, genome: Genome) -> float:
    """Returns the sum of the effects of a genome's features."""
    return math.fsum(self.draw(name) for name in space.features(genome))

  def _belief(self, name: str) -> tuple[float, float]:
    shift = self._prior * self._shift.get(name, 0.0)
    if name not in self._effects:
      return shift, self._prior
    effect, low, high, n = self._effects[name]
    deviation = (high - low) / (2 * _Z)
    if not math.isfinite(deviation):
      deviation = self._prior
    # What was read counts as one more observation beside n measured ones.
    return effect + shift / (1 + n), deviation


def _knowledge_shift(context: Context) -> dict[str, float]:
  """Returns feature -> shift of its belief, in deviations of the prior.

  The most relevant item that speaks of a feature moves it most, the others by
  their share of that one's relevance; for and against cancel out.
  """
  most = max((item.weight for item in context.knowledge), default=0.0)
  shift: dict[str, float] = {}
  if most <= 0:
    return shift
  for item in context.knowledge:
    step = _KNOWLEDGE_SHIFT * max(item.weight, 0.0) / most
    for name in item.suggests:
      shift[name] = shift.get(name, 0.0) + step
    for name in item.warns:
      shift[name] = shift.get(name, 0.0) - step
  return shift


def _is_far(context: Context, move: Move) -> bool:
  gene = gene_named(context.space, move.gene)
  if not gene.ordered:
    return False
  places = gene.values.index(move.old), gene.values.index(move.new)
  return abs(places[0] - places[1]) > 1


def _draft(
  context: Context, genome: Genome, operator: str, parents: Sequence[Known]
) -> Draft:
  base = parents[0]
  assert base.genome is not None
  genome = obey(context, genome)
  moves = context.space.difference(base.genome, genome)
  return Draft(
    source=context.space.render(genome),
    genome=genome,
    name=context.space.title(genome),
    motivation=motivation(context, operator, parents, moves),
    operator=operator,
    parents=tuple(p.program for p in parents),
    changes=changes(context, moves),
    knowledge=used_knowledge(context, moves),
  )
