"""A rejected Program is mended once, whoever looks and however often."""

import pathlib
import sys

import pytest

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import REPAIR, Program, Proposal, Task
from asi_evolve_jax.roles.researcher import Researcher

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from loop_kit import Loop


@pytest.fixture
def loop(tmp_path):
  return Loop(tmp_path, researcher={"repair": True})


def _put(loop, source, *, asked=True, **fields):
  """Writes a Proposal as a Researcher would; returns its Program's id."""
  program = program_id(source)
  given = {
    "program": program,
    "track": "toy",
    "name": "written by hand",
    "author": "symbolic",
    "round": 1 + loop.view.proposed(),
    "operator": "mutate",
    "motivation": "",
  }
  records = [
    Program(hash=program, track="toy", source=source),
    Proposal(**(given | fields)),
  ]
  if asked:  # and before anything else
    task = Task(program=program, rung="quick", seeds=(0,), priority=500)
    records.append(task)
  loop.records.put(*records)
  return program


def _reject(loop):
  """Proposes a Program that the gate rejects; it changed two genes."""
  parent = next(p for p in loop.view.proposals.values() if not p.round)
  new = {"leak": True, "width": 2}
  genome = {**parent.genome, **new}
  return _put(
    loop,
    loop.track.space.render(genome),
    parents=(parent.program,),
    genome=genome,
    changes=tuple(
      {"gene": gene, "old": parent.genome[gene], "new": value, "why": ""}
      for gene, value in new.items()
    ),
  )


def _repairs(loop, rejected):
  return [
    p
    for p in loop.view.proposals.values()
    if p.operator == REPAIR and p.parents == (rejected,)
  ]


def test_a_rejected_program_is_mended_by_what_it_had_changed(loop):
  loop.steps(2)
  rejected = _reject(loop)
  loop.steps(3)
  view = loop.view
  assert view.results_of[rejected][0].gate == "causality"
  (mended,) = _repairs(loop, rejected)
  assert mended.genome == {"score": 8.0, "leak": False, "width": 2}
  assert mended.author == "symbolic"
  assert mended.round == view.proposal_of[rejected].round
  assert "rejected: It reads the future." in mended.motivation
  (change,) = mended.changes
  assert (change["gene"], change["old"], change["new"]) == ("leak", True, False)
  loop.steps(1)
  view = loop.view
  assert view.score(mended.program, "quick") is not None
  tasks = [t for t in view.tasks.values() if t.program == mended.program]
  assert tasks[0].priority == 5
  assert not view.unrepaired()


def test_once_after_restarts_and_by_two_researchers_at_once(loop):
  loop.steps(2)
  rejected = _reject(loop)
  loop.engineer.step()
  others = [
    Researcher(
      Records.open(str(loop.folder / "records")),
      loop.settings,
      loop.track,
      loop.folder,
    )
    for _ in range(2)
  ]
  for other in others:  # both have read before either writes
    other._learn(other._records.follow()[0])
  for other in others:
    other.step()
  loop.restart()
  loop.steps(3)
  (mended,) = _repairs(loop, rejected)
  tasks = [t for t in loop.view.tasks.values() if t.program == mended.program]
  assert sum(t.rung == "quick" for t in tasks) == 1


def test_a_repair_is_no_round_and_is_not_mended_itself(loop):
  loop.steps(2)
  rounds = loop.view.proposed()
  rejected = _reject(loop)
  loop.engineer.step()
  genome = {"score": 3.0, "leak": True, "width": 4}
  program = _put(
    loop,
    loop.track.space.render(genome),
    asked=False,
    round=rounds + 1,
    operator=REPAIR,
    parents=(rejected,),
    genome=genome,
  )
  loop.steps(4)
  view = loop.view
  # Its writer died before it asked for the Task; the next Researcher did.
  assert view.results_of[program][0].status == "rejected"
  assert [p.program for p in _repairs(loop, rejected)] == [program]
  assert not _repairs(loop, program)
  operators = [p.operator for p in loop.candidates()]
  assert view.proposed() == len(operators) - operators.count(REPAIR)


def test_what_cannot_be_mended_is_given_up_once(loop):
  loop.steps(2)
  program = _put(loop, '{"reject": true, "score": 99}')
  loop.steps(2)
  assert f"no-repair/{program}" in loop.view.milestones
  assert not loop.view.unrepaired()
  assert not _repairs(loop, program)


def test_vetoed_programs_are_not_mended(loop):
  loop.steps(2)
  rejected = _reject(loop)
  loop.engineer.step()
  assert [r.program for r in loop.view.unrepaired()] == [rejected]
  loop.say("veto", rejected)
  assert not loop.view.unrepaired()
  loop.steps(2)
  assert not _repairs(loop, rejected)
