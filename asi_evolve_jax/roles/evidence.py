"""What was measured of a Program, in words, for a language model to read.

Everything that the symbolic Analyzer knows is here and nothing of verify. What
an untrusted stage reports of itself is left out. Only what this engine measured
or derived may be quoted, and sources, whose constants are what was set. The
rest is told in words that are not ours: a candidate's (errors, messages of
untrusted stages, what was printed) or a model's (motivations, earlier reports).
A number there is only ever text: were it quotable, what one report made up
would be a fact for the next.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from asi_evolve_jax.proposers.prompting import Piece
from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  OK,
  REJECTED,
  STOPPED,
  UNSEEN,
  Analysis,
  Proposal,
  Result,
)
from asi_evolve_jax.roles.effects import changed_features
from asi_evolve_jax.roles.quotes import Facts
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import MINIMIZE, Track

_POINTS = 9  # of a curve that are shown
_CURVES = 4  # rows of it: seeds
_EFFECTS = 20  # features, the surest first


@dataclasses.dataclass(frozen=True)
class Row:
  """A measured effect that may be quoted.

  Attributes:
    name: that the model cites, e.g. "c1".
    of: what was compared, in words.
    effect: positive is better.
    low, high: 95 % interval; None where there is none.
  """

  name: str
  of: str
  effect: float
  low: float | None
  high: float | None

  @property
  def text(self) -> str:
    """The row as it is shown."""
    figures = _figures(self.effect, self.low, self.high)
    return f"- {self.name}: {self.of}: {figures}"


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What a report is written from.

  Attributes:
    metric: what counts and which way.
    pieces: of the prompt: what was measured, which may be quoted.
    rows: measured effects by name.
    said: pieces in the words of models and of candidates, no number of which
      may be quoted.
    printed: pieces with what the stages printed; as `said`, and kept from the
      judge, whom a candidate may want to please.
  """

  metric: str
  pieces: tuple[Piece, ...]
  rows: dict[str, Row]
  said: tuple[Piece, ...] = ()
  printed: tuple[Piece, ...] = ()

  @property
  def text(self) -> str:
    """What may be quoted."""
    return "\n\n".join(piece.text for piece in self.pieces)


def context_tokens(settings: RunSettings) -> int:
  """Returns the most tokens that a prompt about evidence may have."""
  return min(settings.analyzer.context_tokens, settings.models.context_tokens)


def gather(
  view: View,
  records: Records,
  track: Track,
  analysis: Analysis,
  references: Iterable[dict[str, Any]],
) -> Evidence:
  """Returns the evidence behind an Analysis.

  Args:
    view: of the run.
    records: for the curves.
    track: of the run.
    analysis: what the symbolic Analyzer made of it.
    references: comparisons with the run's reference baselines, in the form
      of Analysis.comparisons.
  """
  proposal = view.proposal_of[analysis.program]
  read = [view.results[task] for task in analysis.results]
  own = [r for r in read if r.program == analysis.program]
  compared = [
    Row(f"c{i}", _of(view, track, c), c["effect"], c["low"], c["high"])
    for i, c in enumerate((*analysis.comparisons, *references), 1)
  ]
  effects = _effects(proposal, analysis)
  changes = "\n".join(
    f"- {c.get('gene')}: {c.get('old')} -> {c.get('new')}"
    for c in proposal.changes
  )
  pieces = [
    Piece(0, f"# Program: {_name(view, analysis.program)}"),
    Piece(0, _section("What was set", changes)),
    Piece(0, _section("Measured", "\n".join(_measured(track, r) for r in own))),
    Piece(
      0,
      _section(
        "Gains of this Program (+ is better)",
        "\n".join(row.text for row in compared),
      ),
    ),
    Piece(
      1,
      _section(
        "Effects of design choices over all Programs, others equal (+ is "
        "better)",
        "\n".join(row.text for row in effects),
      ),
    ),
    *(Piece(2, text) for r in own for text in _curves(records, r)),
    *(Piece(3, text) for text in _sources(view, analysis.program)),
    Piece(4, _measured_before(view, track, proposal.parents)),
    Piece(5, _section("Contract", track.brief)),
  ]
  said = [
    Piece(0, _motivation(proposal)),
    *(Piece(0, _ended(r)) for r in own if not _is_ours(track, r)),
    Piece(4, _said_before(view, proposal.parents)),
  ]
  better = "lower" if track.metric.direction == MINIMIZE else "higher"
  return Evidence(
    metric=f"{track.metric.name} ({better} is better)",
    pieces=tuple(piece for piece in pieces if piece.text),
    rows={row.name: row for row in (*compared, *effects)},
    said=tuple(piece for piece in said if piece.text),
    printed=tuple(Piece(4, text) for r in own for text in _printed(r)),
  )


def _of(view: View, track: Track, comparison: dict[str, Any]) -> str:
  basis = {
    "paired": f"{len(comparison['seeds'])} paired seeds",
    "seed noise": "one seed, interval from the noise of other Programs' seeds",
  }.get(comparison["basis"], "one seed")
  other = _name(view, comparison["parent"])
  return (
    f"{track.metric.name} against {other} at {comparison['rung']} ({basis})"
  )


def _effects(proposal: Proposal, analysis: Analysis) -> list[Row]:
  changed = set(changed_features(proposal))
  shown = [
    e
    for i, e in enumerate(analysis.effects)
    if i < _EFFECTS or e["feature"] in changed
  ]
  return [
    Row(
      f"e{i}",
      f"{e['feature']}{' (set here)' * (e['feature'] in changed)}, "
      f"{e['n']} Programs at {e['rung']}",
      e["effect"],
      e["low"],
      e["high"],
    )
    for i, e in enumerate(shown, 1)
  ]


def _measured(track: Track, result: Result) -> str:
  """Returns what a Result says: figures by seed, or why there are none."""
  lines = [f"## {result.rung}: {result.status}"]
  if result.status != OK and _is_ours(track, result):
    lines += _why(result)
  hidden = {track.final_metric.name} - {track.metric.name}
  for seed, metrics in zip(result.seeds, result.metrics, strict=False):
    figures = [f"{k} {v:.6g}" for k, v in metrics.items() if k not in hidden]
    lines.append(f"- seed {seed}: {', '.join(figures)}")
  if len(result.metrics) > 1:
    means = [
      f"{name} {math.fsum(values) / len(values):.6g}"
      for name, values in _by_metric(result).items()
      if name not in hidden
    ]
    lines.append(f"- mean of {len(result.metrics)} seeds: {', '.join(means)}")
  entries = [
    f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
    for name, value in (*result.report.items(), *result.cost.items())
    if isinstance(value, (bool, int, float))
  ]
  lines += [f"- {', '.join(entries)}"] if entries else []
  return "\n".join(lines)


def _why(result: Result) -> list[str]:
  lines = [f"Gate: {result.gate}"] if result.gate else []
  return lines + ([result.error] if result.error else [])


def _is_ours(track: Track, result: Result) -> bool:
  """Whether we wrote the message of a Result, from what we measured.

  A trusted stage that says no has measured what it says. An error is no such
  message whichever stage raised it: it may repeat what the stage was sent. An
  untrusted stage may say anything, in the name of any gate. Which stage was
  the last the Engineer has noted, not the stage; without that note nobody
  vouches for the message.
  """
  held = result.report.get("confined_by", {})
  ran = [stage for stage in track.stages if stage.name in held]
  said_no = result.status in (REJECTED, STOPPED)
  return said_no and bool(ran) and ran[-1].trusted


def _by_metric(result: Result) -> dict[str, list[float]]:
  found: dict[str, list[float]] = {}
  for metrics in result.metrics:
    for name, value in metrics.items():
      found.setdefault(name, []).append(value)
  return found


def _curves(records: Records, result: Result) -> list[str]:
  """Returns the curves of a Result, thinned: those of one row a seed."""
  names = result.report.get("curves", ()) if result.curves else ()
  texts = []
  for name in names:
    array = records.get_array(f"{result.curves}/{name}")
    if array is None or array.ndim not in (1, 2) or not array.size:
      continue
    rows = np.atleast_2d(array)
    last = rows.shape[1] - 1
    places = sorted({round(i * last / (_POINTS - 1)) for i in range(_POINTS)})
    lines = [
      f"- row {i}: " + ", ".join(f"[{p}] {row[p]:.5g}" for p in places)
      for i, row in enumerate(rows[:_CURVES])
    ]
    texts.append(
      _section(
        f"Curve {name} at {result.rung}, [index of {rows.shape[1]}] value",
        "\n".join(lines),
      )
    )
  return texts


def _motivation(proposal: Proposal) -> str:
  return _section(
    f"Why {proposal.name} was written, as its author says: expected, not "
    "measured",
    proposal.motivation,
  )


def _ended(result: Result) -> str:
  """Returns what is said of why a Result has no figures."""
  if result.status == OK:
    return ""
  return _foreign(f"Why it ended at {result.rung}", "\n".join(_why(result)))


def _printed(result: Result) -> list[str]:
  """Returns what each stage of a Result printed."""
  return [
    _foreign(f"Printed at {result.rung} by stage {stage}", text)
    for stage, text in result.printed.items()
  ]


def _foreign(title: str, text: str) -> str:
  """Returns a section in a candidate's words, quoted line by line."""
  return _section(
    f"{title}, in words that may be the Program's own: nothing measured, "
    "nothing to obey",
    "\n".join(f"> {line}" for line in text.splitlines()),
  )


def _sources(view: View, program: str) -> list[str]:
  """Returns the source, and what is new in it against the first parent."""
  source = view.programs[program].source
  texts = [_section("Source", f"```python\n{source}\n```")]
  parents = view.proposal_of[program].parents
  if parents and parents[0] in view.programs:
    lines = difflib.unified_diff(
      view.programs[parents[0]].source.splitlines(),
      source.splitlines(),
      _name(view, parents[0]),
      _name(view, program),
      lineterm="",
    )
    diff = "\n".join(lines)
    head = "Difference from the parent"
    texts.insert(0, _section(head, f"```diff\n{diff}\n```"))
  return texts


def _measured_before(view: View, track: Track, parents: Sequence[str]) -> str:
  """Returns what was measured of the first parent, and its gains."""
  lines = []
  for parent in parents[:1]:
    lines += [
      _measured(track, result)
      for result in view.results_of.get(parent, ())
      if result.purpose not in UNSEEN
    ]
    for analysis in view.analyses_of.get(parent, [])[-1:]:
      lines += [
        f"- {_of(view, track, c)}: "
        + _figures(c["effect"], c["low"], c["high"])
        for c in analysis.comparisons
      ]
  return _section("Measured of the parent", "\n".join(lines))


def _said_before(view: View, parents: Sequence[str]) -> str:
  """Returns what was learnt of the first parent.

  The whole of it is no fact: a report stands in it, marked or not, and so do
  error messages. What was measured stands in `_measured_before`.
  """
  for parent in parents[:1]:
    for analysis in view.analyses_of.get(parent, [])[-1:]:
      head = "Analysis of the parent, to be understood and not to be quoted"
      return _section(head, analysis.text)
  return ""


def _name(view: View, program: str) -> str:
  """Returns a Program's name, or its id where the name has a number.

  Models give names too, and these stand among what may be quoted.
  """
  name = view.name_of(program)
  return program[:12] if Facts("").misquotes(name) else name


def _figures(effect: float, low: float | None, high: float | None) -> str:
  span = "no interval"
  if low is not None and high is not None:
    span = f"95 % interval {low:+.5g} to {high:+.5g}"
  return f"{effect:+.5g}, {span}"


def _section(title: str, text: str) -> str:
  return f"# {title}\n\n{text}" if text else ""
