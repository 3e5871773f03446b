"""The space: every choice runs, is valid at margin 0, and differs in source."""

import ast
import random

import numpy as np
import pytest

from asi_evolve_jax.evaluation import source_policy
from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.tracks.circle_packing import run, score
from asi_evolve_jax.tracks.circle_packing.space import CirclePackingSpace

SPACE = CirclePackingSpace()
# Switches on the genes that its keys' conditions guard.
BASES = (
  {"optimiser": "slp", "search": "hopping", "move": "mixed", "effort": 5},
  {"optimiser": "slsqp", "search": "hopping", "move": "local"},
  {"optimiser": "penalty", "pattern": "even", "effort": 5},
)


def evaluate(genome, circles=26, work=8, seeds=(0,)):
  options = {"circles": circles, "work": work, "cpu_seconds": 60.0}
  source = SPACE.render(genome)
  ran = run.run(StageRequest(source, b"", seeds, options, "", "", 60.0))
  assert ran.status == "ok", f"{ran.error}\n{genome}"
  judged = score.run(
    StageRequest("", ran.payload, seeds, options, "", "", 60.0)
  )
  assert judged.status == "ok", f"{judged.error}\n{genome}"
  return ran.payload, [m["sum_of_radii"] for m in judged.metrics]


def choices():
  """One genome for every value of every gene, with that gene active."""
  found = {}
  for gene in SPACE.genes:
    for value in gene.values:
      for base in BASES:
        genome = SPACE.repair({**base, gene.name: value})
        if genome[gene.name] == value and (
          gene.active is None or gene.active(genome)
        ):
          found[f"{gene.name}={value}"] = genome
          break
      else:
        raise AssertionError(f"no base switches {gene.name} on")
  return found


@pytest.mark.parametrize("name", choices())
def test_every_choice_gives_valid_packings(name):
  # 12 circles: quicker, and no pattern is made for 26 alone.
  _, sums = evaluate(choices()[name], circles=12, work=6)
  assert 0.5 < sums[0] < 1.8


def test_random_genomes_are_valid_at_26():
  rng = random.Random(7)
  for _ in range(6):
    _, sums = evaluate(SPACE.sample(rng), work=12)
    assert 0.5 < sums[0] < 2.636


@pytest.mark.parametrize("circles", [5, 7, 16, 25, 40])
def test_patterns_fit_any_number(circles):
  for pattern in SPACE.genes[0].values:
    genome = SPACE.repair({"pattern": pattern, "noise": 0.01})
    evaluate(genome, circles=circles, work=1)


@pytest.mark.parametrize("optimiser", ["slp", "slsqp", "penalty", "alternate"])
def test_a_program_repeats_itself_and_heeds_its_seed(optimiser):
  genome = SPACE.repair({"optimiser": optimiser, "search": "hopping"})
  payload, sums = evaluate(genome, seeds=(1, 2))
  assert evaluate(genome, seeds=(1, 2))[0] == payload
  assert sums[0] != sums[1]


def test_optimisers_improve_on_fixed_centres():
  fixed = SPACE.repair({"optimiser": "fixed"})
  _, before = evaluate(fixed, work=10, seeds=(0, 1))
  for optimiser in ("slp", "slsqp", "penalty", "alternate"):
    genome = SPACE.repair({"optimiser": optimiser})
    _, after = evaluate(genome, work=10, seeds=(0, 1))
    assert np.all(np.subtract(after, before) > 0.1), optimiser


def test_more_work_finds_more():
  genome = SPACE.repair({"optimiser": "slp", "search": "hopping"})
  _, little = evaluate(genome, work=10)
  _, much = evaluate(genome, work=150)
  assert much[0] > max(2.59, little[0])


def test_distinct_genomes_have_distinct_sources():
  rng = random.Random(0)
  seen = {}
  for _ in range(20):
    genome = SPACE.sample(rng)
    neighbours = [SPACE.apply(genome, [m]) for m in SPACE.moves(genome)]
    for g in (genome, *rng.sample(neighbours, 4)):
      key = program_id(SPACE.render(g))
      assert seen.setdefault(key, g) == g
  assert len(seen) > 80


def test_sources_are_readable_and_hold_only_what_is_used():
  rng = random.Random(1)
  for _ in range(40):
    genome = SPACE.sample(rng)
    source = SPACE.render(genome)
    source_policy.check(source, run.ALLOWED_IMPORTS)
    assert "$" not in source
    lines = source.splitlines()
    assert max(map(len, lines)) <= 80
    assert 70 <= len(lines) <= 220
    tree = ast.parse(source)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    imported = {
      (alias.asname or alias.name)
      for n in tree.body
      if isinstance(n, (ast.Import, ast.ImportFrom))
      for alias in n.names
    }
    assert (defined | imported) - used <= {"pack"}


def test_inactive_genes_change_nothing():
  genome = SPACE.repair({"optimiser": "slp", "search": "restarts"})
  changed = {**genome, "stiffness": 100.0, "temperature": 0.004}
  assert SPACE.repair(changed) == genome
  assert SPACE.render(changed) == SPACE.render(genome)


def test_titles_name_the_method():
  genome = SPACE.repair({"optimiser": "slp", "search": "hopping"})
  assert SPACE.title(genome) == "slp hopping/jitter from random"
