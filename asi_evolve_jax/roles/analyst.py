"""What a language model adds to Analyses, or has added in a recorded run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Protocol

from asi_evolve_jax.evaluation.limits import secret_values
from asi_evolve_jax.llm import connect
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import Analysis
from asi_evolve_jax.roles import reports
from asi_evolve_jax.roles.calls import CallBook
from asi_evolve_jax.roles.evidence import Evidence
from asi_evolve_jax.roles.reports import Reporter
from asi_evolve_jax.settings import RunSettings

log = logging.getLogger(__name__)


class Analyst(Protocol):
  """Adds to Analyses.

  Attributes:
    batch: how many it takes at once.
  """

  batch: int

  def add(
    self,
    analyses: Sequence[Analysis],
    evidence: Callable[[Analysis], Evidence],
  ) -> list[Analysis]:
    """Returns `analyses`, in their order, with what there is to add.

    Args:
      analyses: of the symbolic Analyzer.
      evidence: returns what is behind one; called in the caller's thread.
    """
    ...


class ModelAnalyst:
  """Asks a language model for a report on each."""

  def __init__(self, reporter: Reporter, parallel: int):
    self.batch = parallel
    self._reporter = reporter

  def add(
    self,
    analyses: Sequence[Analysis],
    evidence: Callable[[Analysis], Evidence],
  ) -> list[Analysis]:
    """See Analyst."""
    with futures.ThreadPoolExecutor(self.batch) as pool:
      asked = [
        pool.submit(self._reporter.report, f"analysis {analysis.id}", behind)
        if (behind := _gather(analysis, evidence)) is not None
        else None
        for analysis in analyses
      ]
    return [
      _with_report(analysis, report.result() if report is not None else {})
      for analysis, report in zip(analyses, asked, strict=True)
    ]


class ReplayedAnalyst:
  """Adds what a recorded run has at the same Program and Results.

  Its reports stand as they were written and marked: what they quote is what
  that run measured.
  """

  def __init__(self, url: str, batch: int):
    """
    Args:
      url: of the records of that run.
      batch: how many to take at once.
    """
    found, _ = Records.open(url).follow(kinds=[Analysis.kind])
    self.batch = batch
    self._analyses = {a.id: a for a in found if isinstance(a, Analysis)}

  def add(
    self,
    analyses: Sequence[Analysis],
    evidence: Callable[[Analysis], Evidence],
  ) -> list[Analysis]:
    """See Analyst."""
    del evidence
    return [
      _with_report(analysis, self._analyses[analysis.id].report)
      if analysis.id in self._analyses
      else analysis
      for analysis in analyses
    ]


def make_analyst(
  records: Records, view: View, settings: RunSettings, batch: int
) -> Analyst | None:
  """Returns who adds to Analyses; None: they stay as they are.

  Args:
    records: of the run.
    view: of the role that asks.
    settings: of the run.
    batch: Analyses at once where nobody has to be waited for.
  """
  if settings.analyzer.kind != connect.LLM:
    return None
  if settings.llm.startswith(connect.REPLAY):
    url = settings.llm.removeprefix(connect.REPLAY)
    return ReplayedAnalyst(url, batch)
  book = CallBook(records, view, settings)
  model = connect.connect(settings, connect.ANALYZER, book, secret_values())
  if model is None:
    return None
  return ModelAnalyst(Reporter(model, settings), settings.models.parallel)


def _gather(
  analysis: Analysis, evidence: Callable[[Analysis], Evidence]
) -> Evidence | None:
  try:
    return evidence(analysis)
  except Exception:
    # As in the Analyzer: one odd record must not stop all the others.
    log.exception("Analysis %s has no evidence; going on.", analysis.id)
    return None


def _with_report(analysis: Analysis, report: dict[str, Any]) -> Analysis:
  said = reports.text(report)
  text = f"{analysis.text}\n\n{said}" if said else analysis.text
  return dataclasses.replace(analysis, text=text, report=report)
