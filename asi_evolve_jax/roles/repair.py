"""Rejections as a proposer gets them, with what earlier ones teach."""

from __future__ import annotations

from collections import Counter

from asi_evolve_jax.programs.genome import Space
from asi_evolve_jax.proposers.base import Rejection
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import LOST, REJECTED, SEARCH, Result
from asi_evolve_jax.roles.effects import features_of

PRIORITY = 5  # before new Programs: the round it belongs to is under way


class Rejections:
  """Counts which features go with which gate, Result by Result."""

  def __init__(self, space: Space, view: View):
    self._space = space
    self._view = view
    self._seen: set[str] = set()
    self._tried: Counter[str] = Counter()
    self._bad: dict[str, Counter[str]] = {}

  def observe(self, result: Result) -> None:
    """Takes in a Result of the search; its Proposal is in the View."""
    if result.purpose != SEARCH or result.status == LOST:
      return
    proposal = self._view.proposal_of.get(result.program)
    features = features_of(self._space, proposal)
    if result.program not in self._seen:
      self._seen.add(result.program)
      self._tried.update(features)
    if result.status == REJECTED:
      self._bad.setdefault(result.gate, Counter()).update(features)

  def of(self, result: Result) -> Rejection:
    """Returns what a proposer needs to mend the Program of `result`."""
    proposal = self._view.proposal_of[result.program]
    bad = self._bad.get(result.gate, Counter())
    return Rejection(
      source=self._view.programs[result.program].source,
      gate=result.gate,
      message=result.error,
      changed={change["gene"]: change["old"] for change in proposal.changes},
      counts={name: (bad[name], tried) for name, tried in self._tried.items()},
    )
