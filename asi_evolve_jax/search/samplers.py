"""Samplers: which Program the next Proposal edits, and which it looks at.

A sampler reads a View and keeps nothing. How often a Program was a parent is
the number of Proposals that cite it (`view.visits`), so two Researchers, or
one that was killed and started again, count alike.

The parent comes from ranks `parent_ranks` of the `pool` best Programs at a
rung, the references from `reference_ranks` (ASI-Arch, 2507.18074: 1-10 and
11-50 of 50). The policies differ in the parent only; references are there for
breadth and are always drawn uniformly.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import random
from collections.abc import Callable, Sequence

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.views import View
from asi_evolve_jax.settings import SamplerSettings, SettingsError
from asi_evolve_jax.tracks.base import Axis


class NothingToSample(LookupError):
  """No Program can be a parent yet: evaluate the baselines first."""


@dataclasses.dataclass(frozen=True)
class Sample:
  """Program ids: the parent to edit and the references to look at."""

  parent: str
  references: tuple[str, ...]
  island: int = 0  # where the parent was drawn, and the child will live


class Sampler(abc.ABC):
  """Base: pool, ranks and references; policies choose the parent."""

  def __init__(
    self,
    settings: SamplerSettings,
    rng: random.Random,
    axes: Sequence[Axis] = (),
  ):
    for name in ("parent_ranks", "reference_ranks"):
      low, high = getattr(settings, name)
      if not 1 <= low <= high:
        raise SettingsError(
          f"sampler.{name} must be (first, last) with 1 <= first <= last, "
          f"got ({low}, {high})."
        )
    if settings.pool < 1 or settings.references < 0:
      raise SettingsError(
        "sampler.pool must be at least 1 and sampler.references at least 0, "
        f"got {settings.pool} and {settings.references}."
      )
    self._settings = settings
    self._rng = rng
    self._axes = axes

  def sample(
    self,
    view: View,
    rung: str,
    can_edit: Callable[[str], bool] = lambda program: True,
    round_number: int = 1,
  ) -> Sample:
    """Draws a parent and references among what `rung` has scored.

    Takes O(pool) time. Only Programs with an ok Result at `rung` are in the
    pool; while there are none, baselines that have not failed stand in.

    Args:
      view: what is known.
      rung: where scores are compared.
      can_edit: whether the proposer can edit a Program. One that it cannot
        would never be cited, stay unvisited and be drawn for ever, so it is
        left out of the parents, where any other is to be had.
      round_number: of the Proposal, from 1 on: whose island's turn it is.

    Raises:
      NothingToSample: if there is no such Program at all.
    """
    pool = view.ranked(rung, self._settings.pool)
    if pool:
      low, high = self._settings.parent_ranks
      editable = [p for p in pool if can_edit(p)] or pool
      # Fewer Programs than the first rank: the last ones there are.
      candidates = editable[low - 1 : high] or editable[-1:]
      parent = self._choose(candidates, pool, view, rung)
    else:
      pool = _baselines(view)
      if not pool:
        raise NothingToSample(
          f"no Program has a score at rung {rung!r} and no baseline is left "
          "to start from: the run needs at least one Program that works"
        )
      parent = self._rng.choice([p for p in pool if can_edit(p)] or pool)
    return Sample(parent, self._references(parent, pool))

  @abc.abstractmethod
  def _choose(
    self,
    candidates: Sequence[str],
    pool: Sequence[str],
    view: View,
    rung: str,
  ) -> str:
    """Returns one of `candidates`; both sequences are best first."""

  def _references(self, parent: str, pool: Sequence[str]) -> tuple[str, ...]:
    low, high = self._settings.reference_ranks
    count = self._settings.references
    ranked = [p for p in pool[low - 1 : high] if p != parent]
    chosen = self._rng.sample(ranked, min(count, len(ranked)))
    if len(chosen) < count:
      # A young run has no ranks 11-50 yet: top up from the whole pool.
      taken = {parent, *ranked}
      rest = [p for p in pool if p not in taken]
      chosen += self._rng.sample(rest, min(count - len(chosen), len(rest)))
    return tuple(chosen)


class UCB1(Sampler):
  """Upper confidence bound 1 (Auer et al. 2002) over the parents' scores.

  value_i + c sqrt(ln N / n_i), where value is the score scaled to [0, 1] over
  the pool (1 is the best, whatever the metric's direction), n_i the visits of
  Program i and N those of all candidates. Unvisited Programs go first, the
  best of them before the others; equal bounds are broken by chance.
  """

  def _choose(
    self,
    candidates: Sequence[str],
    pool: Sequence[str],
    view: View,
    rung: str,
  ) -> str:
    for program in candidates:
      if not view.visits[program]:
        return program
    best, worst = _score(view, pool[0], rung), _score(view, pool[-1], rung)
    # Signed: below zero where lower is better, which turns the scale round.
    span = best - worst
    visits = [view.visits[p] for p in candidates]
    log_total = math.log(sum(visits))
    bounds = []
    for program, count in zip(candidates, visits, strict=True):
      value = (_score(view, program, rung) - worst) / span if span else 0.0
      bounds.append(
        value + self._settings.exploration * math.sqrt(log_total / count)
      )
    top = max(bounds)
    return self._rng.choice(
      [p for p, bound in zip(candidates, bounds, strict=True) if bound == top]
    )


class Greedy(Sampler):
  """Always the best Program of the parent ranks."""

  def _choose(
    self,
    candidates: Sequence[str],
    pool: Sequence[str],
    view: View,
    rung: str,
  ) -> str:
    return candidates[0]


class UniformRandom(Sampler):
  """Any Program of the parent ranks, with equal probability."""

  def _choose(
    self,
    candidates: Sequence[str],
    pool: Sequence[str],
    view: View,
    rung: str,
  ) -> str:
    return self._rng.choice(candidates)


def _score(view: View, program: str, rung: str) -> float:
  score = view.score(program, rung)
  if score is None:
    raise LookupError(f"{program} is ranked at {rung} but has no score there")
  return score


def _baselines(view: View) -> list[str]:
  """Returns baselines that have not failed, in order of their keys."""
  return [
    proposal.program
    for _, proposal in sorted(view.proposals.items())
    if proposal.round == 0
    and not any(
      result.status not in (schema.OK, schema.LOST)
      for result in view.results_of.get(proposal.program, ())
    )
  ]
