"""A language model's report on what was measured, its numbers checked.

The symbolic Analyzer has the facts; a report adds what they may mean. A report
with a number that the evidence does not hold goes back once and is then kept
with that number marked. One that cannot be used goes back once and is then
left out: the symbolic analysis stands alone, and the record says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.port import Completion, Model, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.proposers.llm import PREFIX
from asi_evolve_jax.roles.evidence import Evidence, Row, context_tokens
from asi_evolve_jax.roles.quotes import SMALL, Facts, quotes
from asi_evolve_jax.settings import RunSettings

ROLE = "analyzer"
# Statuses of a report beside those of Completions, which mean that there is
# none.
MISQUOTED = "misquoted"  # some of its numbers stand nowhere: `misquotes`
UNUSABLE = "unusable"  # neither reply was a report

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
SCHEMA = {
  "type": "object",
  "properties": {
    "changed": _TEXT,
    "effects": {
      "type": "array",
      "items": {
        "type": "object",
        "properties": {
          "fact": _TEXT,
          "effect": _NUMBER,
          "low": _NUMBER,
          "high": _NUMBER,
        },
        "required": ["fact", "effect"],
      },
    },
    "cause": _TEXT,
    "next": _TEXT,
    "lessons": {"type": "array", "items": _TEXT},
  },
  "required": ["changed", "effects", "cause", "next", "lessons"],
}
# Characters of a reply that goes back, in those of a report: JSON doubles some,
# and effects are not counted.
_SHOWN = 4
_MOST_EFFECTS = 6
_MOST_LESSONS = 5
# The fields whose numbers must be quotes. Those of `next` are settings to try.
_CHECKED = ("changed", "cause", "lessons")


class ReportError(ValueError):
  """A reply that is no report; the text is for its author."""


class Reporter:
  """Asks a Model for reports; safe to use from several threads."""

  def __init__(self, model: Model, settings: RunSettings):
    self._model = model
    self._settings = settings.analyzer
    self._name = settings.analyzer.model or settings.models.names[0]
    self._system = prompting.system("analyst", settings.models.prompts)
    self._context_tokens = context_tokens(settings)

  def report(self, about: str, evidence: Evidence) -> dict[str, Any]:
    """Returns what Analysis.report holds.

    Args:
      about: which Analysis it is for, e.g. "analysis <id>".
      evidence: behind it.
    """
    task = prompting.template(
      "analyze",
      metric=evidence.metric,
      max_chars=self._settings.max_chars,
      max_effects=_MOST_EFFECTS,
      max_lessons=_MOST_LESSONS,
      small=SMALL,
    )
    facts = Facts(evidence.text)
    room = prompting.Room(self._context_tokens)
    author = {"author": f"{PREFIX}{self._name}"}
    best: dict[str, Any] = {}
    status, why, after = UNUSABLE, "", ""
    for purpose in ("analyze", "analyze-again"):
      prompt = Prompt(
        role=ROLE,
        purpose=purpose,
        about=about,
        system=self._system,
        text=task,
        schema=SCHEMA,
        model=self._name,
      )
      completion = room.ask(
        self._model.complete,
        prompt,
        (*evidence.pieces, *evidence.said, *evidence.printed),
        after,
      )
      if completion.status not in (port.OK, port.CUT, port.INVALID):
        status, why = completion.status, completion.error
        break
      try:
        report = read(completion, self._settings.max_chars)
      except ReportError as error:
        why = str(error)
      else:
        best = _checked(report, evidence, facts)
        if best["status"] == port.OK:
          break
        why = _complaint(best["misquotes"])
      after = prompting.returned(
        "again", completion, why, shown=_SHOWN * self._settings.max_chars
      )
    return {**author, **(best or {"status": status, "why": why})}


def read(completion: Completion, max_chars: int) -> dict[str, Any]:
  """Returns the report in a reply.

  Args:
    completion: OK, CUT or INVALID.
    max_chars: of the whole report.

  Raises:
    ReportError: if it is none.
  """
  if completion.status != port.OK:
    raise ReportError(completion.error)
  data = completion.data
  report = {
    name: " ".join(data[name].split()) for name in ("changed", "cause", "next")
  }
  for name in ("changed", "cause"):
    if not report[name]:
      raise ReportError(f"`{name}` is empty")
  lessons = [" ".join(lesson.split()) for lesson in data["lessons"]]
  lessons = [lesson for lesson in lessons if lesson]
  for name, count, most in (
    ("lessons", len(lessons), _MOST_LESSONS),
    ("effects", len(data["effects"]), _MOST_EFFECTS),
  ):
    if count > most:
      raise ReportError(f"`{name}` has {count} entries, at most {most} may be")
  size = sum(map(len, (*report.values(), *lessons)))
  if size > max_chars:
    raise ReportError(
      f"the report has {size} characters, at most {max_chars} are allowed: it "
      "is not cut, write it shorter"
    )
  effects = [_effect(effect) for effect in data["effects"]]
  return {**report, "effects": effects, "lessons": lessons}


def text(report: Mapping[str, Any]) -> str:
  """Returns a report as Markdown; "" where there is none."""
  if "cause" not in report:
    return ""
  lines = [f"## Read by {report['author'].removeprefix(PREFIX)}", ""]
  lines += [report["changed"], "", f"Probable cause: {report['cause']}"]
  lines += ["", f"Next test: {report['next']}"] if report["next"] else []
  if report["lessons"]:
    lines += ["", *(f"- {lesson}" for lesson in report["lessons"])]
  if report["misquotes"]:
    marks = "; ".join(report["misquotes"])
    lines += ["", f"Not in the record, do not rely on it: {marks}."]
  return "\n".join(lines)


def _effect(said: Mapping[str, Any]) -> dict[str, Any]:
  effect: dict[str, Any] = {"fact": said["fact"][:20]}
  for name in ("effect", "low", "high"):
    try:
      value = float(said[name]) if name in said else None
    except OverflowError:
      value = math.inf
    if value is not None and not math.isfinite(value):
      raise ReportError(f"`{name}` of an effect is no finite number")
    effect[name] = value
  return effect


def _checked(
  report: dict[str, Any], evidence: Evidence, facts: Facts
) -> dict[str, Any]:
  """Returns a report with its status, its marks and what its effects are of."""
  marks: list[str] = []
  effects = []
  for effect in report["effects"]:
    row = evidence.rows.get(effect["fact"])
    effects.append({**effect, "of": row.of if row is not None else ""})
    marks += _wrong(effect, row)
  for name in _CHECKED:
    said = report[name]
    lines = said if isinstance(said, list) else [said]
    marks += [
      f"{number} in {name}"
      for line in lines
      for number in facts.misquotes(line)
    ]
  return {
    **report,
    "effects": effects,
    "status": MISQUOTED if marks else port.OK,
    "misquotes": list(dict.fromkeys(marks)),
  }


def _wrong(effect: Mapping[str, Any], row: Row | None) -> list[str]:
  if row is None:
    return [f"{effect['fact']!r} in effects"]
  wrong = []
  for name in ("effect", "low", "high"):
    said, measured = effect[name], getattr(row, name)
    if said is None and measured is None:
      continue
    if said is None or measured is None or not quotes(said, measured):
      value = "none" if said is None else f"{said:g}"
      wrong.append(f"{value} as {name} of {row.name}")
  return wrong


def _complaint(marks: list[str]) -> str:
  return (
    "These numbers quote nothing of what was measured: "
    f"{'; '.join(marks)}. Copy numbers as they are printed, sign included, or "
    "say it without a number."
  )
