"""The track's stages in real workers: the jail, and what Landlock leaves."""

import dataclasses
import time

import pytest

from asi_evolve_jax.evaluation import jail
from asi_evolve_jax.evaluation.limits import Limits, default_cores
from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.evaluation.workers import WorkerPool
from asi_evolve_jax.settings import RungSettings
from asi_evolve_jax.tracks import registry

SOURCE = """
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):

  def __init__(self, config, *, rngs):
    shape = (config.dim, config.dim)
    self.w = nnx.Param(0.2 * jax.random.normal(rngs.params(), shape))

  def __call__(self, x, ctx):
    return jnp.cumsum(x, axis=1) / x.shape[1] @ self.w[...].astype(x.dtype)
"""


@pytest.mark.slow
@pytest.mark.parametrize("layers", [jail.LAYERS, ("landlock", "seccomp")])
def test_a_program_goes_through_all_stages_confined(tmp_path, layers):
  here = jail.available(jail.Sandbox(layers=layers))
  if not here.holds:
    pytest.skip(f"no jail here: {here.reason}")
  text = tmp_path / "text"
  (text / "other").mkdir(parents=True)
  for i in range(60):
    words = (f"{(i * 7919 + k) * 104729 % 999_983:x}" for k in range(400))
    (text / f"{i}.txt").write_text(" ".join(words))
  (text / "other" / "o.txt").write_text("another kind of text " * 400)
  track = registry.load(
    "architecture",
    {
      "corpus": {"name": f"dir:{text}", "data_dir": str(tmp_path / "built")},
      "model": {"dim": 16, "layers": 1, "heads": 1, "chunk_size": 8},
    },
  )
  track.manifest()
  rung = RungSettings(
    name="tiny",
    options={
      "batch": 4,
      "time": 32,
      "steps": 4,
      "eval_windows": 4,
      "checkpoint_s": 0.01,
    },
  )
  request = StageRequest(
    source=SOURCE,
    payload=b"",
    seeds=(3,),
    options={**track.stage_options(rung), "rung": "tiny", "purpose": "verify"},
    scratch=str(tmp_path / "scratch"),
    cache=str(tmp_path / "cache"),
    deadline_s=240.0,
  )
  folders = track.folders()
  pool = WorkerPool(
    [name for stage in track.stages for name in stage.preload],
    Limits(memory_bytes=6 << 30),
    default_cores(1, pin=True),
    sandbox=jail.Sandbox("required", layers),
  )
  try:
    for stage in track.stages:
      reads = {name: folders[name] for name in stage.reads}
      request = dataclasses.replace(
        request,
        source="" if stage.trusted else SOURCE,
        folders=reads,
      )
      job = pool.start(stage, request, pool.cores[0])
      until = time.monotonic() + 240
      while (outcome := job.poll()) is None:
        assert time.monotonic() < until
        pool.wait(0.2)
      assert outcome.status == "ok", outcome.error
      assert "landlock" in outcome.confinement.layers
      request = dataclasses.replace(request, payload=outcome.reply.payload)
    (metrics,) = outcome.reply.metrics
    assert 0 < metrics["held_out_bits_per_byte"] < 9

    # What it did not declare, the same stage cannot open.
    score = track.stages[-1]
    del folders["held_out"]
    request = dataclasses.replace(request, folders=folders)
    job = pool.start(score, request, pool.cores[0])
    while (outcome := job.poll()) is None:
      pool.wait(0.2)
    assert outcome.status == "failed"
  finally:
    pool.close()
