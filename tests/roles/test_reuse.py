"""Equal computations are made and measured once, by whichever Engineer."""

import pytest
import toy_track
from engineer_kit import EngineerRun

from asi_evolve_jax.records.schema import PAIR, REPEAT, Task


@pytest.fixture
def run(tmp_path):
  with EngineerRun(tmp_path) as run:
    yield run


def test_equal_artifacts_are_measured_once(run):
  notes = run.folder / "notes"
  first = run.propose(1, score=2.0, notes=str(notes), comment="one")
  engineer = run.engineer(promote=0.1)
  run.settle(engineer)
  second = run.propose(2, score=2.0, notes=str(notes), comment="two")
  assert first.program != second.program
  run.settle(engineer)
  making = ["trace", "check"]
  assert notes.read_text().split() == [*making, "train", *making]
  a, b = run.result(first), run.result(second)
  assert b.status == "ok"
  assert b.copied_from == first.id
  assert (b.metrics, b.curves, b.artifact) == (a.metrics, a.curves, a.artifact)
  assert b.report["parameters"] == 7
  assert run.view.artifacts[second.program, "small"].hash == a.artifact
  # Another seed, purpose or rung is another measurement.
  pair = Task(program=second.program, rung="quick", seeds=(3,), purpose=PAIR)
  repeat = Task(
    program=second.program, rung="quick", seeds=(0,), purpose=REPEAT
  )
  run.records.put(pair, repeat)
  run.settle(engineer)
  # A repeat begins at the source: it checks the tracing too.
  after = notes.read_text().split()[5:]
  assert sorted(after) == ["check", "trace", "train", "train"]
  assert run.result(pair).metrics[0]["loss"] == pytest.approx(2.03)
  assert run.result(repeat).copied_from == ""


def test_an_artifact_is_made_once_by_all_the_stages_before_it(run):
  notes = run.folder / "notes"
  task = run.propose(0, author="baseline", score=2.0, notes=str(notes))
  run.settle(run.engineer(inline=1, track=toy_track.ToyTrack()))
  results = run.view.results_of[task.program]
  assert [r.rung for r in results] == ["quick", "explore"]
  assert len({r.artifact for r in results}) == 1
  assert notes.read_text().split() == ["trace", "check", "train", "train"]


def test_equal_artifacts_in_flight_wait_for_each_other(run):
  notes = run.folder / "notes"
  tasks = [
    run.propose(i, score=2.0, sleeps=3, notes=str(notes), comment=str(i))
    for i in range(3)
  ]
  other = run.propose(9, score=9.0)
  # Two Engineers, as on two machines.
  run.settle(run.engineer(workers=2), run.engineer(workers=2))
  events = notes.read_text().split()
  results = [run.result(t) for t in tasks]
  assert [r.status for r in results] == ["ok"] * 3
  quick = [r for r in results if not r.copied_from]
  assert len(quick) == 1
  assert events.count("trace") == 3
  # Once at the first rung; once more if it was promoted.
  promoted = [t for t in run.view.tasks.values() if t.rung == "explore"]
  copies = [
    r
    for r in run.view.results.values()
    if r.rung == "explore" and r.copied_from
  ]
  fresh = len({t.program for t in promoted} - {other.program}) - len(copies)
  assert events.count("train") == 1 + fresh
  assert fresh <= 1


def test_a_failed_equal_is_measured_again_by_its_twin(run):
  tasks = [
    run.propose(i, error="broken", comment=str(i), notes=str(run.folder / "n"))
    for i in range(2)
  ]
  run.settle(run.engineer(workers=2))
  assert [run.result(t).status for t in tasks] == ["failed", "failed"]
