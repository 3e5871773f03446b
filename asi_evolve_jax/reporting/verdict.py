"""What a person should take away: the Claims in a few sentences.

Nothing is tested here. The Claims are the one source of verdicts.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import CLAIMED, Claim
from asi_evolve_jax.roles.waves import waves
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Metric, Track


@dataclasses.dataclass(frozen=True)
class LookedBetter:
  """What became, at verify, of a lead over one reference in the search.

  Attributes:
    reference: name of the baseline.
    rung: the last one of the search.
    measured: candidates that the search measured there.
    ahead: those of them that scored better than the reference there.
    judged: those of `ahead` that verify compared with it.
    claimed: those of `judged` that are claimed.
    worse: those of `judged` whose gain at verify is 0 or less.
  """

  reference: str
  rung: str
  measured: int
  ahead: int
  judged: int
  claimed: int
  worse: int

  def sentence(self) -> str:
    """Returns it in words."""
    text = (
      f"Of {self.measured} candidates at {self.rung}, {self.ahead} scored "
      f"better than {self.reference}"
    )
    if not self.judged:
      return f"{text}; verify judged none of them."
    noise = self.judged - self.claimed - self.worse
    return (
      f"{text}; verify judged {self.judged} of these: {self.claimed} held, "
      f"{noise} ahead but not beyond chance, {self.worse} not ahead at all."
    )


def looked_better(
  view: View, settings: RunSettings, metric: Metric
) -> list[LookedBetter]:
  """Returns what became of leads in the search, for each reference.

  Args:
    view: of the run.
    settings: of the run.
    metric: of the search.
  """
  rung = settings.ladder[-1].name
  scores = {
    program: score
    for program in view.ranked(rung)
    if (score := view.score(program, rung)) is not None
  }
  found = []
  for reference in settings.verify.references:
    baseline = view.baseline(reference)
    if baseline is None or baseline not in scores:
      continue
    candidates = [p for p in scores if p not in view.baselines]
    ahead = [
      p for p in candidates if metric.better(scores[p], scores[baseline])
    ]
    # The best that verify said of each.
    judged: dict[str, Claim] = {}
    for claim in comparisons(view):
      if claim.baseline == baseline and claim.program in ahead:
        known = judged.get(claim.program)
        if known is None or known.verdict != CLAIMED:
          judged[claim.program] = claim
    claimed = [c for c in judged.values() if c.verdict == CLAIMED]
    found.append(
      LookedBetter(
        reference=reference,
        rung=rung,
        measured=len(candidates),
        ahead=len(ahead),
        judged=len(judged),
        claimed=len(claimed),
        worse=sum(c.effect is None or c.effect <= 0 for c in judged.values()),
      )
    )
  return found


def comparisons(view: View) -> list[Claim]:
  """Returns the standing Claims without the controls."""
  return [c for c in view.standing_claims() if not c.control]


def is_candidate(view: View, claim: Claim) -> bool:
  """Whether the Claim's Program came out of the search."""
  known = claim.program in view.proposal_of
  return known and claim.program not in view.baselines


def sentences(view: View, settings: RunSettings, track: Track) -> list[str]:
  """Returns the closing verdict, one sentence an entry; empty without verify.

  It counts the Claims of candidates and of baselines apart, says each
  candidate's figures, what became of leads in the search, and how controls
  ended.
  """
  if not waves(view, settings):
    return []
  claims = comparisons(view)
  if not claims and not view.claims:
    return ["Verify is not complete: nothing is claimed."]
  mine = [c for c in claims if is_candidate(view, c)]
  lines = _count(view, mine)
  lines += [_line(view, c, track.final_metric) for c in mine]
  known = [c for c in claims if not is_candidate(view, c)]
  held = [_versus(view, c) for c in known if c.verdict == CLAIMED]
  if known:
    lines.append(
      f"Comparisons between published Programs: {len(held)} of {len(known)} "
      "claimed" + (f" ({', '.join(held)})." if held else ".")
    )
  lines += [
    seen.sentence() for seen in looked_better(view, settings, track.metric)
  ]
  controls = [c for c in view.standing_claims() if c.control]
  if controls:
    false = sum(c.verdict == CLAIMED for c in controls)
    lines.append(
      f"{len(controls)} control{'s' * (len(controls) != 1)} (a Program against "
      f"itself): {false} falsely claimed."
    )
  return lines


def table(view: View) -> str:
  """Returns every standing comparison, controls too, as a Markdown table."""
  header = (
    *("Program", "over", "gain [95 %]", "p", "corrected", "seeds"),
    *("verdict", "why", "Claim"),
  )
  lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
  for claim in view.standing_claims():
    cells = (
      view.name_of(claim.program),
      "itself" if claim.control else view.name_of(claim.baseline),
      interval(claim.effect, claim.low, claim.high),
      f"{claim.p:.2g}",
      f"{claim.p_corrected:.2g} of {claim.family}",
      str(len(claim.seeds)),
      claim.verdict,
      claim.why.replace("|", "/"),
      f"`{claim.id[:8]}`",
    )
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines) + "\n"


def _count(view: View, claims: Sequence[Claim]) -> list[str]:
  if not claims:
    return ["No candidate of the search was verified."]
  lines = []
  for baseline in dict.fromkeys(c.baseline for c in claims):
    against = [c for c in claims if c.baseline == baseline]
    held = [c for c in against if c.verdict == CLAIMED]
    name = view.name_of(baseline)
    if held:
      names = ", ".join(view.name_of(c.program) for c in held)
      lines.append(
        f"{len(held)} of {len(against)} verified candidates beat {name} on "
        f"fresh seeds: {names}."
      )
    else:
      lines.append(
        f"No verified candidate (of {len(against)}) beat {name} by more than "
        "chance allows on fresh seeds."
      )
  largest = max(claims, key=lambda c: c.family)
  lines.append(
    f"Corrected over all that entered verify (Programs: {largest.entered}, "
    f"comparisons: {largest.family}); {largest.proposed} were proposed in all."
  )
  return lines


def _line(view: View, claim: Claim, metric: Metric) -> str:
  text = f"{_versus(view, claim)}: "
  if claim.effect is None:
    return f"{text}{claim.verdict} ({claim.why})."
  gain = interval(claim.effect, claim.low, claim.high)
  text += f"gain {gain} {metric.unit}".rstrip()
  seeds = baseline_scores(view, claim)
  if len(seeds) > 1:
    spread = statistics.stdev(seeds)
    text += f", seed spread of the baseline {spread:.4f}"
  return f"{text}; {claim.verdict} ({claim.why})."


def interval(
  effect: float | None, low: float | None, high: float | None
) -> str:
  """Returns "+0.0123 [+0.0100, +0.0146]", as much of it as there is."""
  if effect is None:
    return "not measured"
  if low is None or high is None:
    return f"{effect:+.4f} (no interval)"
  return f"{effect:+.4f} [{low:+.4f}, {high:+.4f}]"


def program_scores(view: View, claim: Claim) -> list[float]:
  """Returns the final metric of the Claim's Program, in `seeds` order."""
  return _scores(view, claim.results, claim.seeds, claim.metric)


def baseline_scores(view: View, claim: Claim) -> list[float]:
  """Returns that of its baseline, in `baseline_seeds` order."""
  return _scores(
    view, claim.baseline_results, claim.baseline_seeds, claim.metric
  )


def _scores(
  view: View, tasks: Sequence[str], seeds: Sequence[int], metric: str
) -> list[float]:
  found: dict[int, float] = {}
  for task in tasks:
    result = view.results[task]
    for seed, metrics in zip(result.seeds, result.metrics, strict=False):
      if metric in metrics:
        found.setdefault(seed, metrics[metric])
  return [found[seed] for seed in seeds if seed in found]


def _versus(view: View, claim: Claim) -> str:
  return f"{view.name_of(claim.program)} over {view.name_of(claim.baseline)}"
