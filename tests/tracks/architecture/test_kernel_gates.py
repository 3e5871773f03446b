"""Kernels that differ from the other form, or that TPUs do not take."""

import importlib.util
import re

import numpy as np
import pytest
from mixer_sources import GOOD, spoil

from asi_evolve_jax.evaluation import gates
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.programs.traceable import Traceable
from asi_evolve_jax.tracks.architecture import contract, kernel_gates, pipeline
from asi_evolve_jax.tracks.architecture.baselines import baselines
from asi_evolve_jax.tracks.architecture.examples import own_kernel
from asi_evolve_jax.tracks.architecture.forms import probe_time
from asi_evolve_jax.tracks.architecture.options import (
  ModelOptions,
  RungOptions,
  StageOptions,
)
from pallas_kernels import compiling_for

TIME, DEPTH = 32, np.float32(0.5)
MODEL = ModelOptions(dim=16, layers=1, heads=1, chunk_size=16)
with open(own_kernel.__file__) as f:
  # Blocks of 8 tokens: several of them, and little to compile.
  OWN = spoil("ROWS = 64", "ROWS = 8", f.read())


def forms(source):
  """Returns a Program's mixer without its kernel and with it, interpreted."""
  mixer = contract.execute(source).TokenMixer
  subject = Traceable(mixer, contract.mixer_config(MODEL))
  one = artifact.trace(subject, batch=2, time=TIME)
  with compiling_for("tpu", interpret=True):
    two = artifact.trace(subject, batch=2, time=TIME)
  return artifact.load(one), artifact.load(two)


STEP = "h = a_ref[t : t + 1] * h + b_ref[t : t + 1]"
OTHERS = {
  "another recurrence": (spoil(STEP, STEP + " * 0.999", OWN), "the result"),
  "no carry between blocks": (
    spoil("carry[...] = h", "carry[...] = 0 * h", OWN),
    "the result",
  ),
  "rows of a batch mixed up": (
    spoil("out_specs=block,", "out_specs=other,", OWN).replace(
      "  h = pl.pallas_call(",
      "  other = pl.BlockSpec(\n"
      "    (None, ROWS, LANES), lambda i, j, n: (1 - i, n, j)\n  )\n"
      "  h = pl.pallas_call(",
    ),
    "the result",
  ),
  "another derivative": (
    spoil(
      "  return db * before, db\n",
      '  if target() == "tpu":\n    db = 0.99 * db\n  return db * before, db\n',
      OWN,
    ),
    "the gradient of",
  ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_kernel_that_computes_something_else_is_refused(name):
  source, what = OTHERS[name]
  with pytest.raises(gates.Rejected, match=f"^{what}.* differs.*Both must"):
    kernel_gates.check_forms(*forms(source), DEPTH)


def test_a_kernel_that_rounds_in_another_order_passes():
  near = "h = h - (1 - a_ref[t : t + 1]) * h + b_ref[t : t + 1]"
  one, two = forms(spoil(STEP, near, OWN))
  assert one.header.artifact_hash != two.header.artifact_hash
  kernel_gates.check_forms(one, two, DEPTH)


@pytest.mark.slow
def test_a_form_for_tpus_without_kernels_runs_and_is_compared():
  def traced(source, platform):
    mixer = contract.execute(source).TokenMixer
    subject = Traceable(mixer, contract.mixer_config(MODEL))
    made = artifact.trace(subject, batch=2, time=TIME, platform=platform)
    return artifact.load(made)

  plain = traced(GOOD, "cpu")
  kernel_gates.check_platform(plain, traced(GOOD, "tpu"), DEPTH)
  ahead = spoil("y.astype(x.dtype)", "y.at[:, 0].add(1e-2 * y[:, -1])", GOOD)
  with pytest.raises(gates.Rejected, match="differs between tpu and the CPU"):
    kernel_gates.check_platform(plain, traced(ahead, "tpu"), DEPTH)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated_deltanet", "retnet"])
def test_operators_have_one_meaning(name):
  (source,) = [b.source for b in baselines() if b.name == name]
  one, two = forms(source)
  assert one.header.artifact_hash != two.header.artifact_hash
  kernel_gates.check_forms(one, two, DEPTH)


@pytest.mark.parametrize(
  ("chunk", "longest", "time"),
  [(16, 256, 128), (16, 64, 64), (128, 1024, 256), (1, 100, 100)],
)
def test_forms_are_compared_over_several_blocks(chunk, longest, time):
  assert probe_time(chunk, longest) == time


def verdict(source, **changes):
  made = StageOptions(
    model=MODEL,
    run=RungOptions(batch=1, time=TIME),
    reference_source=OWN,
    **changes,
  )
  return pipeline.make_artifact(source, made, seed=0)


@pytest.mark.slow
def test_before_verification_it_must_compile_for_the_target():
  wanted = {"check_kernels": True, "preflight": ("v5e:2x2",)}
  explored = verdict(OWN, **wanted)
  assert explored.status == "ok"
  assert "kernels" in explored.report["gate_seconds"]
  assert "preflight" not in explored.report
  reply = verdict(OWN, **wanted, purpose="verify")
  assert reply.status == "ok", reply.error
  # Part of the fitness, its cycles are needed before it is explored.
  fit = verdict(OWN, **wanted, modelled_cycles_weight=0.1)
  if importlib.util.find_spec("libtpu") is None:
    assert "not checked" in reply.report["preflight"]
    assert "modelled_cycles" not in reply.report
    assert (fit.status, fit.payload) == ("failed", b"")
    assert re.search("not checked.*tpu-aot.*weight to 0", fit.error)
  else:
    assert reply.report["preflight"]["v5e:2x2"]["temp_bytes"] > 0
    assert reply.report["modelled_cycles"] > 0
    assert fit.report["modelled_cycles"] == reply.report["modelled_cycles"]
    # Its Artifact is known by both forms: schedules are told apart.
    hashes = [made.report["artifact_hash"] for made in (explored, reply, fit)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_kernel_whose_loops_have_no_number_claims_no_cycles():
  read = {
    "topology": "v5e:2x2",
    "kernels": {"forward.1": [50, 8]},
    "unread": {},
    "xla_cycles": 7,
    "temp_bytes": 0,
    "seconds": 1.0,
  }
  report = kernel_gates.report_compiled([read], counted=True)
  assert report["modelled_cycles"] == 407
  unread = read | {"unread": {"own.1": "a loop. Give its loops bounds."}}
  report = kernel_gates.report_compiled([unread], counted=False)
  assert "modelled_cycles" not in report
  cycles = report["preflight"]["v5e:2x2"]["modelled_cycles"]
  assert cycles.startswith("not checked: own.1")
  with pytest.raises(gates.Rejected, match=r"own\.1 has no number.*Give its"):
    kernel_gates.report_compiled([unread], counted=True)


@pytest.mark.slow
def test_a_kernel_that_does_not_lower_for_tpus_is_refused():
  # Sorting one row is nothing to do, so both forms agree.
  sort = spoil("h = carry[...]", "h = jnp.sort(carry[...], axis=0)", OWN)
  kernel_gates.check_forms(*forms(sort), DEPTH)
  wanted = {"preflight": ("v5e:2x2",), "purpose": "verify"}
  reply = verdict(sort, **wanted)
  assert (reply.status, reply.gate) == ("rejected", "export")
  assert "sort" in reply.error


def test_a_kernel_that_tpus_refuse_is_refused_with_the_reason():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("not checked: libtpu is not installed here")
  # Half a gigabyte of scratch lowers, and no TPU has room for it.
  big = spoil("h_ref, carry):", "h_ref, carry, room):", OWN)
  big = spoil("h = carry[...]", "room[:1] = carry[...]\n  h = room[:1]", big)
  scratch = "pltpu.VMEM((1, LANES), jnp.float32)"
  both = f"{scratch}, {scratch.replace('1', '2**20', 1)}"
  wanted = {"preflight": ("v5e:2x2",), "purpose": "verify"}
  reply = verdict(spoil(scratch, both, big), **wanted)
  assert (reply.status, reply.gate) == ("rejected", "target")
  assert "does not compile for v5e:2x2" in reply.error
