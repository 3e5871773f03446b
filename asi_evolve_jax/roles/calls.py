"""Calls in the records of a run, and what its budgets still allow."""

from __future__ import annotations

from collections.abc import Mapping

from asi_evolve_jax.evaluation.budget import Budget
from asi_evolve_jax.records import RecordError, Records, View
from asi_evolve_jax.records.schema import Call
from asi_evolve_jax.settings import RunSettings


class CallBook:
  """An llm.client.Book over the records and the View of one role."""

  def __init__(self, records: Records, view: View, settings: RunSettings):
    self._records = records
    self._view = view
    self._settings = settings

  def record(self, call: Call) -> bool:
    """See llm.client.Book."""
    new = self._records.put(call)[0]
    if new:
      # The next call must know of it before the log says so.
      self._view.update([call])
    return new

  def find(self, call_id: str) -> Call | None:
    """See llm.client.Book."""
    try:
      record = self._records.get(Call.kind, call_id)
    except RecordError:  # set aside as corrupt: as if it had not been made
      return None
    return record if isinstance(record, Call) else None

  def left(self) -> Mapping[str, float]:
    """See llm.client.Book."""
    return Budget(self._view, self._settings).left("tokens", "money")
