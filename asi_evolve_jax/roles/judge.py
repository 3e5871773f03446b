"""A language model's marks for a Program: how new, how simple, how cheap.

They may steer which Programs are edited next (search/fitness.py) and nothing
else. A reply that is off the scale is no mark: it is not clamped, and a judge
that fails leaves its Program unjudged.
"""

from __future__ import annotations

from typing import Any

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.port import Model, Prompt
from asi_evolve_jax.proposers import prompting
from asi_evolve_jax.proposers.llm import JUDGE, PREFIX
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import OK, Analysis
from asi_evolve_jax.roles.evidence import Evidence, context_tokens
from asi_evolve_jax.settings import RunSettings

MOST = 10  # of the scale, which begins at 0
MARKS = ("novelty", "complexity", "efficiency")
_SCHEMA = {
  "type": "object",
  "properties": {
    **{mark: {"type": "number"} for mark in MARKS},
    "why": {"type": "string"},
  },
  "required": [*MARKS, "why"],
}
_LONGEST_WHY = 1_000


class Judge:
  """Asks a Model for marks; safe to use from several threads."""

  def __init__(self, model: Model, settings: RunSettings):
    self._model = model
    self._name = settings.judge.model or settings.models.names[0]
    self._context_tokens = context_tokens(settings)

  def judge(self, about: str, evidence: Evidence) -> dict[str, Any]:
    """Returns what Analysis.judged holds.

    Args:
      about: which Analysis it is for, e.g. "analysis <id>".
      evidence: behind it.
    """
    task = prompting.template("marks", most=MOST)
    room = prompting.Room(self._context_tokens)
    prompt = Prompt(
      role=JUDGE,
      purpose="marks",
      about=about,
      text=task,
      schema=_SCHEMA,
      model=self._name,
    )
    completion = room.ask(
      self._model.complete, prompt, (*evidence.pieces, *evidence.said)
    )
    author = {"author": f"{PREFIX}{self._name}"}
    if completion.status != port.OK:
      return {**author, "status": completion.status, "why": completion.error}
    said = completion.data
    for mark in MARKS:
      if not 0 <= said[mark] <= MOST:
        why = f"{mark} is not on the scale of 0 to {MOST}"
        return {**author, "status": port.INVALID, "why": why}
    marks = {mark: float(said[mark]) for mark in MARKS}
    return {
      **author,
      "status": port.OK,
      **marks,
      "score": sum(marks.values()) / (MOST * len(MARKS)),
      "why": said["why"][:_LONGEST_WHY],
    }


def wanted(view: View, analysis: Analysis) -> bool:
  """Whether a Program was measured and has no marks yet."""
  return any(
    view.results[task].program == analysis.program
    and view.results[task].status == OK
    for task in analysis.results
  ) and not any(
    "score" in earlier.judged
    for earlier in view.analyses_of.get(analysis.program, ())
  )
