"""Shardings are inferred, and eight devices compute what one does."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from small_models import Bigram, text

from asi_evolve_jax.training import batches, sharding
from asi_evolve_jax.training.train import Run, train
from asi_evolve_jax.training.trainer import Optimizer, Trainer


def test_the_mesh_has_auto_axes_even_for_one_device():
  mesh = sharding.make_mesh()
  assert mesh.axis_names == ("data", "fsdp", "model")
  assert set(mesh.axis_types) == {AxisType.Auto}
  with pytest.raises(ValueError, match="does not fit"):
    sharding.make_mesh(fsdp=jax.device_count() + 1)


_EIGHT = """
import functools, json
import jax, numpy as np
from small_models import Bigram, text
from asi_evolve_jax.training import batches, sharding
from asi_evolve_jax.training.train import Run, train
from asi_evolve_jax.training.trainer import Optimizer, Trainer

mesh = sharding.make_mesh(fsdp=4)
shape = lambda *s: jax.ShapeDtypeStruct(s, np.float32)
tree = {"big": shape(3, 512, 1024), "tied": shape(512, 512),
        "odd": shape(7, 999, 55), "small": shape(8, 8)}
specs = {k: list(s.spec) for k, s in sharding.infer(tree, mesh).items()}
sharding.infer = functools.partial(sharding.infer, min_elements=1)
trainer = Trainer(Bigram(), Optimizer(warmup=2), batch=8, time=16, mesh=mesh)
table = trainer.init(0)["params"]["ends"]["table"]
data = text(5_000)
dev = batches.evaluation_windows(data, count=8, time=16)
outcome = train(trainer, data, dev, Run(steps=5))
print(json.dumps({
  "mesh": dict(mesh.shape), "specs": specs,
  "shard": table.addressable_shards[0].data.shape,
  "train": outcome.train.tolist(), "bits": outcome.bits_per_byte,
}))
"""


def test_eight_devices_shard_and_agree_with_one():
  here = pathlib.Path(__file__).parent
  done = subprocess.run(
    [sys.executable, "-c", _EIGHT],
    capture_output=True,
    text=True,
    timeout=240,
    check=False,
    env={
      **os.environ,
      "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])]),
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    },
  )
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads(done.stdout)
  assert found["mesh"] == {"data": 2, "fsdp": 4, "model": 1}
  assert found["specs"]["big"] == [None, None, "fsdp"]
  assert found["specs"]["tied"] == [None, "fsdp"]
  assert set(found["specs"]["odd"]) == {None}
  assert set(found["specs"]["small"]) <= {None}
  assert found["shard"] == [256, 64]

  trainer = Trainer(Bigram(), Optimizer(warmup=2), batch=8, time=16)
  data = text(5_000)
  dev = batches.evaluation_windows(data, count=8, time=16)
  outcome = train(trainer, data, dev, Run(steps=5))
  # Other orders of summation: a few float32 ulps, grown by Adam.
  np.testing.assert_allclose(found["train"], outcome.train, rtol=1e-5)
  np.testing.assert_allclose(found["bits"], outcome.bits_per_byte, rtol=1e-5)
