"""Who stops early: candidates of the search behind the reference's curve."""

import numpy as np

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import VERIFY, Proposal, Result, Task, digest
from asi_evolve_jax.roles import early_stopping
from asi_evolve_jax.settings import RungSettings, StopSettings

RUNG = RungSettings(
  name="explore",
  seeds=(0, 1),
  stop=StopSettings(reference="deltanet", margin=0.1, after=0.5),
)
CURVE = np.array([[[50, 3.0], [100, 2.0]], [[50, 3.2], [100, 2.2]]], np.float32)


def _proposal(name, author):
  return Proposal(
    program=digest(name),
    track="t",
    name=name,
    author=author,
    round=0 if author == "baseline" else 1,
    operator="sample",
    motivation="",
  )


def _run(status="ok"):
  records = Records.open("memory://")
  view = View("loss", "minimize", rungs=["explore"])
  view.update([_proposal("deltanet", "baseline"), _proposal("new", "symbolic")])
  task = Task(program=digest("deltanet"), rung="explore", seeds=(0, 1))
  records.put_array(f"{task.id}/dev", CURVE)
  view.update(
    [
      task,
      Result(
        task=task.id,
        program=task.program,
        rung="explore",
        seeds=(0, 1),
        purpose="search",
        status=status,
        metrics=({"loss": 2.0}, {"loss": 2.2}) if status == "ok" else (),
        curves=task.id,
        report={"curves": ["dev"]},
      ),
    ]
  )
  return view, records


def _task(name="new", **fields):
  return Task(program=digest(name), rung="explore", seeds=(0, 1), **fields)


def test_a_candidate_gets_the_mean_curve_of_the_reference():
  stop = early_stopping.options(*_run(), RUNG, _task())["stop"]
  assert stop["reference"] == "deltanet"
  assert stop["steps"] == [50, 100]
  np.testing.assert_allclose(stop["scores"], [3.1, 2.1], rtol=1e-6)
  assert stop["margin"] == 0.1
  assert stop["after"] == 50


def test_baselines_and_verification_never_stop():
  view, records = _run()
  assert early_stopping.options(view, records, RUNG, _task("deltanet")) == {}
  verify = _task(purpose=VERIFY)
  assert early_stopping.options(view, records, RUNG, verify) == {}


def test_without_a_curve_or_a_setting_nobody_stops():
  assert early_stopping.options(*_run("failed"), RUNG, _task()) == {}
  unset = RungSettings(name="explore", seeds=(0, 1))
  assert early_stopping.options(*_run(), unset, _task()) == {}
