"""Typed genomes: what a symbolic search space is made of.

A genome is a plain dict from gene name to value (JSON types). A `Space` knows
its genes, which of them matter where (a gene that its condition switches off
is held at its default, so equal behaviour means equal genomes), and how to
render a genome to the source text that a person or a model would write.
"""

from __future__ import annotations

import abc
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Genome = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Gene:
  """One choice.

  Attributes:
    name: key in the genome.
    values: all values, in an order that has a meaning where there is one.
    default: value held while `active` says no.
    ordered: whether neighbours in `values` are alike (a step is a small move).
    active: whether the gene matters in a genome; None: always.
    schedule: whether it changes how fast the Program runs and nothing of what
      it computes; see Space.schedule.
    doc: what it chooses, one line, used in motivations.
  """

  name: str
  values: tuple[Any, ...]
  default: Any
  ordered: bool = False
  active: Callable[[Mapping[str, Any]], bool] | None = None
  schedule: bool = False
  doc: str = ""


@dataclasses.dataclass(frozen=True)
class Move:
  """One gene set to one value."""

  gene: str
  old: Any
  new: Any

  @property
  def feature(self) -> str:
    return feature(self.gene, self.new)


def feature(gene: str, value: Any) -> str:
  """Returns the name of "gene has value" in effects and cognition items."""
  return f"{gene}={value}"


class Space(abc.ABC):
  """A track's symbolic search space.

  Attributes:
    genes: all of them, in the order of their conditions.
    schedule: whether schedule genes are searched. Where the score does not
      look at speed they are choices without an effect, which would take moves
      and regressors from genes that have one: a search then leaves them as
      they are and sees no features of them.
  """

  genes: tuple[Gene, ...]
  schedule: bool = False

  def searched(self) -> tuple[Gene, ...]:
    """Returns the genes that a search may change."""
    return tuple(g for g in self.genes if self.schedule or not g.schedule)

  @abc.abstractmethod
  def render(self, genome: Genome) -> str:
    """Returns the source of the Program that `genome` stands for."""

  @abc.abstractmethod
  def title(self, genome: Genome) -> str:
    """Returns a short name for tables, e.g. "delta/scalar-decay"."""

  def suspects(self, gate: str, message: str) -> tuple[str, ...]:
    """Returns the genes that can make `gate` reject, most likely ones first.

    Args:
      gate: its name.
      message: what it said.

    Returns:
      () where the space cannot tell.
    """
    del gate, message
    return ()

  def repair(self, genome: Mapping[str, Any]) -> Genome:
    """Returns the canonical form: inactive genes at their defaults.

    Genes are visited in order, so a condition may look at earlier genes only.

    Raises:
      ValueError: if a gene is missing or has a value it cannot take.
    """
    unknown = set(genome) - {g.name for g in self.genes}
    if unknown:
      raise ValueError(f"unknown genes: {sorted(unknown)}")
    fixed: Genome = {}
    for gene in self.genes:
      value = genome.get(gene.name, gene.default)
      if isinstance(value, list):
        value = tuple(value)
      if value not in gene.values:
        raise ValueError(
          f"gene {gene.name} cannot be {value!r}; one of {gene.values}"
        )
      if gene.active is not None and not gene.active(fixed):
        value = gene.default
      fixed[gene.name] = value
    return fixed

  def place(self, genome: Mapping[str, Any] | None) -> Genome | None:
    """Returns the canonical form of a recorded genome.

    None where there is none, or another version of the space wrote one that
    has no place in this.
    """
    if genome is None:
      return None
    try:
      return self.repair(genome)
    except ValueError:
      return None

  def sample(self, rng: random.Random) -> Genome:
    """Draws every active gene that is searched uniformly."""
    genome = {g.name: rng.choice(g.values) for g in self.searched()}
    return self.repair(genome)

  def moves(self, genome: Genome) -> list[Move]:
    """Returns all single-gene changes that alter the canonical genome."""
    moves = []
    for gene in self.searched():
      if gene.active is not None and not gene.active(genome):
        continue
      for value in gene.values:
        if value != genome[gene.name]:
          moves.append(Move(gene.name, genome[gene.name], value))
    return moves

  def apply(self, genome: Genome, moves: Sequence[Move]) -> Genome:
    """Returns `genome` with `moves` made, in canonical form."""
    return self.repair({**genome, **{m.gene: m.new for m in moves}})

  def crossover(self, a: Genome, b: Genome, rng: random.Random) -> Genome:
    """Takes each gene from `a` or `b`, evenly."""
    return self.repair(
      {g.name: (a if rng.random() < 0.5 else b)[g.name] for g in self.genes}
    )

  def parse(self, name: str) -> tuple[Gene, Any]:
    """Returns the gene and the value that a feature's name stands for.

    Raises:
      ValueError: if there is no such gene or value; it names those there are.
    """
    gene_name, _, text = name.partition("=")
    for gene in self.genes:
      if gene.name == gene_name:
        for value in gene.values:
          if feature(gene.name, value) == name:
            return gene, value
        raise ValueError(
          f"gene {gene.name} has no value {text!r}; its values: "
          f"{', '.join(map(str, gene.values))}"
        )
    raise ValueError(
      f"{gene_name!r} is no gene; genes: "
      f"{', '.join(gene.name for gene in self.genes)}"
    )

  def features(self, genome: Genome) -> tuple[str, ...]:
    """Returns the features of a genome's active genes, for regressions."""
    return tuple(
      feature(g.name, genome[g.name])
      for g in self.searched()
      if g.active is None or g.active(genome)
    )

  def difference(self, old: Genome, new: Genome) -> tuple[Move, ...]:
    """Returns the moves that lead from `old` to `new`."""
    return tuple(
      Move(g.name, old[g.name], new[g.name])
      for g in self.genes
      if old[g.name] != new[g.name]
    )
