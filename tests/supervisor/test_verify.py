"""launch.verify on a trivial track: what it asks for, refuses and repeats."""

import dataclasses

import numpy as np
import pytest

from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records.schema import (
  NOT_CLAIMED,
  REPEAT,
  SEARCH,
  Milestone,
  Program,
  Proposal,
  Result,
  Task,
)
from asi_evolve_jax.roles import replay
from asi_evolve_jax.roles.verifier import Verifier
from asi_evolve_jax.settings import (
  RungSettings,
  RunSettings,
  SettingsError,
  VerifySettings,
  WorkerSettings,
)
from asi_evolve_jax.supervisor.benchmark import SumTrack
from asi_evolve_jax.supervisor.run import attach, open_or_create
from asi_evolve_jax.supervisor.steering import SteerError, steer
from asi_evolve_jax.supervisor.verify import Session, Wanted
from asi_evolve_jax.tracks.base import MAXIMIZE, Metric

SPACE = SumTrack.space
DIGITS = (3, 7, 5)


def _settings(folder):
  return RunSettings(
    name="sums",
    track="asi_evolve_jax.supervisor.benchmark:SumTrack",
    run_dir=str(folder),
    durable=False,
    ladder=(RungSettings(name="add", seeds=(0, 1)),),
    verify=VerifySettings(
      references=("all-1",),
      rung=RungSettings(name="verify", seeds=(7, 8, 9)),
    ),
    workers=WorkerSettings(count=1, memory_gb=1.0, pin=False),
  )


def _program(digit, name, author):
  source = SPACE.render(
    SPACE.repair({gene.name: digit for gene in SPACE.genes})
  )
  program = program_id(source)
  return [
    Program(hash=program, track="sum", source=source),
    Proposal(
      program=program,
      track="sum",
      name=name,
      author=author,
      round=0 if author == "baseline" else digit,
      operator="sample",
      motivation="",
    ),
  ]


@pytest.fixture
def run(tmp_path):
  """A run of three candidates that has finished, without verify."""
  opened = open_or_create(_settings(tmp_path))
  for digit in (0, 1, 2):
    opened.records.put(*_program(digit, f"all-{digit}", "baseline"))
  for digit in DIGITS:
    written = _program(digit, f"p{digit}", "symbolic")
    task = Task(program=written[0].hash, rung="add", seeds=(0, 1))
    metrics = tuple({"total": 12.0 * digit} for _ in task.seeds)
    opened.records.put(
      *written,
      task,
      Result(
        task=task.id,
        program=task.program,
        rung="add",
        seeds=task.seeds,
        purpose=SEARCH,
        status="ok",
        metrics=metrics,
      ),
    )
  opened.records.put(
    Milestone(name="search-ended", by="test"),
    Milestone(name="finished", by="test"),
  )
  return attach(f"file://{tmp_path / 'records'}/")


def test_by_default_the_best_meet_the_baselines_on_seeds_nobody_used(run):
  session = Session(run)
  wave = session.ask(Wanted())
  names = [session.view.proposal_of[p].name for p in wave.programs]
  assert names == ["p7", "p5", "all-0", "all-1", "all-2"]
  # 0 and 1 selected; 7, 8, 9 are what the config means to verify on.
  assert wave.seeds == (10, 11, 12)
  assert {t.id for t in wave.tasks} <= set(session.view.tasks)
  # The same command again goes on, from another process too.
  assert Session(run).ask(Wanted()) == wave
  with pytest.raises(SettingsError, match="not measured yet: run again with"):
    session.ask(Wanted(programs=("p3",)))


def test_a_finished_run_is_steered_while_something_is_measured(run):
  with pytest.raises(SteerError, match="has finished"):
    steer(run, "pause", (), "ann")
  session = Session(run)
  wave = session.ask(Wanted())
  steer(run, "pause", (), "ann")
  steer(run, "veto", (wave.finalists[1],), "ann")
  steer(run, "resume", (), "ann")
  session.follow()
  for task in session.view.pending():
    _measured(run, task, 1.0)
  with pytest.raises(SteerError, match="has finished"):
    steer(run, "pause", (), "ann")


@pytest.mark.parametrize(
  ("wanted", "why"),
  [
    (Wanted(seeds=(1, 20, 21)), r"\[1\] were used before; .* Free are 10"),
    (Wanted(seeds=(20, 20, 21)), "were used before"),
    (Wanted(seeds=(20, 21)), "2 seeds claim nothing; give at least 3"),
    (Wanted(control="p7", seeds=(20, 21, 22)), r"at least 6 \(two equal"),
    (Wanted(programs=("p9",)), "0 Programs are called 'p9'"),
    (Wanted(programs=("p",)), "0 Programs are called 'p'"),
  ],
)
def test_what_cannot_judge_is_refused_before_anything_is_written(
  run, wanted, why
):
  session = Session(run)
  with pytest.raises(SettingsError, match=why):
    session.ask(wanted)
  assert not session.view.pending()
  assert not any(n.startswith("verify-asked") for n in session.view.milestones)


def test_a_program_is_named_by_the_beginning_of_its_id(run):
  session = Session(run)
  program = session.view.ranked("add")[-1]
  wave = session.ask(Wanted(programs=(program[:8],), seeds=(31, 32, 33)))
  assert wave.finalists == (program,)
  assert wave.seeds == (31, 32, 33)


def test_a_reference_alone_has_nothing_to_be_compared_with(run):
  verify = dataclasses.replace(run.settings.verify, baselines="references")
  settings = dataclasses.replace(run.settings, verify=verify)
  session = Session(dataclasses.replace(run, settings=settings))
  with pytest.raises(SettingsError, match="compared with nothing"):
    session.ask(Wanted(programs=("all-1",)))


def test_without_a_verify_rung_there_is_nothing_to_ask_for(run):
  settings = dataclasses.replace(
    run.settings, verify=VerifySettings(references=("all-1",))
  )
  session = Session(dataclasses.replace(run, settings=settings))
  with pytest.raises(SettingsError, match=r"no config\.verify\.rung"):
    session.ask(Wanted())


@pytest.mark.slow
def test_real_roles_measure_claim_and_repeat_a_control(run, tmp_path):
  session = Session(run)
  wave = session.ask(Wanted(control="p7"))
  assert (wave.seeds, wave.control_seeds) == ((10, 11, 12), (13, 14, 15))
  said = []
  url = f"file://{tmp_path / 'records'}/"
  session.wait(
    url,
    [t.id for t in wave.tasks],
    lambda: bool(session.claims(wave)),
    here=True,
    say=said.append,
  )
  assert said[-1] == "2 of 2 Tasks measured"
  (claim,) = session.claims(wave)
  # A sum knows no seed: equal at all of them.
  assert (claim.verdict, claim.effect) == (NOT_CLAIMED, 0.0)
  assert session.claim(claim.id[:6]) == claim
  tasks = replay.repeats(session.view, claim)
  assert {t.purpose for t in tasks} == {REPEAT}
  session.put(*tasks)
  session.wait(
    url,
    [t.id for t in tasks],
    lambda: all(replay.outcome(session.view, t) for t in tasks),
    here=True,
    say=said.append,
  )
  found = replay.compare(session.view, run.records, claim, tasks, run.track)
  assert found.identical
  assert found.machines == ()
  assert found.lines()[0] == "Identical bit for bit: 6 figures."
  # Once more is another Task.
  assert not {t.id for t in replay.repeats(session.view, claim)} & {
    t.id for t in tasks
  }


def _measured(run, task, total, speed=1.0, **fields):
  values = {"total": total, "speed": speed}
  known = {
    "status": "ok",
    "metrics": tuple(values for _ in task.seeds),
    "machine": "chip a; jax 1",
    "artifact": "one",
  }
  result = Result(
    task=task.id,
    program=task.program,
    rung=task.rung,
    seeds=task.seeds,
    purpose=task.purpose,
    **(known | fields),
  )
  run.records.put(result)


def test_a_replay_names_every_difference(run):
  session = Session(run)
  wave = session.ask(Wanted(control="p7"))
  for task in wave.tasks:
    run.records.put_array(f"{task.id}/loss", np.array([2.0, 1.0], np.float32))
    report = {"curves": ["loss"]}
    _measured(run, task, 84.0, curves=task.id, report=report)
  verifier = Verifier(run.records, run.settings, run.track)
  while verifier.step():
    pass
  session.follow()
  (claim,) = session.claims(wave)
  first, second = tasks = replay.repeats(session.view, claim)
  session.put(*tasks)
  run.records.put_array(f"{first.id}/loss", np.array([2.0, 1.5], np.float32))
  _measured(
    run,
    first,
    np.nextafter(84.0, 85.0),
    curves=first.id,
    machine="chip b; jax 1",
    artifact="two",
  )
  _measured(run, second, 0.0, status="timeout", metrics=(), error="too slow")
  session.follow()
  found = replay.compare(session.view, run.records, claim, tasks, run.track)
  assert not found.identical
  text = "\n".join(found.lines())
  assert "p7: its source traces to two, then one" in text
  assert "p7, seed 10: total 84.0 then, 84.00000000000001 now" in text
  assert "curve loss differs by up to 0.5" in text
  assert "the repeat is timeout: too slow" in text
  assert "chip a then, chip b now" in text


def test_a_metric_that_hangs_on_a_clock_is_not_compared(run):
  class Timed(SumTrack):
    def metrics(self):
      return (self.metric, Metric("speed", MAXIMIZE, timed=True))

  session = Session(run)
  wave = session.ask(Wanted(control="p7"))
  for task in wave.tasks:
    _measured(run, task, 84.0, speed=1.0)
  verifier = Verifier(run.records, run.settings, run.track)
  while verifier.step():
    pass
  session.follow()
  (claim,) = session.claims(wave)
  tasks = replay.repeats(session.view, claim)
  session.put(*tasks)
  for task in tasks:
    _measured(run, task, 84.0, speed=2.0)
  session.follow()
  compared = (session.view, run.records, claim, tasks)
  assert replay.compare(*compared, Timed({})).identical
  assert not replay.compare(*compared, run.track).identical
