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
from collections.abc import Mapping, Sequence
from typing import Any

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.settings import SamplerSettings
from asi_evolve_jax.tracks.base import Axis

RUNG = "simulated"
LINE = Axis("line")  # the founder that a Program descends from


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
  chance = random.Random(f"{seed}/sampler")
  sampler = make_sampler(settings, chance, (LINE,))
  view = View("score", "minimize")
  quality: dict[str, float] = {}
  fertility: dict[str, float] = {}

  line: dict[str, str] = {}

  def add(value: float, round_number: int, parent: str, island: int) -> None:
    program = f"{len(quality):012d}"
    quality[program] = value
    fertility[program] = rng.gauss(tree.fertility, tree.fertility_spread)
    score = -value + rng.gauss(0.0, tree.noise)
    line[program] = line.get(parent, program)
    view.update(
      node(
        program,
        score,
        round_number=round_number,
        parent=parent,
        island=island,
        genome={LINE.name: line[program]},
      )
    )

  for _ in range(tree.founders):
    add(rng.gauss(0.0, 1.0), 0, "", 0)
  for number in range(1, tree.rounds + 1):
    sample = sampler.sample(view, RUNG, round_number=number)
    step = rng.gauss(fertility[sample.parent], tree.step)
    value = quality[sample.parent] + step
    add(value, number, sample.parent, sample.island)
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


def node(
  program: str,
  score: float,
  *,
  round_number: int,
  parent: str = "",
  island: int = 0,
  genome: dict[str, Any] | None = None,
  numbers: Mapping[str, float] | None = None,
) -> list[schema.Record]:
  """Returns the Proposal and the Result of a node of a tree.

  Args:
    program: its id.
    score: as it was measured at rung RUNG, under the name "score".
    round_number: 0 for founders.
    parent: its parent's id, "" for founders.
    island: where it lives.
    genome, numbers: what axes can tell it apart by.
  """
  return [
    schema.Proposal(
      program=program,
      track="simulation",
      name=program,
      author="simulation",
      round=round_number,
      operator="mutate" if parent else "sample",
      motivation="",
      parents=(parent,) if parent else (),
      genome=genome,
      island=island,
    ),
    schema.Result(
      task=program,
      program=program,
      rung=RUNG,
      seeds=(0,),
      purpose=schema.SEARCH,
      status=schema.OK,
      metrics=({"score": score, **(numbers or {})},),
    ),
  ]
