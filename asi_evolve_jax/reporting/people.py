"""What people said to a run and what it spent, for reports and terminals."""

from __future__ import annotations

import time

from asi_evolve_jax.evaluation.budget import Budget
from asi_evolve_jax.records import View, steering
from asi_evolve_jax.records.schema import Steer
from asi_evolve_jax.settings import RunSettings
from asi_evolve_jax.tracks.base import Track, rung_work


def describe(view: View, word: Steer) -> str:
  """Returns a word as its author could have typed it, Programs by name."""
  said = word.arguments
  parts = [word.verb]
  if "program" in said:
    parts.append(view.name_of(said["program"]))
  if said.get("descendants"):
    parts.append("and its descendants")
  if word.verb == steering.BUDGET:
    parts.append(f"{said['name']}={said['value']:g}")
  rest = ("rung", "text", "reason", "number")
  parts += [str(said[name]) for name in rest if name in said]
  return " ".join(part for part in parts if part)


def when(word: Steer) -> str:
  """Returns the time of a word on this machine's clock."""
  return time.strftime("%m-%d %H:%M", time.localtime(word.created_at))


def section(view: View, settings: RunSettings, track: Track) -> str:
  """Returns budgets and words as Markdown."""
  lines = ["## What was spent, and what people said\n"]
  budget = Budget(view, settings, work=rung_work(track, settings))
  lines += [f"- {line.text()}" for line in budget.lines()]
  for word in view.steering.words:
    gone = ", withdrawn" if word.number in view.steering.withdrawn else ""
    lines.append(
      f"- {word.number}. {describe(view, word)} ({word.by}, {when(word)}{gone})"
    )
  if not view.steering.words:
    lines.append("- Nobody steered this run.")
  return "\n".join(lines) + "\n"
