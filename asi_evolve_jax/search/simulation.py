"""A simulated search tree: samplers on a bandit whose truth is known.

Every Program has a hidden quality and a hidden fertility. A child's quality is
its parent's plus a step, normal around the parent's fertility; its own
fertility is drawn anew. Scores are qualities with noise. On average a child is
worse than its parent, and some good Programs are dead ends: who always edits
the best is stuck there, who edits any of them wastes rounds on worse ones.

The simulation knows nothing of language models, genomes or training. It shows
that a policy does what its name says where exploration pays, not how much
exploration a track needs: with `fertility_spread` 0 there are no dead ends,
and greedy is ahead of UCB1.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.samplers import make_sampler
from asi_evolve_jax.settings import SamplerSettings

RUNG = "simulated"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree:
  """Setting of a simulated search; scores are minimised.

  Attributes:
    founders: Programs at the start, of quality normal with deviation 1.
    rounds: children made, one after another.
    fertility: mean of the fertilities.
    fertility_spread: their standard deviation.
    step: standard deviation of a child's step around its parent's fertility.
    noise: standard deviation of a score around the quality.
  """

  founders: int = 6
  rounds: int = 100
  fertility: float = -0.5
  fertility_spread: float = 0.5
  step: float = 0.5
  noise: float = 0.3


def simulate(settings: SamplerSettings, tree: Tree, seed: int) -> float:
  """Runs one search.

  Args:
    settings: of the sampler.
    tree: the setting.
    seed: of everything that is drawn.

  Returns:
    The quality, not the score, of the Program with the best score.
  """
  rng = random.Random(seed)
  sampler = make_sampler(settings, random.Random(f"{seed}/sampler"))
  view = View("score", "minimize")
  quality: dict[str, float] = {}
  fertility: dict[str, float] = {}

  def add(value: float, parents: tuple[str, ...]) -> None:
    program = f"{len(quality):012d}"
    quality[program] = value
    fertility[program] = rng.gauss(tree.fertility, tree.fertility_spread)
    score = -value + rng.gauss(0.0, tree.noise)
    view.update(_records(program, len(quality), parents, score))

  for _ in range(tree.founders):
    add(rng.gauss(0.0, 1.0), ())
  for _ in range(tree.rounds):
    parent = sampler.sample(view, RUNG).parent
    step = rng.gauss(fertility[parent], tree.step)
    add(quality[parent] + step, (parent,))
  best = view.best(RUNG)
  assert best is not None
  return quality[best]


def compare(
  policies: Sequence[str], tree: Tree, seeds: Sequence[int]
) -> dict[str, list[float]]:
  """Returns policy -> final quality of each seed, paired over policies."""
  return {
    name: [simulate(SamplerSettings(name=name), tree, seed) for seed in seeds]
    for name in policies
  }


def _records(
  program: str, number: int, parents: tuple[str, ...], score: float
) -> list[schema.Record]:
  return [
    schema.Proposal(
      program=program,
      track="simulation",
      name=program,
      author="simulation",
      round=number,
      operator="mutate" if parents else "sample",
      motivation="",
      parents=parents,
    ),
    schema.Result(
      task=program,
      program=program,
      rung=RUNG,
      seeds=(0,),
      purpose=schema.SEARCH,
      status=schema.OK,
      metrics=({"score": score},),
    ),
  ]
