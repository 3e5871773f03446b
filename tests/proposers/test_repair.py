"""What a repair changes: suspects first, as little as possible."""

import random

import pytest

from asi_evolve_jax.programs.genome import Gene, Space
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.proposers.base import (
  Context,
  Exhausted,
  Guidance,
  Known,
  Rejection,
)
from asi_evolve_jax.proposers.registry import make_proposer
from asi_evolve_jax.proposers.repair import suspects
from asi_evolve_jax.settings import ResearcherSettings
from asi_evolve_jax.tracks.architecture.space import SUSPECTS, ArchitectureSpace
from asi_evolve_jax.tracks.circle_packing.space import CirclePackingSpace


class Shapes(Space):
  """The space blames `depth` for the gate "cost"."""

  genes = (
    Gene("depth", (1, 2, 3), 1, ordered=True),
    Gene("norm", ("none", "rms"), "rms"),
    Gene("gate", ("none", "silu", "relu"), "none"),
    Gene("bias", (0, 1), 0, active=lambda g: g["gate"] != "none"),
  )

  def render(self, genome):
    return f"shape = {tuple(genome.values())!r}\n"

  def title(self, genome):
    return "".join(map(str, genome.values()))

  def suspects(self, gate, message):
    return ("depth",) if gate == "cost" else ()


SPACE = Shapes()
REJECTED = {"depth": 3, "norm": "none", "gate": "silu", "bias": 0}


def _context(genome=REJECTED, known=(), guidance=()):
  program = program_id(SPACE.render(genome)) if genome else "0" * 32
  return Context(
    space=SPACE,
    parent=Known(program=program, name="bad", genome=genome, score=None),
    references=(),
    knowledge=(),
    effects={},
    known=lambda p: p in known or p == program,
    rng=random.Random(0),
    settings=ResearcherSettings(),
    guidance=guidance,
  )


def _rejection(gate="finite", changed=None, counts=None):
  return Rejection(
    source="",
    gate=gate,
    message="NaN.",
    changed=changed or {},
    counts=counts or {},
  )


@pytest.mark.parametrize("proposer", ["symbolic", "random"])
def test_the_gene_that_was_changed_goes_back(proposer):
  draft = make_proposer(proposer).repair(
    _context(), _rejection(changed={"norm": "rms"})
  )
  assert draft.genome == {**REJECTED, "norm": "rms"}
  assert draft.operator == "repair"
  assert "its parent had passed" in draft.changes[0]["why"]
  assert "which the gate finite rejected: NaN." in draft.motivation


def test_where_that_is_known_another_value_or_gene_is_tried():
  parent = program_id(SPACE.render({**REJECTED, "norm": "rms"}))
  draft = make_proposer("symbolic").repair(
    _context(known=[parent]), _rejection(changed={"norm": "rms"})
  )
  assert draft.genome["norm"] == "none"
  assert sum(draft.genome[k] != REJECTED[k] for k in REJECTED) == 1


def test_of_the_changed_genes_the_one_that_the_space_blames_comes_first():
  changed = {"norm": "rms", "gate": "none", "depth": 1}
  order = suspects(_context(), _rejection("cost", changed))
  assert order == ["depth", "norm", "gate", "bias"]
  assert suspects(_context(), _rejection("cost"))[0] == "depth"


def test_earlier_rejections_point_at_the_value():
  counts = {
    "depth=3": (1, 9),
    "gate=silu": (5, 6),
    "gate=relu": (3, 3),
    "norm=none": (2, 9),
  }
  draft = make_proposer("symbolic").repair(
    _context(), _rejection(counts=counts)
  )
  assert draft.genome["gate"] == "none"
  assert draft.genome["depth"] == 3
  assert "5 of 6 Programs with gate=silu" in draft.changes[0]["why"]


def test_a_person_s_word_holds_for_repairs():
  word = Guidance("steer/1", "ann", "", prefer=("depth=2",))
  draft = make_proposer("symbolic").repair(
    _context(guidance=(word,)), _rejection(changed={"norm": "rms"})
  )
  assert draft.genome["depth"] == 2


def test_no_way_out_is_said():
  with pytest.raises(Exhausted, match="no genome"):
    make_proposer("symbolic").repair(_context(None), _rejection())
  context = _context()
  everything = type(context)(**{**vars(context), "known": lambda p: True})
  with pytest.raises(Exhausted, match="only known Programs"):
    make_proposer("symbolic").repair(everything, _rejection())


def test_spaces_blame_genes_that_they_have():
  space = ArchitectureSpace()
  names = {gene.name for gene in space.genes}
  assert all(names.issuperset(genes) for genes in SUSPECTS.values())
  assert space.suspects("finite", "") == SUSPECTS["finite"]
  circles = CirclePackingSpace()
  slow = circles.suspects("cpu_seconds", "")
  assert slow
  assert {gene.name for gene in circles.genes}.issuperset(slow)
