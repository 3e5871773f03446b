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
from asi_evolve_jax.roles.judge import Judge, wanted
from asi_evolve_jax.roles.reports import Reporter
from asi_evolve_jax.settings import RunSettings

log = logging.getLogger(__name__)

_Answer = futures.Future[dict[str, Any]]


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
  """Asks a language model for a report on each, for marks, or for both."""

  def __init__(
    self,
    view: View,
    reporter: Reporter | None,
    judge: Judge | None,
    parallel: int,
  ):
    self.batch = parallel
    self._view = view
    self._reporter = reporter
    self._judge = judge

  def add(
    self,
    analyses: Sequence[Analysis],
    evidence: Callable[[Analysis], Evidence],
  ) -> list[Analysis]:
    """See Analyst."""
    with futures.ThreadPoolExecutor(self.batch) as pool:
      asked = [self._ask(pool, analysis, evidence) for analysis in analyses]
    return [
      _with(
        analysis, *(answer.result() if answer else {} for answer in answers)
      )
      for analysis, answers in zip(analyses, asked, strict=True)
    ]

  def _ask(
    self,
    pool: futures.Executor,
    analysis: Analysis,
    evidence: Callable[[Analysis], Evidence],
  ) -> tuple[_Answer | None, _Answer | None]:
    """Returns the report and the marks that are asked for."""
    try:
      behind = evidence(analysis)
    except Exception:
      # As in the Analyzer: one odd record must not stop all the others.
      log.exception("Analysis %s has no evidence; going on.", analysis.id)
      return None, None
    about = f"analysis {analysis.id}"
    report = judged = None
    if self._reporter is not None:
      report = pool.submit(self._reporter.report, about, behind)
    if self._judge is not None and wanted(self._view, analysis):
      judged = pool.submit(self._judge.judge, about, behind)
    return report, judged


class ReplayedAnalyst:
  """Adds what a recorded run has at the same Program and Results.

  Reports and marks stand as they were written: what they quote is what
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
    known = self._analyses
    return [
      _with(a, known[a.id].report, known[a.id].judged) if a.id in known else a
      for a in analyses
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
  reads = settings.analyzer.kind == connect.LLM
  judges = settings.judge.ratio > 0
  if not (reads or judges):
    return None
  if settings.llm.startswith(connect.REPLAY):
    url = settings.llm.removeprefix(connect.REPLAY)
    return ReplayedAnalyst(url, batch)
  book = CallBook(records, view, settings)
  model = connect.connect(settings, connect.ANALYZER, book, secret_values())
  if model is None:
    return None
  return ModelAnalyst(
    view,
    Reporter(model, settings) if reads else None,
    Judge(model, settings) if judges else None,
    settings.models.parallel,
  )


def _with(
  analysis: Analysis, report: dict[str, Any], judged: dict[str, Any]
) -> Analysis:
  said = reports.text(report)
  text = f"{analysis.text}\n\n{said}" if said else analysis.text
  return dataclasses.replace(analysis, text=text, report=report, judged=judged)
