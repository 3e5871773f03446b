"""Whether anything beat the reference: paired, on fresh seeds, corrected."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from asi_evolve_jax.evaluation.statistics import (
  holm,
  paired_difference,
)
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Metric

_LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One Program against the reference, on the seeds both were measured at.

  Attributes:
    gain: mean paired difference, positive is better than the reference.
    low, high: its 95 % t interval.
    p: two-sided, of the paired t test; p_corrected: Holm over all finalists.
    spread: standard deviation of the reference over its seeds.
    better: the corrected test holds and the gain is positive.
  """

  program: str
  name: str
  author: str
  gain: float
  low: float
  high: float
  p: float
  p_corrected: float
  seeds: tuple[int, ...]
  spread: float
  better: bool

  def json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def compare(
  view: View, settings: RunSettings, metric: Metric
) -> list[Comparison]:
  """Compares finalists and baselines with the reference baseline.

  The correction runs over the finalists only: baselines were not selected.
  """
  asked = view.milestones.get("verify-asked")
  rung = settings.verify.rung
  if asked is None or rung is None:
    return []
  reference = next(
    (
      program
      for program in asked.detail["baselines"]
      if view.proposal_of[program].name == settings.verify.reference
    ),
    None,
  )
  if reference is None:
    return []
  base = view.measurements(reference, rung.name, VERIFY, metric.name)
  if len(base) < 2:
    return []
  spread = statistics.stdev(base.values())
  found = []
  for program in [*asked.detail["finalists"], *asked.detail["baselines"]]:
    if program == reference:
      continue
    mine = view.measurements(program, rung.name, VERIFY, metric.name)
    seeds = tuple(sorted(set(mine) & set(base)))
    if len(seeds) < 2:
      continue
    gains = [metric.gain(mine[s], base[s]) for s in seeds]
    gain, low, high, p = paired_difference(gains)
    proposal = view.proposal_of[program]
    found.append(
      Comparison(
        program,
        proposal.name,
        proposal.author,
        gain,
        low,
        high,
        p,
        p,
        seeds,
        spread,
        False,
      )
    )
  return _corrected(found)


def _corrected(found: list[Comparison]) -> list[Comparison]:
  finalists = [c for c in found if c.author != "baseline"]
  corrected = dict(
    zip(
      [c.program for c in finalists],
      holm([c.p for c in finalists]),
      strict=True,
    )
  )
  done = []
  for c in found:
    p = corrected.get(c.program, c.p)
    done.append(
      dataclasses.replace(c, p_corrected=p, better=c.gain > 0 and p < _LEVEL)
    )
  return done


def sentence(
  found: list[Comparison], settings: RunSettings, metric: Metric
) -> str:
  """Returns what a person should take away, in a few sentences."""
  finalists = [c for c in found if c.author != "baseline"]
  if not finalists:
    return (
      "No finalist has enough verify seeds to be compared with "
      f"{settings.verify.reference}: nothing is claimed."
    )
  lines = []
  winners = [c for c in finalists if c.better]
  if winners:
    names = ", ".join(c.name for c in winners)
    lines.append(
      f"{len(winners)} of {len(finalists)} finalists beat "
      f"{settings.verify.reference} on fresh seeds: {names}."
    )
  else:
    lines.append(
      f"No finalist beat {settings.verify.reference} by more than chance "
      "allows on fresh seeds."
    )
  for c in finalists:
    lines.append(
      f"{c.name}: gain {c.gain:+.4f} {metric.unit} "
      f"[{c.low:+.4f}, {c.high:+.4f}], p {c.p:.3g} "
      f"(corrected {c.p_corrected:.3g}), {len(c.seeds)} seeds; seed spread of "
      f"the reference {c.spread:.4f}."
    )
  return "\n".join(lines)
