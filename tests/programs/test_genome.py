"""Genomes: canonical form, moves, crossover."""

import random

import pytest

from asi_evolve_jax.programs.genome import Gene, Space


class _Toy(Space):
  genes = (
    Gene("decay", ("none", "scalar"), "none"),
    Gene(
      "rate",
      (1, 2, 4),
      1,
      ordered=True,
      active=lambda g: g["decay"] == "scalar",
    ),
  )

  def render(self, genome):
    return repr(sorted(genome.items()))

  def title(self, genome):
    return genome["decay"]


def test_inactive_genes_are_held_at_their_default():
  space = _Toy()
  assert space.repair({"decay": "none", "rate": 4})["rate"] == 1
  assert space.repair({"decay": "scalar", "rate": 4})["rate"] == 4


def test_unknown_genes_and_values_are_refused():
  with pytest.raises(ValueError, match="unknown genes"):
    _Toy().repair({"decya": "none"})
  with pytest.raises(ValueError, match="rate cannot be 3"):
    _Toy().repair({"decay": "scalar", "rate": 3})


def test_a_recorded_genome_has_a_place_or_none():
  assert _Toy().place({"decay": "none"}) == {"decay": "none", "rate": 1}
  assert _Toy().place({"decay": "of old"}) is None
  assert _Toy().place(None) is None


def test_moves_change_the_canonical_genome_and_lead_to_it():
  space = _Toy()
  start = space.repair({})
  assert [m.gene for m in space.moves(start)] == ["decay"]
  for move in space.moves(start):
    changed = space.apply(start, [move])
    assert changed != start
    assert space.difference(start, changed) == (move,)


def test_features_leave_out_what_is_switched_off():
  space = _Toy()
  assert space.features(space.repair({})) == ("decay=none",)
  assert set(space.features(space.repair({"decay": "scalar"}))) == {
    "decay=scalar",
    "rate=1",
  }


def test_crossover_takes_each_gene_from_a_parent():
  space = _Toy()
  a = space.repair({"decay": "scalar", "rate": 2})
  b = space.repair({"decay": "scalar", "rate": 4})
  rng = random.Random(0)
  seen = {space.crossover(a, b, rng)["rate"] for _ in range(50)}
  assert seen == {2, 4}
