"""Waves: who was sent into verify together, on which fresh seeds.

A wave is a Milestone and the Tasks it names. The verifier asks for one when
the search has ended; `launch.verify` asks for more.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

from asi_evolve_jax.evaluation import machine
from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import (
  VERIFY,
  Milestone,
  Task,
  digest,
)
from asi_evolve_jax.settings import RunSettings

ASKED = "verify-asked"  # the wave of the verifier; others add "/<digest>"
_PRIORITY = 200


@dataclasses.dataclass(frozen=True)
class Wave:
  """One call for verify.

  Attributes:
    name: of its Milestone.
    by: who asked.
    finalists: Program ids, or the one Program of a control.
    baselines: Program ids, the references among them.
    rung: name of the verify rung.
    seeds: every Program's; of a control, the first of its two sets.
    control_seeds: the second set of a control; empty otherwise.
    proposed: Programs proposed by then, baselines aside.
    commit: of the code that asked.
    note: why it is not as the config has it, or "".
  """

  name: str
  by: str
  finalists: tuple[str, ...]
  baselines: tuple[str, ...]
  rung: str
  seeds: tuple[int, ...]
  control_seeds: tuple[int, ...] = ()
  proposed: int = 0
  commit: str = ""
  note: str = ""

  @property
  def programs(self) -> tuple[str, ...]:
    """Everybody in it, once."""
    return tuple(dict.fromkeys((*self.finalists, *self.baselines)))

  @functools.cached_property
  def tasks(self) -> tuple[Task, ...]:
    """What is to be measured, first attempts."""
    return tuple(
      Task(
        program=program,
        rung=self.rung,
        seeds=seeds,
        purpose=VERIFY,
        requested_by=self.by,
        priority=_PRIORITY,
      )
      for program in self.programs
      for seeds in (self.seeds, self.control_seeds)
      if seeds
    )

  def milestone(self) -> Milestone:
    """Returns the record that asks for it."""
    detail = {
      "finalists": list(self.finalists),
      "baselines": list(self.baselines),
      "tasks": [task.id for task in self.tasks],
      "proposed": self.proposed,
      "rung": self.rung,
      "seeds": list(self.seeds),
      "control_seeds": list(self.control_seeds),
      "commit": self.commit,
      "note": self.note,
    }
    return Milestone(name=self.name, by=self.by, detail=detail)


def make_wave(
  view: View,
  settings: RunSettings,
  finalists: Sequence[str],
  seeds: Sequence[int],
  by: str,
  *,
  name: str = "",
  control_seeds: Sequence[int] = (),
  note: str = "",
) -> Wave:
  """Returns a new wave; its Milestone is to be put first, then its Tasks.

  Args:
    view: of the run.
    settings: of the run; its verify rung is measured.
    finalists: Program ids; of a control, one.
    seeds: fresh ones.
    by: who asks.
    name: of the Milestone; by default one that follows from what is asked.
    control_seeds: as many again, to compare the Program with itself.
    note: why it is not as the config has it.
  """
  rung = settings.verify.rung
  assert rung is not None
  wave = Wave(
    name=name,
    by=by,
    finalists=tuple(finalists),
    baselines=() if control_seeds else wanted_baselines(view, settings),
    rung=rung.name,
    seeds=tuple(seeds),
    control_seeds=tuple(control_seeds),
    proposed=len(view.proposal_of.keys() - view.baselines.keys()),
    commit=machine.commit(),
    note=note,
  )
  if not name:
    name = f"{ASKED}/{digest(*(task.id for task in wave.tasks))[:12]}"
  return dataclasses.replace(wave, name=name)


def wanted_baselines(view: View, settings: RunSettings) -> tuple[str, ...]:
  """Returns the Program ids of the baselines that get fresh seeds too."""
  verify = settings.verify
  return tuple(
    program
    for program, name in view.baselines.items()
    if verify.baselines == "all" or name in verify.references
  )


def waves(view: View, settings: RunSettings) -> list[Wave]:
  """Returns all waves of the run, the verifier's own first."""
  rung = settings.verify.rung
  if rung is None:
    return []
  found = []
  for name in sorted(view.milestones):
    if name != ASKED and not name.startswith(f"{ASKED}/"):
      continue
    milestone = view.milestones[name]
    detail = milestone.detail
    # Older runs know less of themselves.
    found.append(
      Wave(
        name=name,
        by=milestone.by,
        finalists=tuple(detail["finalists"]),
        baselines=tuple(detail["baselines"]),
        rung=detail.get("rung", rung.name),
        seeds=tuple(detail.get("seeds", rung.seeds)),
        control_seeds=tuple(detail.get("control_seeds", ())),
        proposed=detail.get("proposed", 0),
        commit=detail.get("commit") or (view.run.commit if view.run else ""),
        note=detail.get("note", ""),
      )
    )
  return found


def is_open(view: View, wave: Wave) -> bool:
  """Whether something of `wave` is still to be measured."""
  wanted = {(t.program, t.rung, t.seeds) for t in wave.tasks}
  return any(task.id not in view.tasks for task in wave.tasks) or any(
    task.purpose == VERIFY and (task.program, task.rung, task.seeds) in wanted
    for task in view.pending()
  )


def used_seeds(view: View, settings: RunSettings) -> set[int]:
  """Returns every seed that this run has measured at, or means to."""
  rungs = [*settings.ladder, settings.verify.rung]
  planned = {s for rung in rungs if rung is not None for s in rung.seeds}
  return planned | {s for task in view.tasks.values() for s in task.seeds}


def fresh_seeds(used: Iterable[int], count: int) -> tuple[int, ...]:
  """Returns the first `count` seeds behind all of `used`."""
  start = max(used, default=0) + 1
  return tuple(range(start, start + count))
