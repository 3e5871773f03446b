"""The fitness that samplers see where a judge has a say.

A judge's figure and a track's metric have nothing in common but an order, so
both are put on [0, 1] before they are mixed: the metric by the best and the
worst of the pool that samplers choose from (0 to 1 there, below 0 beyond), the
judge by its stated scale. The mixture is told in the metric's own unit and
direction again, so that no sampler knows of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from asi_evolve_jax.records.views import View
from asi_evolve_jax.settings import RunSettings


def sampled(view: View, settings: RunSettings) -> View:
  """Returns the View that samplers see; without a judge that is `view`."""
  if not settings.judge.ratio:
    return view
  judged = {
    program: analysis.judged["score"]
    for program, analyses in view.analyses_of.items()
    for analysis in analyses
    if "score" in analysis.judged
  }
  return Judged(view, judged, settings.judge.ratio, settings.sampler.pool)


class Judged(View):
  """A View for samplers, whose scores are mixed with a judge's.

  Made anew for each sample; for nothing but samples: promotion, verify and
  Claims rest on what was measured.
  """

  def __init__(
    self,
    view: View,
    judged: Mapping[str, float],
    ratio: float,
    pool: int,
  ):
    """
    Args:
      view: of the run; it is shared, not copied.
      judged: Program id -> figure in [0, 1]. Programs without one are taken
        to be as good as the median of these: neither better nor worse.
      ratio: share of the judge in the fitness, in [0, 1).
      pool: how many of the best Programs say what 0 and 1 are.
    """
    self.__dict__.update(view.__dict__)
    self._judgements = judged
    self._ratio = ratio
    self._pool = pool
    self._mixed: dict[str, dict[str, float]] = {}  # rung -> best first

  def score(
    self, program: str, rung: str | None = None, purpose: str | None = None
  ) -> float | None:
    """See View.score; mixed where a rung and no purpose is given."""
    if rung is None or purpose is not None:
      return super().score(program, rung, purpose)
    mixed = self._fitness(rung)
    return mixed.get(program, super().score(program, rung))

  def ranked(self, rung: str, k: int | None = None) -> list[str]:
    """See View.ranked."""
    return list(self._fitness(rung))[:k]

  def _fitness(self, rung: str) -> dict[str, float]:
    if rung not in self._mixed:
      self._mixed[rung] = self._mix(rung)
    return self._mixed[rung]

  def _mix(self, rung: str) -> dict[str, float]:
    """Returns Program id -> fitness, best first."""
    scores = {}
    for program in super().ranked(rung):
      score = super().score(program, rung)
      if score is not None:
        scores[program] = score
    said = [self._judgements[p] for p in scores if p in self._judgements]
    values = list(scores.values())[: self._pool]
    if not said or values[0] == values[-1]:
      return scores
    neutral = statistics.median(said)
    best, span = values[0], values[0] - values[-1]

    def fitness(program: str) -> float:
      share = 1.0 - (best - scores[program]) / span
      judged = self._judgements.get(program, neutral)
      return (1.0 - self._ratio) * share + self._ratio * judged

    # Stable: of equals the better score goes first.
    ordered = sorted(scores, key=fitness, reverse=True)
    return {p: best - (1.0 - fitness(p)) * span for p in ordered}
