"""Who is next: upper confidence bounds on what each has brought."""

from __future__ import annotations

import math
from collections.abc import Mapping

from asi_evolve_jax.llm.port import Credit


def pick(
  credits: Mapping[str, Credit], exploration: float, *, per_money: bool
) -> tuple[str, dict[str, float]]:
  """Returns the arm with the largest bound, and every arm's bound.

  UCB1 (Auer et al. 2002). An arm's value is its improvement per Proposal, or
  per money spent, divided by the best arm's, so that `exploration` means the
  same on every track. Who has proposed nothing yet goes first, in the order
  of `credits`; its bound is told as -1, for a record holds no infinity.

  Args:
    credits: arm -> what it has brought; not empty.
    exploration: weight of the doubt.
    per_money: count money instead of Proposals.
  """
  fresh = next((n for n, c in credits.items() if not c.proposals), None)
  total = sum(credit.proposals for credit in credits.values())
  rates = {
    name: _rate(credit, per_money) if credit.proposals else 0.0
    for name, credit in credits.items()
  }
  best = max(rates.values()) or 1.0
  bounds = {
    name: rates[name] / best
    + exploration * math.sqrt(math.log(total) / credit.proposals)
    if credit.proposals
    else -1.0
    for name, credit in credits.items()
  }
  return fresh or max(bounds, key=lambda name: bounds[name]), bounds


def _rate(credit: Credit, per_money: bool) -> float:
  # What is free counts as a millionth a Proposal: models that all are free are
  # compared by what they bring a Proposal.
  free = 1e-6 * credit.proposals
  spent = max(credit.money, free) if per_money else float(credit.proposals)
  return max(credit.improvement, 0.0) / spent
