"""Proposers over a small Space: what steers them; that they never repeat."""

import collections
import dataclasses
import random

import pytest

from asi_evolve_jax.programs.genome import Gene, Space, feature
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import Context, Exhausted, Knowledge, Known
from asi_evolve_jax.proposers.registry import make_proposer
from asi_evolve_jax.settings import ResearcherSettings, SettingsError

MUTATE = ResearcherSettings(crossover=0.0, fresh=0.0)


class Letters(Space):
  """Four genes of five letters; the last counts only if the first is "b"."""

  genes = (
    Gene("w", tuple("abcde"), "a", doc="first letter"),
    Gene("x", tuple("abcde"), "a"),
    Gene("y", (0, 1, 2, 3, 4), 0, ordered=True),
    Gene("z", tuple("abcde"), "a", active=lambda g: g["w"] == "b"),
  )

  def render(self, genome):
    return f"word = {tuple(genome.values())!r}\n"

  def title(self, genome):
    return "".join(str(value) for value in genome.values())


SPACE = Letters()


def known_program(genome, score=1.0):
  genome = SPACE.repair(genome) if genome is not None else None
  source = SPACE.render(genome) if genome is not None else "yardstick"
  return Known(
    program=program_id(source),
    name=SPACE.title(genome) if genome is not None else "yardstick",
    genome=genome,
    score=score,
  )


PARENT = known_program({"w": "a", "x": "b", "y": 2})


def context(seed=0, **changes):
  made = Context(
    space=SPACE,
    parent=PARENT,
    references=(),
    knowledge=(),
    effects={},
    known=lambda program: program == PARENT.program,
    rng=random.Random(seed),
    settings=MUTATE,
  )
  return dataclasses.replace(made, **changes)


def drafts(count=200, **changes):
  proposer = make_proposer("symbolic")
  return [proposer.propose(context(seed, **changes)) for seed in range(count)]


def set_to(found):
  """Counts the features that Drafts set."""
  return collections.Counter(
    f"{c['gene']}={c['new']}" for draft in found for c in draft.changes
  )


def test_a_mutation_says_what_it_changed():
  for draft in drafts():
    assert draft.operator == "mutate"
    assert draft.parents == (PARENT.program,)
    assert draft.source == SPACE.render(draft.genome)
    assert draft.genome == SPACE.repair(draft.genome) != PARENT.genome
    moves = SPACE.difference(PARENT.genome, draft.genome)
    assert [(c["gene"], c["old"], c["new"]) for c in draft.changes] == [
      (m.gene, m.old, m.new) for m in moves
    ]
    for change in draft.changes:
      assert f"{change['gene']} {change['old']} -> " in draft.motivation
  sizes = collections.Counter(len(d.changes) for d in drafts())
  assert set(sizes) == {1, 2, 3}
  assert sizes[1] > sizes[2]


def test_same_generator_same_draft():
  assert drafts(20) == drafts(20)
  assert len({d.source for d in drafts(20)}) > 5


def test_ordered_genes_mostly_take_small_steps():
  counts = set_to(drafts(600))
  near = counts["y=1"] + counts["y=3"]
  far = counts["y=0"] + counts["y=4"]
  assert near > 1.5 * far > 0


def test_measured_effects_steer_moves_and_are_quoted():
  effects = {
    feature(gene.name, value): (0.0, -0.3, 0.3, 5)
    for gene in SPACE.genes
    for value in gene.values
  }
  effects["x=d"] = (0.5, 0.4, 0.6, 12)
  effects["x=b"] = (-0.5, -0.6, -0.4, 12)
  effects["w=e"] = (-0.5, -0.6, -0.4, 12)
  steered = drafts(effects=effects)
  counts, blind = set_to(steered), set_to(drafts())
  assert counts["x=d"] > 2 * blind["x=d"]
  assert counts["w=e"] < 0.2 * blind["w=e"]
  texts = [d.motivation for d in steered if "x b -> d" in d.motivation]
  assert texts
  for text in texts:
    assert "new value +0.5 [+0.4, +0.6], 12 Programs" in text
    assert "old value -0.5 [-0.6, -0.4], 12 Programs" in text


def test_knowledge_steers_moves_and_is_cited():
  pro = Knowledge("kda", "Finer gates", ("w=c",), (), 3.0)
  con = Knowledge("trap", "A trap", (), ("x=b", "x=e"), 3.0)
  plain = set_to(drafts())
  found = drafts(knowledge=(pro, con))
  counts = set_to(found)
  assert counts["w=c"] > 1.2 * plain["w=c"]
  assert counts["x=e"] < plain["x=e"]
  for draft in found:
    sets = {f"{c['gene']}={c['new']}" for c in draft.changes}
    left = {f"{c['gene']}={c['old']}" for c in draft.changes}
    assert ("kda" in draft.knowledge) == ("w=c" in sets)
    assert ("trap" in draft.knowledge) == ("x=b" in left)
    assert ("kda suggests it." in draft.motivation) == ("w=c" in sets)
    assert ("trap warns of x=b." in draft.motivation) == ("x=b" in left)


def test_features_that_the_space_does_not_have_are_ignored():
  odd = Knowledge("odd", "Another space", ("paths=many",), ("q=1",), 1.0)
  effects = {"paths=many": (9.0, 8.0, 10.0, 5)}
  for draft in drafts(20, knowledge=(odd,), effects=effects):
    assert draft.knowledge == ()


def test_measurement_outweighs_what_was_read():
  item = Knowledge("wrong", "Wrong", ("w=c",), (), 1.0)
  effects = {"w=c": (-1.0, -1.1, -0.9, 30), "w=d": (1.0, 0.9, 1.1, 30)}
  counts = set_to(drafts(knowledge=(item,), effects=effects))
  assert counts["w=d"] > 5 * counts["w=c"]


def test_crossover_takes_every_gene_from_a_parent():
  mate = known_program({"w": "b", "x": "e", "y": 4, "z": "d"})
  settings = ResearcherSettings(crossover=1.0, fresh=0.0)
  for draft in drafts(50, references=(mate,), settings=settings):
    assert draft.operator == "crossover"
    assert draft.parents == (PARENT.program, mate.program)
    assert "crossed with" in draft.motivation
    for name, value in draft.genome.items():
      assert value in (PARENT.genome[name], mate.genome[name]), name
    assert draft.genome not in (PARENT.genome, mate.genome)
  # Parents that differ in nothing else leave room for a move.
  near = known_program({"w": "a", "x": "b", "y": 3})
  tried = {PARENT.program, near.program}
  for draft in drafts(
    20, references=(near,), settings=settings, known=tried.__contains__
  ):
    assert draft.genome not in (PARENT.genome, near.genome)


def test_shares_of_operators_follow_the_settings():
  mate = known_program({"w": "b", "x": "e", "y": 4})
  settings = ResearcherSettings(crossover=0.3, fresh=0.2)
  counts = collections.Counter(
    d.operator for d in drafts(1000, references=(mate,), settings=settings)
  )
  # Binomial with 1,000 draws: standard deviations below 15.
  assert abs(counts["crossover"] - 300) < 75
  assert abs(counts["sample"] - 200) < 75


def test_a_parent_outside_the_space_leads_to_a_fresh_sample():
  for draft in drafts(10, parent=known_program(None)):
    assert draft.operator == "sample"
    assert draft.parents == ()


@pytest.mark.parametrize("name", ["symbolic", "random"])
def test_no_program_is_proposed_twice(name):
  proposer = make_proposer(name)
  seen = {PARENT.program}
  rng = random.Random(0)
  # 4 * 5 * 5 + 5 * 5 * 5 = 225 Programs in all; most of them, no double.
  for _ in range(170):
    draft = proposer.propose(
      context(rng=rng, known=seen.__contains__, settings=ResearcherSettings())
    )
    program = program_id(draft.source)
    assert program not in seen
    seen.add(program)
  with pytest.raises(Exhausted, match="all but used up"):
    proposer.propose(context(known=lambda program: True))


def test_random_ignores_what_is_known_and_covers_the_space():
  proposer = make_proposer("random")
  item = Knowledge("kda", "Finer gates", ("w=c",), (), 3.0)
  effects = {"x=d": (5.0, 4.9, 5.1, 12)}
  counts = collections.Counter()
  for seed in range(1000):
    plain = proposer.propose(context(seed))
    told = proposer.propose(context(seed, knowledge=(item,), effects=effects))
    assert plain == told
    assert (plain.operator, plain.parents) == ("sample", ())
    counts[plain.genome["x"]] += 1
  # Binomial(1000, 0.2): standard deviation 12.6.
  assert all(abs(counts[letter] - 200) < 64 for letter in "abcde")


def test_unknown_proposers_are_refused():
  with pytest.raises(SettingsError, match=r"'symbolyc'.*random, symbolic"):
    make_proposer("symbolyc")
