"""Killed in the middle, a run goes on as if nothing had happened."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

_RUN = """
import json, sys, time
import numpy as np
from small_models import Average, text
from asi_evolve_jax.models.language_model import LanguageModel, LMConfig
from asi_evolve_jax.training import batches, checkpoint, train
from asi_evolve_jax.training.trainer import Optimizer, Trainer

folder, slow = sys.argv[1], sys.argv[2] == "slow"
config = LMConfig(dim=16, layers=1, heads=1, mlp_width=16)
trainer = Trainer(
  LanguageModel(config, Average()), Optimizer(warmup=5), batch=4, time=32
)
if slow:  # time for the test to kill it between two checkpoints
  save = checkpoint.Checkpoints.save
  def announced(self, step, *rest):
    save(self, step, *rest)
    print("saved", step, flush=True)
  checkpoint.Checkpoints.save = announced
  step = Trainer.step
  def dawdling(self, *rest):
    time.sleep(0.02)
    return step(self, *rest)
  Trainer.step = dawdling
data = text(20_000)
dev = batches.evaluation_windows(text(24_000)[20_000:], count=8, time=32)
outcome = train.train(trainer, data, dev, train.Run(
  steps=60, seed=3, eval_every=25, checkpoint_s=0.2 if slow else 0.0,
  checkpoints=folder,
))
print(json.dumps({
  "train": [float(x).hex() for x in outcome.train],
  "dev": outcome.dev.tolist(),
  "bits": float(outcome.bits_per_byte).hex(),
  "from": outcome.resumed_from,
}), flush=True)
"""


def _start(folder, speed):
  here = pathlib.Path(__file__).parent
  path = os.pathsep.join([str(here), str(here.parents[1])])
  return subprocess.Popen(
    [sys.executable, "-c", _RUN, str(folder), speed],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
  )


def _finish(process):
  output, _ = process.communicate(timeout=240)
  assert process.returncode == 0
  return json.loads(output.splitlines()[-1])


@pytest.mark.slow
def test_after_sigkill_the_curve_is_the_undisturbed_one_bit_for_bit(tmp_path):
  undisturbed = _start(tmp_path / "calm", "fast")
  victim = _start(tmp_path / "killed", "slow")
  for line in victim.stdout:
    if line.startswith("saved"):
      break
  time.sleep(0.1)  # into the steps after the checkpoint
  os.kill(victim.pid, signal.SIGKILL)
  victim.communicate()
  assert victim.returncode == -signal.SIGKILL
  resumed = _finish(_start(tmp_path / "killed", "fast"))
  expected = _finish(undisturbed)
  assert 0 < resumed.pop("from") < 60
  assert expected.pop("from") == 0
  assert resumed == expected
