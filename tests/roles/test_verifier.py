"""Who gets fresh seeds after the search, and on which settings it refuses."""

import dataclasses

import pytest
from toy_track import ToyTrack, propose, settings

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import (
  SEARCH,
  VERIFY,
  Milestone,
  Result,
  Task,
)
from asi_evolve_jax.roles.verifier import (
  Verifier,
  check_reference,
  check_settings,
)
from asi_evolve_jax.settings import RunSettings, SettingsError


def _with(base: RunSettings, **verify) -> RunSettings:
  changed = dataclasses.replace(base.verify, **verify)
  return dataclasses.replace(base, verify=changed)


def _searched(records, losses):
  """Writes a search that ended; `losses`: (author, loss at explore)."""
  names = {}
  for number, (author, loss) in enumerate(losses):
    program, proposal, *_ = written = propose(number, author, score=number)
    task = Task(program=program.hash, rung="explore", seeds=(0,))
    result = Result(
      task=task.id,
      program=program.hash,
      rung="explore",
      seeds=(0,),
      purpose=SEARCH,
      status="ok",
      metrics=({"loss": loss, "held_out": loss},),
    )
    records.put(*written, task, result)
    names[program.hash] = proposal.name
  records.put(Milestone(name="search-ended", by="test", detail={}))
  return names


@pytest.mark.parametrize(
  ("baselines", "expected"),
  [("all", {"p0", "p1", "p3"}), ("references", {"p1", "p3"})],
)
def test_the_best_candidate_and_the_baselines_asked_for(
  tmp_path, baselines, expected
):
  records = Records.open(tmp_path / "records")
  names = _searched(
    records,
    [("baseline", 0.9), ("baseline", 0.5), ("symbolic", 0.8), ("random", 0.4)],
  )
  wanted = _with(
    settings(), finalists=1, baselines=baselines, references=("p1",)
  )
  verifier = Verifier(records, wanted, ToyTrack())
  while verifier.step():
    pass
  view = View("loss", "minimize", ("quick", "explore", "verify"))
  view.update(records.follow()[0])
  asked = [t for t in view.tasks.values() if t.purpose == VERIFY]
  assert {names[task.program] for task in asked} == expected
  assert all(task.seeds == (7, 8, 9) for task in asked)


def test_seeds_that_selected_do_not_judge():
  both = _with(
    settings(),
    rung=dataclasses.replace(settings().verify.rung, seeds=(1, 8)),
  )
  with pytest.raises(SettingsError, match=r"holds \[1\]"):
    check_settings(both)


def test_an_unknown_choice_of_baselines_is_refused():
  with pytest.raises(SettingsError, match=r"baselines is 'some': use one of"):
    check_settings(_with(settings(), baselines="some"))


def test_a_reference_that_is_no_baseline_is_refused():
  with pytest.raises(
    SettingsError, match="has 'deltanett', which is no baseline"
  ):
    check_reference(_with(settings(), references=("deltanett",)), ToyTrack())
  check_reference(
    _with(settings(), references=("deltanett",), finalists=0), ToyTrack()
  )
