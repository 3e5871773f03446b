"""The symbolic proposer against random sampling, on an objective we know.

The objective is a sum of normal effects of features and of pairs of features;
measurements have noise. Both searches start from the same Programs, get the
same number of rounds and the same sampler; only the proposer differs.
"""

import math
import random

import numpy as np
import pytest
from scipy import stats

from asi_evolve_jax.evaluation.statistics import feature_effects
from asi_evolve_jax.programs.genome import Gene, Space
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import Context, Known
from asi_evolve_jax.proposers.registry import make_proposer
from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.registry import make_sampler
from asi_evolve_jax.settings import ResearcherSettings, SamplerSettings

RUNG = "quick"
ROUNDS, STARTS, BATCH = 24, 5, 4
NOISE = 0.3  # standard deviations of one feature's effect
PAIRS = 0.25  # standard deviation of a pair's effect
SEEDS = range(24)


class Grid(Space):
  """Eight genes of four values: 65,536 Programs."""

  genes = tuple(Gene(f"g{i}", (0, 1, 2, 3), 0) for i in range(8))

  def render(self, genome):
    return f"genome = {tuple(genome.values())!r}\n"

  def title(self, genome):
    return "".join(map(str, genome.values()))


SPACE = Grid()


def objective(seed):
  """Returns genome -> quality, larger is better."""

  def effect(deviation, *features):
    return random.Random(f"{seed}/{features}").gauss(0.0, deviation)

  def quality(genome):
    names = SPACE.features(genome)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    return math.fsum(
      [effect(1.0, name) for name in names]
      + [effect(PAIRS, a, b) for a, b in pairs]
    )

  return quality


class Search:
  """A loop without processes: propose, measure, learn."""

  def __init__(self, proposer, seed, use_effects):
    self.proposer = make_proposer(proposer)
    self.quality = objective(seed)
    self.seed = seed
    self.use_effects = use_effects
    self.noise = random.Random(f"{seed}/noise")
    self.view = View("score", "maximize")
    self.truth, self.rows, self.scores = {}, [], []
    start = random.Random(f"{seed}/start")
    for _ in range(STARTS):
      self.measure(SPACE.sample(start), (), 0)

  def measure(self, genome, parents, number):
    program = program_id(SPACE.render(genome))
    self.truth[program] = self.quality(genome)
    self.rows.append(SPACE.features(genome))
    self.scores.append(self.truth[program] + self.noise.gauss(0.0, NOISE))
    self.view.update(
      [
        schema.Proposal(
          program=program,
          track="grid",
          name=SPACE.title(genome),
          author="study",
          round=number,
          operator="",
          motivation="",
          parents=parents,
          genome=genome,
        ),
        schema.Result(
          task=program,
          program=program,
          rung=RUNG,
          seeds=(0,),
          purpose=schema.SEARCH,
          status=schema.OK,
          metrics=({"score": self.scores[-1]},),
        ),
      ]
    )

  def known(self, program):
    proposal = self.view.proposal_of[program]
    score = self.view.score(program, RUNG)
    return Known(program, proposal.name, proposal.genome, score)

  def run(self):
    """Returns the quality of the Program with the best score."""
    effects = {}
    for number in range(1, ROUNDS + 1):
      if self.use_effects and number % BATCH == 1 and len(self.rows) > 5:
        found = feature_effects(
          self.rows, self.scores, choice=lambda f: f.partition("=")[0]
        )
        effects = {e.feature: (e.effect, e.low, e.high, e.n) for e in found}
      rng = random.Random(f"{self.seed}/{number}")
      sample = make_sampler(SamplerSettings(), rng).sample(self.view, RUNG)
      draft = self.proposer.propose(
        Context(
          space=SPACE,
          parent=self.known(sample.parent),
          references=tuple(map(self.known, sample.references)),
          knowledge=(),
          effects=effects,
          known=self.truth.__contains__,
          rng=rng,
          settings=ResearcherSettings(),
        )
      )
      self.measure(draft.genome, draft.parents, number)
    return self.truth[self.view.best(RUNG)]


@pytest.fixture(scope="module")
def final():
  """Quality at the end of a search, [seeds], by arm."""
  arms = {
    "random": ("random", False),
    "blind": ("symbolic", False),
    "symbolic": ("symbolic", True),
  }
  return {
    arm: np.asarray([Search(proposer, seed, effects).run() for seed in SEEDS])
    for arm, (proposer, effects) in arms.items()
  }


def low_end(differences):
  """Returns the lower end of the 95 % t interval of the mean."""
  half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
  return np.mean(differences) - half


def test_symbolic_beats_random_sampling_by_an_interval(final):
  assert low_end(final["symbolic"] - final["random"]) > 0


def test_measured_effects_are_worth_having(final):
  assert low_end(final["symbolic"] - final["blind"]) > 0
