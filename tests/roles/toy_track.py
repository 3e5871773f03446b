"""A track of plain-Python stages for the tests of the Engineer.

A Program is a JSON object: what its evaluation is to do.
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

import numpy as np

from asi_evolve_jax.evaluation.stages import Stage, StageReply
from asi_evolve_jax.programs.genome import Gene, Space
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.records.schema import Program, Proposal, Task
from asi_evolve_jax.settings import (
  RungSettings,
  RunSettings,
  VerifySettings,
  WorkerSettings,
)
from asi_evolve_jax.tracks.base import (
  MAXIMIZE,
  MINIMIZE,
  Axis,
  Baseline,
  Metric,
)

HERE = str(pathlib.Path(__file__).parent)


def trace(request):
  """Untrusted: turns the Program into an "Artifact"."""
  what = json.loads(request.source)
  assert request.cache == ""
  _note(what, "trace")
  if "says" in what:
    print(what["says"])
  if what.get("reject"):
    return StageReply(
      status="rejected", gate="causality", error="It reads the future."
    )
  computation = {k: v for k, v in what.items() if k != "comment"}
  text = json.dumps(computation, sort_keys=True)
  return StageReply(
    payload=text.encode(),
    # Lies: what an untrusted stage says is kept under its name.
    report={"artifact_hash": "0", "parameters": 8, "ratio": 0.0},
    cost={"flops": -1e9, "cpu_seconds": -1e9, "trace_s": 1.0},
  )


def check(request):
  """Trusted: names the computation itself, whatever the Program said."""
  assert request.source == ""
  _note(json.loads(request.payload), "check")
  name = hashlib.sha256(request.payload).hexdigest()[:32]
  return StageReply(
    payload=request.payload,
    report={
      "artifact_hash": name,
      "parameters": 7,
      "platform": "cpu",
      "traced_s": request.facts["trace_cpu_seconds"],
    },
  )


def train(request):
  """Trusted: "trains" the Artifact."""
  what = json.loads(request.payload)
  assert request.source == ""
  _note(what, "train")
  scratch = pathlib.Path(request.scratch)
  (scratch / "pid").write_text(str(os.getpid()))
  tried = len(list(scratch.glob("try-*")))
  (scratch / f"try-{tried}").touch()
  if tried < what.get("lost", 0):
    os.kill(os.getpid(), signal.SIGKILL)
  if "error" in what:
    raise ValueError(what["error"])
  for i in range(what.get("sleeps", 0)):
    step = scratch / f"step-{i}"
    if not step.exists():  # as a checkpoint would be
      time.sleep(0.1)
      step.touch()
      _note(what, f"step-{i}")
  score = what.get("score", 1.0)
  metrics = [
    {"loss": score + 0.01 * seed, "held_out": score + 1.0}
    for seed in request.seeds
  ]
  if "nan" in what:
    metrics[-1][what["nan"]] = float("nan")
  if "lacks" in what:
    del metrics[0][what["lacks"]]
  return StageReply(
    metrics=tuple(metrics[: what.get("seeds", len(metrics))]),
    report={
      "rung": request.options["rung"],
      "purpose": request.options["purpose"],
      "tries": tried + 1,
      "ratio": float("inf"),
      "jax": "jax" in sys.modules,
    },
    curves={"loss": np.linspace(2.0, score, 5, dtype=np.float32)},
    cost={"flops": 100.0 * request.options.get("work", 1)},
  )


def look(request):
  """Trusted: measures what the stage before has made."""
  return StageReply(
    metrics=tuple({"loss": 0.4, "held_out": 0.5} for _ in request.seeds),
    report={"looked": True},
  )


def _note(what, event):
  if "notes" in what:
    with open(what["notes"], "a") as f:
      f.write(f"{event}\n")


class ToyTrack:
  name = "toy"
  metric = Metric("loss", MINIMIZE)
  final_metric = Metric("held_out", MINIMIZE)
  brief = ""
  space = None
  stages = (
    Stage("trace", "toy_track:trace", trusted=False),
    Stage("check", "toy_track:check", trusted=True, makes_artifact=True),
    Stage("train", "toy_track:train", trusted=True, preload=("numpy",)),
  )

  def baselines(self):
    return ()

  def shape_key(self, rung, purpose="search"):
    return rung.options.get("shape", "small")

  def stage_options(self, rung):
    return dict(rung.options)

  def work(self, rung, purpose="search"):
    return float(rung.options.get("work", 1))

  def manifest(self):
    return {}

  def folders(self):
    return {}

  def metrics(self):
    return (self.metric, self.final_metric, Metric("speed", MAXIMIZE))

  def expectations(self):
    return ()

  def axes(self):
    return (Axis("score"), Axis("speed", (1.0, 2.0)))

  def columns(self):
    return ()


class Knobs(Space):
  """Programs by genome; those with `leak` read the future."""

  genes = (
    Gene("score", tuple(float(n) for n in range(1, 9)), 8.0, ordered=True),
    Gene("leak", (False, True), False),
    Gene("width", (1, 2, 3, 4), 1, ordered=True),
  )

  def render(self, genome):
    what = {k: v for k, v in genome.items() if k != "leak"}
    return json.dumps({**what, "reject": genome["leak"]})

  def title(self, genome):
    return "-".join(str(value) for value in genome.values())


class SpaceTrack(ToyTrack):
  """With a space and two baselines, for whole loops."""

  space = Knobs()

  def baselines(self):
    made = []
    for score in (8.0, 7.0):
      genome = self.space.repair({"score": score})
      source = self.space.render(genome)
      made.append(Baseline(f"score-{score:g}", source, "Plain.", genome))
    return tuple(made)


def settings(workers=1, attempts=2, ttl=2.0, deadline=20.0, promote=0.5):
  return RunSettings(
    name="test",
    track="toy",
    ladder=(
      RungSettings(
        name="quick", seeds=(0,), deadline_s=deadline, promote=promote
      ),
      RungSettings(name="explore", seeds=(0, 1), deadline_s=deadline),
    ),
    verify=VerifySettings(
      rung=RungSettings(name="verify", seeds=(7, 8, 9), deadline_s=deadline)
    ),
    workers=WorkerSettings(
      count=workers,
      attempts=attempts,
      lease_ttl_s=ttl,
      memory_gb=1.0,
      sandbox="none",  # stages leave notes in the folders of a test
    ),
  )


def propose(round_number, author="symbolic", **what):
  """Returns the records that a Researcher writes for one Program."""
  source = json.dumps(what)
  program = program_id(source)
  return (
    Program(hash=program, track="toy", source=source),
    Proposal(
      program=program,
      track="toy",
      name=f"p{round_number}",
      author=author,
      round=0 if author == "baseline" else round_number,
      operator="mutate",
      motivation="",
    ),
    Task(
      program=program,
      rung="quick",
      seeds=(0,),
      priority=100 if author == "baseline" else 0,
    ),
  )


def main():
  """An Engineer as a process of its own: run_dir, lease ttl."""
  from asi_evolve_jax.records import Records
  from asi_evolve_jax.roles.engineer import Engineer
  from asi_evolve_jax.roles.loop import run_role, setup_logging

  run_dir = pathlib.Path(sys.argv[1])
  setup_logging(run_dir / "logs" / f"engineer-{os.getpid()}.log")
  engineer = Engineer(
    Records.open(str(run_dir / "records")),
    settings(ttl=float(sys.argv[2])),
    ToyTrack(),
    run_dir=run_dir,
  )
  assert not {"jax", "flax", "optax"} & set(sys.modules)
  raise SystemExit(run_role(engineer))


if __name__ == "__main__":
  main()
