"""What `python -m launch.steer` does: a person's word becomes a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from asi_evolve_jax.evaluation import budget
from asi_evolve_jax.records import Records, View, steering
from asi_evolve_jax.records.schema import REPEAT, Steer
from asi_evolve_jax.records.views import LEAST_DIGITS
from asi_evolve_jax.reporting.people import describe, when
from asi_evolve_jax.roles.promotion import Promotions
from asi_evolve_jax.roles.verifier import awaiting
from asi_evolve_jax.roles.waves import is_open, waves
from asi_evolve_jax.supervisor.run import OpenRun
from asi_evolve_jax.tracks.base import rung_work

USAGE = """\
python -m launch.steer --records=URL [--author=NAME] <verb> ...

  pause                  nothing new begins; what runs finishes
  resume                 ends a pause
  stop [REASON]          ends the search as if its rounds were done
  veto PROGRAM           no more Tasks of it, never a parent or a finalist
                         (--descendants: nor of anything that comes from it)
  pin PROGRAM            every new Proposal edits it
  unpin                  parents are chosen again
  budget NAME=VALUE ...  wall_s, device_s, flops, tokens, money (0: no limit)
                         or rounds
  guide TEXT             what new Proposals must take up; "prefer GENE=VALUE"
                         and "avoid GENE=VALUE" are obeyed to the letter
  approve PROGRAM RUNG   lets it climb though the rung costs more than
                         `approve_above`; the last RUNG is that of verify
  withdraw NUMBER        takes back a veto, guide or approve
  show                   what has been said and what waits for a word

PROGRAM is an id, the start of one, or a name that only one has. Words hold
until they are taken back, over restarts too.
"""

_STRUCTURED = ("prefer", "avoid")
# After the search has ended these would change nothing.
_OF_THE_SEARCH = (
  *(steering.STOP, steering.PIN, steering.UNPIN),
  steering.GUIDE,
)


class SteerError(ValueError):
  """A word that a run cannot follow; the message says what it could."""


def view_of(run: OpenRun) -> View:
  """Returns all that the run's records say."""
  view = View(run.track.metric.name, run.track.metric.direction)
  view.update(run.records.follow()[0])
  return view


def steer(
  run: OpenRun,
  verb: str,
  words: Sequence[str],
  author: str,
  *,
  descendants: bool = False,
) -> list[Steer]:
  """Checks a person's word and writes it; returns the records.

  Args:
    run: that is to follow it.
    verb: one of steering.VERBS.
    words: its arguments.
    author: who says it.
    descendants: of `veto`: the whole line of descent.

  Raises:
    SteerError: if the run cannot follow it; then nothing is written.
  """
  if verb not in steering.VERBS:
    raise SteerError(
      f"{verb!r} is no verb; verbs: {', '.join(steering.VERBS)}, show."
    )
  if descendants and verb != steering.VETO:
    raise SteerError(f"--descendants goes with veto, not with {verb}.")
  if not author:
    raise SteerError("nobody's word: give --author=NAME.")
  view = view_of(run)
  if "finished" in view.milestones and not _measures(run, view):
    raise SteerError("the run has finished: there is nothing left to steer.")
  if "search-ended" in view.milestones and verb in _OF_THE_SEARCH:
    raise SteerError(f"the search has ended: {verb} would change nothing.")
  said = _arguments(run, view, verb, list(words), descendants)
  return [_write(run.records, view, verb, author, one) for one in said]


def _measures(run: OpenRun, view: View) -> bool:
  """Whether something that verify or a replay asked for is not measured."""
  return any(task.purpose == REPEAT for task in view.pending()) or any(
    is_open(view, wave) for wave in waves(view, run.settings)
  )


def _write(
  records: Records, view: View, verb: str, author: str, said: dict[str, Any]
) -> Steer:
  number = len(view.steering.words) + 1
  while True:
    word = Steer(number=number, verb=verb, by=author, arguments=said)
    if records.put(word)[0]:
      view.update([word])
      return word
    number += 1  # somebody else spoke meanwhile


def _arguments(
  run: OpenRun, view: View, verb: str, words: list[str], descendants: bool
) -> list[dict[str, Any]]:
  """Returns the arguments of each record that the words stand for."""
  if verb == steering.STOP:
    return [{"reason": " ".join(words)}]
  if verb == steering.GUIDE:
    return [_guide(run, " ".join(words).strip())]
  if verb == steering.BUDGET:
    if not words:
      raise SteerError("budget needs NAME=VALUE, e.g. device_s=3600.")
    return [_budget(view, word) for word in words]
  wanted = {
    steering.VETO: ("PROGRAM",),
    steering.PIN: ("PROGRAM",),
    steering.APPROVE: ("PROGRAM", "RUNG"),
    steering.WITHDRAW: ("NUMBER",),
  }.get(verb, ())
  if len(words) != len(wanted):
    needs = " ".join(wanted) or "nothing"
    raise SteerError(f"{verb} takes {needs}, got {words}.")
  if not wanted:
    _check_state(view, verb)
    return [{}]
  if verb == steering.WITHDRAW:
    return [_withdraw(view, words[0])]
  program = _program(view, words[0])
  if verb == steering.VETO:
    if program in view.baselines:
      raise SteerError(
        f"{words[0]} is a baseline: candidates are compared with it, so it "
        "stays. Leave it out with track_options in a new run."
      )
    return [{"program": program, "descendants": descendants}]
  if verb == steering.PIN:
    return [_pin(run, view, program)]
  return [_approve(run, view, program, words[1])]


def _check_state(view: View, verb: str) -> None:
  now = view.steering
  if verb == steering.PAUSE and now.paused is not None:
    raise SteerError(f"{now.paused.by} has paused it already.")
  if verb == steering.RESUME and now.paused is None:
    raise SteerError("it is not paused.")
  if verb == steering.UNPIN and now.pinned is None:
    raise SteerError("no parent is pinned.")


def _program(view: View, text: str) -> str:
  """Returns the id of the Program that `text` names."""
  found = view.meant(text)
  if len(found) == 1:
    return found[0]
  if not found:
    raise SteerError(
      f"{text!r} names no Program: give its id, at least {LEAST_DIGITS} "
      "digits of it, or its name (`launch.records ls proposal` lists them)."
    )
  ids = ", ".join(program[:12] for program in found[:5])
  raise SteerError(f"{text!r} names {len(found)} Programs: {ids}, ...")


def _pin(run: OpenRun, view: View, program: str) -> dict[str, Any]:
  proposal = view.proposal_of[program]
  if program in view.vetoed:
    raise SteerError(f"{proposal.name} is vetoed: withdraw the veto first.")
  proposer = run.settings.researcher.proposer
  if proposer == "random":
    raise SteerError("the random proposer edits no parent: nothing to pin.")
  if proposer == "symbolic" and proposal.genome is None:
    raise SteerError(
      f"{proposal.name} has no genome, and the symbolic proposer edits "
      "nothing else: pin one that has."
    )
  return {"program": program}


def _approve(
  run: OpenRun, view: View, program: str, rung: str
) -> dict[str, Any]:
  last = run.settings.verify.rung
  names = [r.name for r in (*run.settings.ladder[1:], last) if r is not None]
  if rung not in names:
    raise SteerError(
      f"{rung!r} is no rung that a Program climbs to; those are {names}."
    )
  of_verify = last is not None and rung == last.name
  if "search-ended" in view.milestones and not of_verify:
    raise SteerError("the search has ended: approve would change nothing.")
  if of_verify and "verify-asked" in view.milestones:
    raise SteerError("verify has begun: it waits for nobody.")
  return {"program": program, "rung": rung}


def _budget(view: View, word: str) -> dict[str, Any]:
  name, equals, text = word.partition("=")
  names = (*budget.NAMES, budget.ROUNDS)
  if not equals or name not in names:
    raise SteerError(
      f"budget takes NAME=VALUE, got {word!r}; names: {', '.join(names)}."
    )
  try:
    value = float(text)
  except ValueError as e:
    raise SteerError(f"{name} must be a number, got {text!r}.") from e
  if not math.isfinite(value) or value < 0:
    raise SteerError(f"{name} must be 0 or more, got {text}.")
  if name == budget.ROUNDS and value != int(value):
    raise SteerError(f"rounds must be a whole number, got {text}.")
  if "search-ended" in view.milestones:
    raise SteerError(
      "the search has ended, and a budget does not bring it back: begin a new "
      "run with seed_from."
    )
  return {"name": name, "value": value}


def _guide(run: OpenRun, text: str) -> dict[str, Any]:
  if not text:
    raise SteerError('guide needs a text, e.g. "prefer decay=vector".')
  said: dict[str, Any] = {"text": text, "prefer": [], "avoid": []}
  verb, _, rest = text.partition(" ")
  if verb in _STRUCTURED and "=" in rest:
    for name in rest.replace(",", " ").split():
      try:
        run.track.space.parse(name)
      except ValueError as e:
        raise SteerError(f"{text!r}: {e}.") from e
      said[verb].append(name)
  return said


def _withdraw(view: View, text: str) -> dict[str, Any]:
  words = {str(word.number): word for word in view.steering.words}
  word = words.get(text)
  if word is None:
    raise SteerError(f"there is no word number {text}: see `show`.")
  if word.verb not in steering.WITHDRAWABLE:
    raise SteerError(
      f"{word.verb} cannot be withdrawn, only "
      f"{', '.join(steering.WITHDRAWABLE)} can; say the opposite."
    )
  if word.number in view.steering.withdrawn:
    raise SteerError(f"number {text} has been withdrawn already.")
  return {"number": word.number}


def asks(run: OpenRun, view: View, promotions: Promotions) -> list[str]:
  """Returns what waits for a person: a line each, with the command to say.

  Args:
    run: that waits.
    view: of the run.
    promotions: that have seen all Results of `view`.
  """
  lines = []
  work = rung_work(run.track, run.settings)
  waiting = [*promotions.waiting(), *awaiting(view, run.settings, work)]
  for task, cost in waiting:
    costs = "unknown as yet"
    if cost is not None:
      costs = f"{cost['device_s']:.4g} device-seconds"
      if cost["flops"]:
        costs += f" and {cost['flops']:.3g} FLOPs"
    lines.append(
      f"waits for approval: {task.program[:12]} to {task.rung}, expected cost "
      f"{costs} ({view.proposal_of[task.program].name}): python -m "
      f"launch.steer --records={run.records.url} approve "
      f"{task.program[:12]} {task.rung}"
    )
  return lines


def show(run: OpenRun, console: Console) -> None:
  """Prints what has been said, what waits for a word, and the budgets."""
  view = view_of(run)
  now = view.steering
  table = Table("number", "said", "by", "when", "")
  for word in now.words:
    gone = "withdrawn" if word.number in now.withdrawn else ""
    said = describe(view, word).replace("[", "\\[")  # no markup
    table.add_row(str(word.number), said, word.by, when(word), gone)
  console.print(table if now.words else "Nobody has said anything.")
  state = "the search goes on"
  if "finished" in view.milestones and not _measures(run, view):
    state = "finished"
  elif now.paused is not None:
    state = f"paused by {now.paused.by}"
  elif "search-ended" in view.milestones:
    state = "the search has ended, verify or a replay goes on"
  work = rung_work(run.track, run.settings)
  spent = budget.Budget(view, run.settings, work=work)
  promotions = Promotions(run.settings, run.track, view)
  for result in list(view.results.values()):
    promotions.after(result)
  for line in (
    f"{state}; {view.rounds()} of {budget.rounds(view, run.settings)} rounds",
    *(line.text() for line in spent.lines()),
    *asks(run, view, promotions),
  ):
    console.print(line, highlight=False, markup=False, soft_wrap=True)
