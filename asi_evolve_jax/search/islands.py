"""Islands with MAP-Elites: several searches, each with a grid of elites.

The grid has a cell for each combination of bins along the track's axes, and a
cell keeps one Program, the best that it has seen (MAP-Elites, Mouret and Clune
2015, 1504.04909). Parents and references are drawn from the cells of one
island; islands take turns by the number of the round, and a child lives where
its parent was drawn. Every `every` rounds of an island its best Programs settle
on both neighbours in a ring.

Nothing of this is kept: where a Program was born is in its Proposal, and the
rest follows from the rounds and scores in the View. A Researcher that was
killed finds the islands as they were, migrants included. A Result that comes in
late counts from where its round was: it may change who has migrated since.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.search.samplers import Sample, Sampler
from asi_evolve_jax.settings import IslandSettings
from asi_evolve_jax.tracks.base import Axis

Cell = tuple[str, ...]
# Cell -> the Program that holds it, the best Program first.
Grid = dict[Cell, str]


class Islands(Sampler):
  """Draws from the grid of the island whose turn the round is.

  A share `exploit` of the parents is the island's best, a share `explore` any
  of its elites with equal probability, and the rest is drawn by rank: of n
  elites the k-th has a weight of n + 1 - k. Only the order of scores counts.
  """

  def sample(
    self,
    view: View,
    rung: str,
    can_edit: Callable[[str], bool] = lambda program: True,
    round_number: int = 1,
  ) -> Sample:
    """See Sampler.sample; takes O(archive + migrations) time."""
    settings = self._settings.islands
    island = (round_number - 1) % settings.count
    archive = view.ranked(rung, settings.archive)
    archive = [p for p in archive if can_edit(p)] or archive
    homes = settle(view, archive, settings, round_number)
    cells = {p: cell_of(view, p, rung, self._axes) for p in homes[island]}
    elites = list(grid_of(homes[island], cells).values())
    if not elites:
      # Nothing lives here at this rung: the first to come may be anybody's.
      found = super().sample(view, rung, can_edit, round_number)
      return Sample(found.parent, found.references, island)
    parent = self._choose(elites, archive, view, rung)
    others = [p for p in elites if p != parent]
    count = min(self._settings.references, len(others))
    return Sample(parent, tuple(self._rng.sample(others, count)), island)

  def _choose(
    self,
    candidates: Sequence[str],
    pool: Sequence[str],
    view: View,
    rung: str,
  ) -> str:
    del pool, view, rung
    settings, draw = self._settings.islands, self._rng.random()
    if draw < settings.exploit:
      return candidates[0]
    if draw < settings.exploit + settings.explore:
      return self._rng.choice(candidates)
    weights = range(len(candidates), 0, -1)
    return self._rng.choices(candidates, weights)[0]


def settle(
  view: View,
  archive: Sequence[str],
  settings: IslandSettings,
  round_number: int,
) -> list[list[str]]:
  """Returns who lives on each island in a round, best first.

  Args:
    view: where their Proposals are.
    archive: Program ids, best first; nobody else lives anywhere.
    settings: of the islands.
    round_number: the round that is about to be proposed.
  """
  count = settings.count
  span = settings.every * count
  rank = {program: i for i, program in enumerate(archive)}
  residents: list[set[int]] = [set() for _ in range(count)]
  # The first `migrants` ranks of each island.
  heads: list[list[int]] = [[] for _ in range(count)]

  def enter(island: int, place: int) -> None:
    if place not in residents[island]:
      residents[island].add(place)
      bisect.insort(heads[island], place)
      del heads[island][settings.migrants :]

  born = sorted(archive, key=lambda p: view.proposal_of[p].round)
  epochs = max(round_number - 1, 0) // span
  last = [span * (epoch + 1) for epoch in range(epochs)] + [math.inf]
  arrived = 0
  for epoch, until in enumerate(last):
    while arrived < len(born):
      proposal = view.proposal_of[born[arrived]]
      if proposal.round > until:
        break
      # Baselines and imports are where every island begins.
      homes = [proposal.island % count] if proposal.round else range(count)
      for island in homes:
        enter(island, rank[born[arrived]])
      arrived += 1
    if epoch == epochs:
      break  # the migration after these rounds is still to come
    leaving = [list(head) for head in heads]
    for island, places in enumerate(leaving):
      for neighbour in ((island - 1) % count, (island + 1) % count):
        for place in places:
          enter(neighbour, place)
  return [[archive[place] for place in sorted(who)] for who in residents]


def grid_of(programs: Sequence[str], cells: Mapping[str, Cell]) -> Grid:
  """Returns the elites among `programs`, which come best first."""
  grid: Grid = {}
  for program in programs:
    grid.setdefault(cells[program], program)
  return grid


def cell_of(view: View, program: str, rung: str, axes: Sequence[Axis]) -> Cell:
  """Returns the cell that a Program belongs in, a bin an axis.

  A Program without a place in the space has no genes: there the size of its
  source stands in, in powers of two (the paper's axis of complexity). A number
  that was not reported has a bin of its own, "".
  """
  return tuple(
    _number_bin(view, program, rung, axis)
    if axis.edges
    else _gene_bin(view, program, axis)
    for axis in axes
  )


def _gene_bin(view: View, program: str, axis: Axis) -> str:
  genome = view.proposal_of[program].genome
  if genome is not None:
    return str(genome.get(axis.name, ""))
  source = view.programs[program].source
  lines = sum(bool(line.strip()) for line in source.splitlines())
  return f"{lines.bit_length()} bits of lines"


def _number_bin(view: View, program: str, rung: str, axis: Axis) -> str:
  values = list(view.measurements(program, rung, metric=axis.name).values())
  if not values:
    # Reported once a Result; that of the least task id, whoever came first.
    reports = sorted(
      (result.task, result.report[axis.name])
      for result in view.results_of.get(program, ())
      if result.status == schema.OK
      and result.rung == rung
      and result.purpose not in schema.UNSEEN
      and axis.name in result.report
    )
    values = [value for _, value in reports[:1]]
  if not values:
    return ""
  return str(bisect.bisect_right(axis.edges, math.fsum(values) / len(values)))
