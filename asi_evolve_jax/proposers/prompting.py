"""Prompts: templates from files, filled with what fits.

Nothing is ever cut in the middle: where the material is more than the model
can read, whole pieces are left out, the least telling first.
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from asi_evolve_jax.llm import port
from asi_evolve_jax.llm.client import CHARS_PER_TOKEN
from asi_evolve_jax.llm.port import Completion, Prompt
from asi_evolve_jax.proposers.base import Briefing, Context, Story
from asi_evolve_jax.settings import SettingsError

_FOLDER = Path(__file__).with_name("prompts")
# Prompts that a track may have of its own: of the Researcher, the Analyzer.
OWN = ("system", "analyst")
_EFFECTS = 12  # features told, the surest first
# Of the model's context, for the material: the rest is for the reply that
# goes back.
_SHARE = 0.6


@dataclasses.dataclass(frozen=True)
class Piece:
  """Part of a prompt; `rank` 0 stays always, larger ones go first."""

  rank: int
  text: str


def template(name: str, **values: object) -> str:
  """Returns prompts/<name>.md with `$names` filled in."""
  return string.Template(_text(name)).substitute(
    {key: str(value) for key, value in values.items()}
  )


def system(name: str, folder: str) -> str:
  """Returns what a model is told before every task.

  Args:
    name: one of OWN.
    folder: config.models.prompts.
  """
  own = Path(folder, f"{name}.md")
  found = own if folder and own.is_file() else _FOLDER / own.name
  return found.read_text(encoding="utf-8").strip()


def check(folder: str) -> None:
  """Checks config.models.prompts.

  Raises:
    SettingsError: if nothing there would be read.
  """
  files = [f"{name}.md" for name in OWN]
  if folder and not any(Path(folder, file).is_file() for file in files):
    raise SettingsError(
      f"config.models.prompts is {folder!r}, which holds none of "
      f"{', '.join(files)}: mend the path or leave it empty."
    )


def material(context: Context, briefing: Briefing) -> list[Piece]:
  """Returns what a model is told before its task, in the order it is told."""
  pieces = [
    Piece(0, f"# Contract\n\n{briefing.brief}" if briefing.brief else ""),
    Piece(0, _story("Parent", briefing.parent)),
    Piece(1, _analysis(briefing.parent)),
    Piece(1, _guidance(context)),
    Piece(2, _effects(context)),
  ]
  pieces += [
    Piece(
      3 + i,
      f"# From the literature and this run: {item.title}\n\n"
      f"Id: {item.id}\n\n{item.text}",
    )
    for i, item in enumerate(context.knowledge)
    if item.text
  ]
  pieces += [
    Piece(
      4 + i,
      f"# Tried nearby, did not work: {f.name}\n\n{f.motivation}\n\n{f.why}",
    )
    for i, f in enumerate(briefing.failures)
  ]
  for i, story in enumerate(briefing.references):
    # What was learnt of a reference is worth more than its source.
    pieces.append(Piece(4 + i, _outline(story)))
    pieces.append(Piece(10 + i, _source("Source of", story)))
  return [piece for piece in pieces if piece.text]


class Room:
  """How much material a prompt takes; less once it was too long.

  Attributes:
    reply_chars: for a reply that goes back.
  """

  def __init__(self, context_tokens: int):
    """
    Args:
      context_tokens: most that a prompt may have.
    """
    chars = context_tokens * CHARS_PER_TOKEN
    self._chars = int(_SHARE * chars)
    self.reply_chars = chars - self._chars

  def ask(
    self,
    complete: Callable[[Prompt], Completion],
    prompt: Prompt,
    pieces: Sequence[Piece],
    after: str = "",
  ) -> Completion:
    """Asks about as many pieces as fit, and about fewer if it was too long.

    Args:
      complete: of a Model.
      prompt: its text is the task alone.
      pieces: what stands before the task.
      after: what follows the task.
    """
    task = prompt.text
    while True:
      sent = self._fit(pieces, task)
      text = "\n\n".join(part for part in (sent, task) if part)
      completion = complete(dataclasses.replace(prompt, text=text + after))
      if completion.status != port.TOO_LONG:
        return completion
      # There may have been room for more than there was.
      self._chars = min(self._chars, len(sent) + len(task)) // 2
      if len(self._fit(pieces, task)) >= len(sent):
        return completion

  def _fit(self, pieces: Sequence[Piece], task: str) -> str:
    return fit(pieces, self._chars - len(task))


def returned(
  form: str,
  completion: Completion,
  problem: str,
  *,
  shown: int,
  **values: object,
) -> str:
  """Returns what follows a task when its reply goes back.

  Args:
    form: name of a template with `$reply` and `$problem`.
    completion: the reply.
    problem: what is wrong with it, for its author.
    shown: most characters of the reply; what it may hold fits in.
    **values: what else the template takes.
  """
  text = completion.text
  if len(text) > shown:
    text = f"{text[:shown]}\n[... {len(text) - shown} more]"
  return template(form, reply=text, problem=problem, **values)


def fit(pieces: Sequence[Piece], most_chars: int) -> str:
  """Returns the pieces that fit, joined; those of rank 0 stay in any case."""
  kept = list(pieces)
  while sum(len(p.text) + 2 for p in kept) > most_chars:
    last = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
    if not kept[last].rank:
      break
    kept.pop(last)
  return "\n\n".join(piece.text for piece in kept)


def _story(title: str, story: Story) -> str:
  return "\n\n".join(
    part
    for part in (
      f"# {title}: {story.name}",
      story.motivation,
      f"Measured:\n{story.results}" if story.results else "Not measured.",
      f"```python\n{story.source}\n```",
    )
    if part
  )


def _outline(story: Story) -> str:
  parts = [f"# Another Program: {story.name}", story.motivation]
  parts += [f"Measured:\n{story.results}" if story.results else ""]
  parts += [story.analysis]
  return "\n\n".join(part for part in parts if part)


def _source(title: str, story: Story) -> str:
  return f"# {title} {story.name}\n\n```python\n{story.source}\n```"


def _analysis(story: Story) -> str:
  return (
    f"# Analysis of {story.name}\n\n{story.analysis}" if story.analysis else ""
  )


def _guidance(context: Context) -> str:
  lines = [f"- {word.text} ({word.by})" for word in context.guidance]
  return "\n".join(["# What people ask for", "", *lines]) if lines else ""


def _effects(context: Context) -> str:
  """Returns the effects that are surest, as the Analyzer has them."""

  def sureness(entry: tuple[str, tuple[float, float, float, int]]) -> float:
    _, (effect, low, high, _) = entry
    return -abs(effect) / max(high - low, 1e-12)

  lines = [
    f"- {name}: {effect:+.3g} [{low:+.3g}, {high:+.3g}], {n} Programs"
    for name, (effect, low, high, n) in sorted(
      context.effects.items(), key=sureness
    )[:_EFFECTS]
  ]
  if not lines:
    return ""
  head = "# Measured effects of design choices (positive is better, 95 %)"
  return "\n".join([head, "", *lines])


@functools.cache
def _text(name: str) -> str:
  return (_FOLDER / f"{name}.md").read_text()
