"""Every genome renders to a Program of its own that a person can read."""

import ast
import itertools
import random

import pytest

from asi_evolve_jax.programs.genome import feature
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.tracks.architecture.baselines import baselines
from asi_evolve_jax.tracks.architecture.published import PUBLISHED
from asi_evolve_jax.tracks.architecture.space import (
  GENES,
  RULES,
  ArchitectureSpace,
)

# With schedules, so that whatever is rendered is tested.
SPACE = ArchitectureSpace(schedule=True)
ALLOWED = {
  "jax",
  "jax.numpy",
  "flax",
  "pallas_kernels.delta_rule",
  "pallas_kernels.dplr_delta_rule",
  "pallas_kernels.linear_attention",
  "pallas_kernels.short_conv",
}


def landmarks():
  return [SPACE.genome(**p.genes) for p in PUBLISHED.values()]


def check_source(source):
  """Asserts what holds for every Program of the space; returns its id."""
  tree = ast.parse(source)
  lines = source.splitlines()
  assert max(map(len, lines)) <= 80, max(lines, key=len)
  assert not any(a == b == c == "" for a, b, c in _triples(lines[30:]))
  written = sum(bool(line.strip()) for line in lines)
  assert 60 <= written <= 190
  imported, defined, names = set(), set(), set()
  stored, loaded, operators = set(), set(), set()
  for node in ast.walk(tree):
    match node:
      case ast.Import(names=aliases):
        imported.update(alias.name for alias in aliases)
      case ast.ImportFrom(module=str(module), names=aliases):
        imported.add(module)
        if "pallas" in module:
          operators.update(alias.name for alias in aliases)
      case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
        defined.add(name)
      case ast.Name(id=name):
        names.add(name)
      case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=how):
        (stored if isinstance(how, ast.Store) else loaded).add(name)
  assert imported <= ALLOWED
  assert "TokenMixer" in defined
  # No dead code: what is defined, imported or stored is used.
  methods = {"__init__", "__call__", "init_state", "step"}
  assert defined - names - loaded <= {"TokenMixer"} | methods
  assert operators <= names
  assert stored == loaded - {"advance"}
  return program_id(source)


def _triples(lines):
  return zip(lines, lines[1:], lines[2:], strict=False)


@pytest.mark.slow
def test_every_step_from_a_published_mixer_is_a_program_of_its_own():
  genomes = {}
  for genome in landmarks():
    for move in SPACE.moves(genome):
      child = SPACE.apply(genome, [move])
      assert child[move.gene] == move.new
      assert child != genome
      genomes[tuple(sorted(child.items()))] = child
    genomes[tuple(sorted(genome.items()))] = genome
  assert len(genomes) > 400
  ids = {check_source(SPACE.render(g)) for g in genomes.values()}
  assert len(ids) == len(genomes)


@pytest.mark.slow
def test_random_genomes_render_to_programs_of_their_own():
  rng = random.Random(0)
  genomes = {}
  for _ in range(150):
    genome = SPACE.sample(rng)
    assert SPACE.repair(genome) == genome
    genomes[tuple(sorted(genome.items()))] = genome
  assert len(genomes) >= 145
  ids = {check_source(SPACE.render(g)) for g in genomes.values()}
  assert len(ids) == len(genomes)


def test_every_value_of_every_gene_is_reached_and_rendered():
  rng = random.Random(1)
  reached = set()
  for _ in range(3000):
    reached.update(SPACE.features(SPACE.sample(rng)))
  wanted = {feature(g.name, v) for g in GENES for v in g.values}
  assert reached == wanted


# Genes whose conditions and rules hang together; all others are free.
GROUPS = (
  (
    "update",
    "qk_norm",
    "write_gate",
    "erase",
    "beta",
    "gate_bias",
    "read",
    "scaling",
  ),
  ("decay", "decay_param", "decay_init", "key_tie", "qk_heads", "sub_chunk"),
  ("conv", "conv_on"),
  (
    "second_path",
    "local_path",
    "fusion",
    "gate_input",
    "gate_floor",
    "path_norm",
  ),
)


def test_size_of_the_space():
  values = {g.name: g.values for g in GENES}
  # They hang on two of the groups: there are more than are counted here.
  for gene in ("step_tie", "erase_time", "erase_key"):
    del values[gene]
  size = 1
  for group in GROUPS:
    size *= len(
      {
        tuple(SPACE.genome(**dict(zip(group, choice, strict=True))).values())
        for choice in itertools.product(*(values.pop(name) for name in group))
      }
    )
  for free in values.values():
    size *= len(free)
  assert size > 10**12
  assert 20 <= len(GENES) <= 40


def test_inactive_genes_do_not_make_programs():
  plain = SPACE.genome(update="additive", decay="none")
  noisy = {**plain, "erase": "channel", "beta": "negative", "fusion": "sigmoid"}
  assert SPACE.repair(noisy) == plain
  assert SPACE.render(noisy) == SPACE.render(plain)


@pytest.mark.parametrize(("gene", "value", "impossible", "instead"), RULES)
def test_rules_replace_what_cannot_stand(gene, value, impossible, instead):
  rng = random.Random(2)
  replaced = 0
  for _ in range(300):
    genome = {g.name: rng.choice(g.values) for g in GENES}
    genome.update({gene: value, "update": "delta"})
    fixed = SPACE.repair(genome)
    assert not (fixed[gene] == value and impossible(fixed))
    if impossible({**fixed, gene: value}):
      assert fixed[gene] == instead
      replaced += 1
  assert replaced


def test_crossover_and_moves_stay_in_the_space():
  rng = random.Random(3)
  for a, b in itertools.pairwise(landmarks()):
    child = SPACE.crossover(a, b, rng)
    assert SPACE.repair(child) == child
    moves = SPACE.difference(a, b)
    assert SPACE.apply(a, moves) == b


def test_titles_name_the_nearest_published_mixer():
  for name, published in PUBLISHED.items():
    assert SPACE.title(SPACE.genome(**published.genes)) == name
  gated = SPACE.genome(**PUBLISHED["gated_deltanet"].genes)
  assert (
    SPACE.title({**gated, "decay_param": "bounded"})
    == "gated_deltanet, decay_param=bounded"
  )
  rng = random.Random(4)
  assert max(len(SPACE.title(SPACE.sample(rng))) for _ in range(200)) < 80


def test_who_erases_before_the_decay_erases_no_more_than_there_is():
  genes = PUBLISHED["comba"].genes
  source = SPACE.render(SPACE.genome(**genes))
  assert "import dplr_delta_rule" in source
  assert "dplr_delta_rule(\n      q,\n      k,\n      written,\n" in source
  fixed = SPACE.genome(**genes, beta="negative")
  assert fixed["beta"] == "unit"
  # Without a decay there is no order, and no other recurrence.
  still = SPACE.genome(**{**genes, "decay": "none"})
  assert still["erase_time"] == "after"
  assert "dplr" not in SPACE.render(still)
  own = SPACE.genome(**genes, erase_key="own", rotation="rope")
  assert "remove = rotate(remove, angle)" in SPACE.render(own)


def test_baselines_are_candidates_like_any_other():
  found = {b.name: b for b in baselines()}
  assert list(found)[:10] == [
    "softmax",
    "linear",
    "retnet",
    "scalar_gated",
    "deltanet",
    "gated_deltanet",
    "gla",
    "hgrn2",
    "mamba2",
    "kda",
  ]
  assert len({program_id(b.source) for b in found.values()}) == len(found)
  for name, baseline in found.items():
    assert "arXiv:" in baseline.motivation
    if name == "softmax":
      assert baseline.genome is None
    else:
      assert SPACE.render(baseline.genome) == baseline.source
  # Gated DeltaNet is DeltaNet with a decay and an output gate.
  moves = SPACE.difference(
    found["deltanet"].genome, found["gated_deltanet"].genome
  )
  assert {m.gene for m in moves} == {"decay", "out_gate"}
  # The variants are one move away from what they are named after.
  for base in ("deltanet", "gated_deltanet"):
    for suffix, gene in (("negative", "beta"), ("no_conv", "conv")):
      variant = found[f"{base}_{suffix}"]
      moves = SPACE.difference(found[base].genome, variant.genome)
      assert [m.gene for m in moves] == [gene]


SCHEDULE = {g.name for g in GENES if g.schedule}


def test_schedules_are_other_programs_that_a_search_for_quality_ignores():
  quality = ArchitectureSpace()
  kda = quality.genome(**PUBLISHED["kda"].genes)
  moves = [m for m in SPACE.moves(kda) if m.gene in SCHEDULE]
  assert {m.gene for m in moves} == SCHEDULE
  sources = {SPACE.render(SPACE.apply(kda, [m])) for m in moves}
  assert len(sources) == len(moves) == 10
  assert SPACE.render(kda) not in sources
  assert any("sub_chunk=2" in s for s in sources)
  assert any("import delta_rule\n" in s for s in sources)
  # A bounded decay allows more, and says so.
  bound = {**PUBLISHED["kda"].genes, "decay_param": "bounded"}
  half = SPACE.render(SPACE.genome(**bound, sub_chunk="half"))
  assert "sub_chunk=8,\n      min_log_decay=-5.0," in half
  # The same genome, but nothing that a quality's regression could see.
  assert not {m.gene for m in quality.moves(kda)} & SCHEDULE
  named = {f.partition("=")[0] for f in quality.features(kda)}
  assert not named & SCHEDULE
  rng = random.Random(5)
  for _ in range(20):
    drawn = quality.sample(rng)
    assert all(drawn[g.name] == g.default for g in GENES if g.name in SCHEDULE)
