"""One Program, several platforms; and a Program with a kernel of its own."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asi_evolve_jax.programs import artifact, preflight
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.tracks.architecture import pipeline
from asi_evolve_jax.tracks.architecture.baselines import baselines
from asi_evolve_jax.tracks.architecture.examples import own_kernel
from asi_evolve_jax.tracks.architecture.options import (
  ModelOptions,
  RungOptions,
  StageOptions,
)
from pallas_kernels import compiling_for, target
from pallas_kernels.ahead_of_time.compiler import NotCheckedError

SOURCES = {b.name: b.source for b in baselines()}
with open(own_kernel.__file__) as f:
  SOURCES["own_kernel"] = f.read()


def traced(name, platform):
  options = StageOptions(
    model=ModelOptions(
      dim=128, layers=2, heads=1, mlp_ratio=4.0, chunk_size=32
    ),
    run=RungOptions(batch=2, time=64),
    reference_source=SOURCES["deltanet"],
    yardsticks=(program_id(SOURCES["softmax"]),),
    platform=platform,
  )
  reply = pipeline.make_artifact(SOURCES[name], options, seed=0)
  assert reply.status == "ok", (reply.gate, reply.error)
  return reply.payload


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated_deltanet", "own_kernel"])
def test_a_program_has_its_kernel_for_tpus_alone(name):
  payload = traced(name, "tpu")
  assert artifact.read_header(payload).platform == "tpu"
  assert b"tpu_custom_call" in payload
  twin = traced(name, "cpu")
  assert b"tpu_custom_call" not in twin
  if importlib.util.find_spec("libtpu") is None:
    with pytest.raises(NotCheckedError, match=r"not checked.*tpu-aot"):
      preflight.preflight(payload, ["v5e:2x2"])
    return
  (result,) = preflight.preflight(payload, ["v5e:2x2"])
  assert "refused" not in result
  assert result["kernels"]
  assert not result["unread"]


@pytest.mark.slow
def test_the_example_kernel_equals_its_other_form():
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.uniform(0, 1, (2, 70, 5)), jnp.float32)
  b = jnp.asarray(rng.standard_normal((2, 70, 5)), jnp.float32)
  got = own_kernel.scan_tpu(a, b, interpret=True)
  np.testing.assert_allclose(got, own_kernel.scan_xla(a, b), atol=1e-5)


@pytest.mark.slow
def test_the_example_derivative_is_that_of_its_other_form():
  rng = np.random.default_rng(1)
  with jax.enable_x64(True):
    a = jnp.asarray(rng.uniform(0, 1, (1, 9, 3)))
    b = jnp.asarray(rng.standard_normal((1, 9, 3)))
    wave = jnp.cos(jnp.arange(27.0)).reshape(1, 9, 3)
    got, want = (
      jax.grad(lambda a, b, f=f: jnp.sum(f(a, b) * wave), (0, 1))(a, b)
      for f in (own_kernel.scan, own_kernel.scan_xla)
    )
  for mine, autodiff in zip(got, want, strict=True):
    np.testing.assert_allclose(mine, autodiff, atol=1e-12)


def test_the_target_is_said_and_taken_back():
  assert target() == "cpu"
  with compiling_for("cuda"):
    assert target() == "gpu"
  assert target() == "cpu"
  with pytest.raises(ValueError, match="'tpuv5' is not one of"):
    compiling_for("tpuv5").__enter__()
