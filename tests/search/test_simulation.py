"""UCB1 against the other samplers where the truth is known."""

import numpy as np
from scipy import stats

from asi_evolve_jax.search.simulation import Tree, compare, simulate
from asi_evolve_jax.settings import SamplerSettings

SEEDS = range(1000, 1120)


def interval(differences):
  """Returns the 95 % t interval of the mean of paired differences."""
  mean = np.mean(differences)
  half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
  return mean - half, mean + half


def test_ucb1_beats_random_and_greedy_where_some_programs_are_dead_ends():
  final = compare(("ucb1", "greedy", "random"), Tree(), SEEDS)
  ucb1 = np.asarray(final["ucb1"])
  for other in ("greedy", "random"):
    low, _ = interval(ucb1 - np.asarray(final[other]))
    assert low > 0, other


def test_greedy_is_ahead_where_there_is_none():
  # Not a wish: exploring costs rounds, and the simulation must show that too.
  tree = Tree(fertility=-0.3, fertility_spread=0.0)
  final = compare(("ucb1", "greedy"), tree, SEEDS)
  low, _ = interval(np.asarray(final["greedy"]) - np.asarray(final["ucb1"]))
  assert low > 0


def test_a_seed_names_a_search():
  settings = SamplerSettings(name="ucb1")
  assert simulate(settings, Tree(), 3) == simulate(settings, Tree(), 3)
  assert simulate(settings, Tree(), 3) != simulate(settings, Tree(), 4)
