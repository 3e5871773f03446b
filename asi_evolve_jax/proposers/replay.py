"""The Proposals of a recorded run once more, in their order, from its records.

No model is called and no draw is made: what that run measured, and when, does
not matter here.
"""

from __future__ import annotations

from asi_evolve_jax.proposers.base import Context, Draft, Exhausted, Rejection
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import (
  REPAIR,
  Program,
  Proposal,
)
from asi_evolve_jax.records.views import is_round
from asi_evolve_jax.settings import SettingsError


class Replay:
  """A Proposer that reads what another run's proposer wrote."""

  reads = False

  def __init__(self, url: str):
    """
    Args:
      url: of the records of that run.

    Raises:
      SettingsError: if nothing was proposed there.
    """
    records, _ = Records.open(url).follow()
    self._url = url
    self._sources = {
      r.hash: r.source for r in records if isinstance(r, Program)
    }
    proposals = sorted(
      (r for r in records if isinstance(r, Proposal)), key=lambda p: p.id
    )
    self._rounds = [p for p in proposals if is_round(p)]
    self._repairs = {p.parents[0]: p for p in proposals if p.operator == REPAIR}
    if not self._rounds:
      raise SettingsError(
        f"config.llm replays {url!r}, where nothing was proposed: give the "
        "URL of the records of a run that got to its first round."
      )

  def propose(self, context: Context) -> Draft:
    """See proposers.base.Proposer."""
    if context.round > len(self._rounds):
      raise Exhausted(
        f"{self._url} has {len(self._rounds)} rounds: there is no more."
      )
    return self._draft(self._rounds[context.round - 1])

  def repair(self, context: Context, rejection: Rejection) -> Draft:
    """See proposers.base.Proposer."""
    del rejection
    repair = self._repairs.get(context.parent.program)
    if repair is None:
      raise Exhausted(f"{self._url} has no repair of {context.parent.name}.")
    return self._draft(repair)

  def _draft(self, proposal: Proposal) -> Draft:
    return Draft(
      source=self._sources[proposal.program],
      genome=proposal.genome,
      name=proposal.name,
      motivation=proposal.motivation,
      operator=proposal.operator,
      parents=proposal.parents,
      changes=proposal.changes,
      knowledge=proposal.knowledge,
      author=proposal.author,
      references=proposal.references,
      choice=proposal.choice,
      # Of several Researchers two may have written one round.
      round=proposal.round,
      island=proposal.island,
    )
