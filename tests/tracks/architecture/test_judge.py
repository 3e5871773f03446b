"""The judge believes nothing: whatever the trace stage may send."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from judging import BATCH, DIM, TIME, options
from mixer_sources import GOOD, spoil

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.models.language_model import layer_depths
from asi_evolve_jax.programs import artifact, bundle, header
from asi_evolve_jax.settings import plain
from asi_evolve_jax.tracks.architecture import judge, probe, trace


def request(source="", payload=b"", **changes):
  return StageRequest(
    source, payload, (), plain(options(**changes)), "", "", 600.0
  )


@pytest.fixture(scope="module")
def honest():
  return trace.run(request(GOOD)).payload


def judged(payload, **changes):
  return judge.run(request(payload=payload, **changes), seed=0)


def forge(payload, change):
  """Returns a bundle whose Artifact was changed by someone who can do all."""
  told, sections = header.unpack(bundle.unpack(payload)["cpu"])
  told, sections = change(told, dict(sections))
  sizes = {name: len(data) for name, data in sections.items()}
  told = dataclasses.replace(told, sections=sizes)
  return bundle.pack({"cpu": header.pack(told, sections)})


def claim(**fields):
  return lambda told, parts: (dataclasses.replace(told, **fields), parts)


def exported(fn, *args, order=0):
  function = export.export(jax.jit(fn), platforms=["cpu"])(*args)
  return bytes(function.serialize(vjp_order=order))


def exchange(told, parts):
  parts[f"apply.{TIME}"], parts["apply.64"] = (
    parts["apply.64"],
    parts[f"apply.{TIME}"],
  )
  return told, parts


def _zeros(told, key):
  del key
  return jax.tree.map(lambda p: jnp.ones(p.shape), told.structs())


def no_derivative(told, parts):
  x = jax.ShapeDtypeStruct((BATCH, TIME, DIM), jnp.float32)
  parts[f"apply.{TIME}"] = exported(
    lambda params, x, depth: x,
    told.structs(),
    x,
    jax.ShapeDtypeStruct((), jnp.float32),
  )
  return told, parts


def calls_python(told, parts):
  """What a pure_callback becomes, which jax would not serialise itself."""
  target = "xla_ffi_python_cpu_callback"
  x = jax.ShapeDtypeStruct((BATCH, TIME, DIM), jnp.float32)
  function = export.export(
    jax.jit(lambda params, x, depth: jax.ffi.ffi_call(target, x)(x)),
    platforms=["cpu"],
    disabled_checks=[export.DisabledSafetyCheck.custom_call(target)],
  )(told.structs(), x, jax.ShapeDtypeStruct((), jnp.float32))
  # A forger does not say which checks are off.
  function = dataclasses.replace(function, disabled_safety_checks=())
  parts[f"apply.{TIME}"] = bytes(function.serialize())
  return told, parts


def for_tpus(told, parts):
  parts["init"] = bytes(
    export.export(jax.jit(lambda key: _zeros(told, key)), platforms=["tpu"])(
      jax.ShapeDtypeStruct((2,), jnp.uint32)
    ).serialize()
  )
  return told, parts


FORGED = {
  "another hash": (claim(artifact_hash="0" * 32), "says its hash is 0000"),
  "fewer parameters": (lambda t, s: (_fewer(t), s), "takes|returns"),
  "lengths exchanged": (exchange, "apply.32 takes"),
  "another batch": (claim(batch=7), "apply.32 takes"),
  "another dtype": (claim(dtype="bfloat16"), "apply.32 takes"),
  "no derivative": (no_derivative, "lacks its derivative"),
  "a host callback": (calls_python, "xla_ffi_python_cpu_callback"),
  "too many bytes": (
    lambda t, s: (t, s | {"init": bytes(header.MAX_BYTES)}),
    f"at most {header.MAX_BYTES} are read",
  ),
  "another platform": (for_tpus, "is for .'tpu',., not for cpu"),
  "bytes cut": (
    lambda t, s: (t, s | {"init": s["init"][: len(s["init"]) // 2]}),
    "init is damaged",
  ),
}


def _fewer(told):
  return dataclasses.replace(told, parameters=told.parameters[1:])


@pytest.mark.parametrize("name", FORGED)
def test_forged_bundles_are_refused(honest, name):
  change, message = FORGED[name]
  reply = judged(forge(honest, change))
  assert (reply.status, reply.gate) == ("rejected", "artifact")
  assert re.search(message, reply.error), reply.error
  assert reply.payload == b""


@pytest.mark.parametrize(
  "payload",
  [
    b"",
    b"junk",
    bundle.pack({"cpu": b""}),
    bundle.pack({"cpu": b"x", "other": b"y"}),
    b"ASIFORMS" + (1 << 30).to_bytes(4, "little"),
    b"ASIFORMS" + (9).to_bytes(4, "little") + b'[["a",9]]',
    b"ASIFORMS" + (10).to_bytes(4, "little") + b'[["a",-1]]',
  ],
)
def test_what_is_no_bundle_is_refused(payload):
  reply = judged(payload)
  assert (reply.status, reply.gate) == ("rejected", "artifact"), reply.error


def test_what_a_judge_asks_cannot_be_foreseen_and_is_recorded():
  told = judge.run(request(payload=b""), seed=0xABC)
  assert told.report["gate_seed"] == "00000abc"
  drawn = {judge.run(request()).report["gate_seed"] for _ in range(3)}
  assert len(drawn) > 1
  few = options()
  deep = dataclasses.replace(
    few, model=dataclasses.replace(few.model, layers=12)
  )
  cases = [judge.Case(b"", deep, seed) for seed in range(8)]
  assert len({case.depths.tobytes() for case in cases}) == 8
  every = layer_depths(12)
  for case in cases:
    assert len(case.depths) == 8
    assert set(case.depths) <= set(every)
    assert case.depths.dtype == np.float32


def test_a_bundle_for_another_rung_is_refused(honest):
  reply = judged(honest, run={"more_times": (512,)})
  assert (reply.status, reply.gate) == ("rejected", "artifact")
  assert "the form cpu is for" in reply.error


def test_further_lengths_stay_in_the_artifact():
  wanted = {"run": {"more_times": (4 * TIME,)}}
  traced = trace.run(request(GOOD, **wanted))
  reply = judged(traced.payload, **wanted)
  assert reply.status == "ok", reply.error
  mixer = artifact.load(reply.payload)
  assert mixer.header.times == (TIME, 4 * TIME)
  for time in mixer.header.times:
    x = jax.ShapeDtypeStruct((BATCH, time, DIM), jnp.float32)
    y = jax.eval_shape(lambda p, x: mixer.apply(p, x, 0.0), mixer.params, x)
    assert y.shape == x.shape
  x = jax.ShapeDtypeStruct((BATCH, 2 * TIME, DIM), jnp.float32)
  with pytest.raises(artifact.ArtifactError, match=r"no function apply\.64"):
    mixer.apply(mixer.params, x, 0.0)


def test_the_report_is_the_judges_own(honest):
  reply = judged(honest)
  assert reply.status == "ok", reply.error
  kept = header.unpack(reply.payload)[1]
  sent = header.unpack(bundle.unpack(honest)["cpu"])[1]
  # What was judged is what trains, byte for byte.
  assert list(kept) == [f"apply.{TIME}", "init"]
  assert all(kept[name] == sent[name] for name in kept)
  assert reply.report["artifact_hash"] == artifact.load(reply.payload).name()
  json.dumps(reply.report)


@pytest.mark.slow
def test_what_trains_on_tpus_must_cost_what_it_costs_on_a_cpu():
  honest = trace.run(request(GOOD, platform="tpu")).payload
  more = spoil("y.astype(x.dtype)", "y + 0 * jax.nn.softmax(y @ y.mT) @ y")
  forms = bundle.unpack(trace.run(request(more, platform="tpu")).payload)
  forged = bundle.pack({**bundle.unpack(honest), "tpu": forms["tpu"]})
  reply = judged(forged, platform="tpu")
  assert (reply.status, reply.gate) == ("rejected", "kernels")
  assert "flops on tpu" in reply.error


# With the policy out of the way: it is no jail.
PATCHES = """
from asi_evolve_jax.evaluation import cost, derivative_gates, gates
from asi_evolve_jax.programs import exported
from asi_evolve_jax.tracks.architecture import judge, probe

for module in (gates, derivative_gates):
  for name in dir(module):
    if name.startswith("check_"):
      setattr(module, name, lambda *args: None)
jax.numpy.isfinite = lambda x: True
jax.numpy.abs = lambda x: 0 * x
cost.cost = lambda module: cost.Cost()
judge.Case.gates = lambda self: ()
probe.Probe = None
"""


@pytest.mark.slow
def test_memory_of_the_trace_process_is_not_the_judges(tmp_path, monkeypatch):
  from asi_evolve_jax.evaluation.limits import Limits
  from asi_evolve_jax.evaluation.workers import WorkerPool
  from asi_evolve_jax.tracks.architecture.track import ArchitectureTrack

  stages = {s.name: s for s in ArchitectureTrack.stages}
  leaks = spoil(
    "    return y.astype(x.dtype)\n", "    return (y + y[:, ::-1])\n"
  )
  source = leaks.replace("\n\nclass", PATCHES + "\n\nclass", 1)
  # The judge alone stands in its way.
  open_policy = tmp_path / "open_policy.py"
  open_policy.write_text(
    "from asi_evolve_jax.tracks.architecture import trace\n"
    "def run(request):\n"
    "  trace.ALLOWED_IMPORTS |= {'asi_evolve_jax'}\n"
    "  return trace.run(request)\n"
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  unguarded = dataclasses.replace(stages["trace"], entry="open_policy:run")
  pool = WorkerPool([], Limits(memory_bytes=0))
  try:
    scratch = str(tmp_path / "scratch")
    first = dataclasses.replace(request(source), scratch=scratch)
    traced = _wait(pool, pool.start(unguarded, first, None))
    assert traced.status == "ok", traced.error
    second = dataclasses.replace(
      request(payload=traced.reply.payload), scratch=scratch
    )
    outcome = _wait(pool, pool.start(stages["judge"], second, None))
  finally:
    pool.close()
  assert outcome.status == "rejected", outcome.error
  assert outcome.reply.gate == "causality"


@pytest.mark.slow
def test_a_judge_of_its_own_has_eight_devices(tmp_path):
  wanted = {"purpose": "verify", "run": {"batch": 8}}
  payload = tmp_path / "bundle"
  payload.write_bytes(trace.run(request(GOOD, **wanted)).payload)
  code = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from test_judge import judged
reply = judged(open({str(payload)!r}, "rb").read(), **{wanted!r})
print(reply.status, reply.error, reply.report["sharded_over"])
"""
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["ok", "8"]


@pytest.mark.parametrize("gap", [0.0, 1e-2])
def test_other_numbers_over_several_devices_are_refused(monkeypatch, gap):
  wanted = {"purpose": "verify", "run": {"batch": 8}}
  payload = trace.run(request(GOOD, **wanted)).payload
  real = probe.Probe.moved_results

  def spread(self, depth):
    found = dict(real(self, depth))
    name = sorted(found)[-1]
    found[name] = found[name] + np.float32(gap * abs(found[name]).max())
    return 8, found

  monkeypatch.setattr(probe.Probe, "sharded", spread)
  reply = judged(payload, **wanted)
  assert reply.gate == ("sharding" if gap else ""), reply.error
  assert ("a run on 8 devices" in reply.error) == bool(gap)


def _wait(pool, job):
  while (outcome := job.poll()) is None:
    pool.wait(0.1)
  return outcome
