"""What the TPU compiler says of programs, and saying so where it is not."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from pallas_kernels.ahead_of_time import cases
from pallas_kernels.ahead_of_time.compiler import xla_cycles
from pallas_kernels.ahead_of_time.schedule import UnreadError
from pallas_kernels.benchmarks import mixers, tpu

OWN = {"linear_attention", "delta_rule", "gated_delta_rule", "dplr_delta_rule"}
# A loop of 5 trips inside one of 16, and one whose bound is not to be seen.
HLO = """
%cond.1 (arg: (s32[], f32[8])) -> pred[] {
  %constant.3 = s32[]{:T(128)} constant(16), metadata={op_name="jit(f)"}
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.3), direction=LT
}

%inner.c (arg: (s32[], f32[8])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(5)
  ROOT %lt.2 = pred[]{:T(512)} compare(%j, %constant.7), direction=LT
}

%inner.b (arg: f32[8]) -> f32[8] {
  ROOT %f.2 = f32[8] fusion(%arg), backend_config={"estimated_cycles":"10"}
}

%body.1 (arg: f32[8]) -> f32[8] {
  %v = f32[8] while(%arg), condition=%inner.c, body=%inner.b
  ROOT %f = f32[8] fusion(%v), backend_config={"estimated_cycles":"100"}
}

%body.2 (arg: f32[8]) -> f32[8] {
  ROOT %f.3 = f32[8] fusion(%arg), backend_config={"estimated_cycles":"1000"}
}

%other (arg: f32[8]) -> f32[8] {
  ROOT %f = f32[8] fusion(%arg), backend_config={"estimated_cycles":"7"}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %w = f32[8] while(%a), condition=%cond.1, body=%body.1
  %u = f32[8] while(%w), condition=%cond.2, body=%body.2
  ROOT %r = f32[8] fusion(%w), backend_config={"estimated_cycles":"30"}
}
"""


def test_loop_bodies_count_as_often_as_they_run():
  assert xla_cycles(HLO) == 16 * (100 + 5 * 10) + 1000 + 7 + 30


def test_what_libtpu_cannot_model_has_no_cycles():
  unknown = HLO.replace(
    '"estimated_cycles":"7"', f'"estimated_cycles":"{2**61}"'
  )
  with pytest.raises(UnreadError, match="no estimate"):
    xla_cycles(unknown)


def test_every_table_has_every_mixer():
  small = list(tpu.jobs(("pallas_tpu",), full=False))
  assert {job["mixer"] for job in small} >= {*tpu.MIXERS}
  full = list(tpu.jobs(("pallas_tpu", "deltanet-tpu"), full=True))
  assert {job["mixer"] for job in full} >= {*tpu.MIXERS}
  assert {job["operator"] for job in small} == OWN
  timed = [job["mixer"] for job in tpu.xla_jobs()]
  assert set(timed) == {*mixers.MIXERS}
  peer = [job for job in full if job.get("implementation") == "deltanet-tpu"]
  assert {job["decay"] for job in peer} == {"scalar", "vector"}
  assert {job["topology"].split(":")[0] for job in peer} == {
    "v5e",
    "v5p",
    "v6e",
  }


def test_packed_rows_and_states_compile_with_every_operator():
  for full, operators in ((False, {"gated_delta_rule"}), (True, OWN)):
    jobs = list(tpu.jobs(("pallas_tpu",), full=full))
    packed = [job for job in jobs if job.get("packed")]
    assert {job["operator"] for job in packed} == operators
    assert len(packed) == len(operators)
    assert all(job["states"] for job in packed)
    assert all("topology" not in job for job in packed)  # v5e
  peer = tpu.jobs(("deltanet-tpu",), full=True)
  assert not any(job.get("packed") for job in peer)


def test_a_packed_case_reads_segments_and_both_states():
  """What is handed to the compiler: traced here, compiled where libtpu is."""
  case = cases.Case(
    operator="gated_delta_rule",
    decay="scalar",
    time=64,
    heads=2,
    key_dim=8,
    value_dim=4,
    packed=True,
    states=True,
  )

  class Traced:
    def devices(self, topology):
      return jax.devices()

    def compile(self, function, *args):
      return jax.eval_shape(function, *args), args

  (value, (dtokens, dstate)), given = cases.compile_case(Traced(), case)
  assert value.shape == ()
  assert [x.shape for x in dtokens] == [x.shape for x in given[0]]
  assert dstate.shape == (1, 2, 8, 4)
  assert given[2].shape == (1, 64)
  plain = dataclasses.replace(case, packed=False, states=False)
  (_, (_, dstate)), given = cases.compile_case(Traced(), plain)
  assert dstate is None
  assert given[1:] == (None, None)
  attention = cases.Case(operator="dense_attention", states=True)
  with pytest.raises(ValueError, match="leave packed and states out"):
    cases.compile_case(Traced(), attention)


def test_the_search_has_every_dim_and_more_heads_a_program():
  jobs = list(tpu.search_jobs())
  assert len(jobs) < 120  # half a minute each
  assert {job["key_dim"] for job in jobs} == {64, 128, 256}
  assert {(job["chunk_size"], job["block_heads"]) for job in jobs} >= {
    (256, 8),
    (128, 8),
    (256, 4),
  }
  assert all(job["block_heads"] <= job["heads"] for job in jobs)
  named = [tuple(sorted(job.items())) for job in jobs]
  assert len(set(named)) == len(named)


def test_a_choice_without_room_is_a_finding_of_the_search(monkeypatch):
  rows = [{"mixer": "KDA", "refused": "vmem"}, {"mixer": "GLA", "sum": 1.0}]
  monkeypatch.setattr(tpu, "run", lambda jobs: iter(rows))
  refused, fine = tpu.search([])
  assert refused == {"mixer": "KDA", "does not fit": "vmem"}
  assert fine == {"mixer": "GLA", "sum": 1.0}


def test_without_a_compiler_it_says_not_checked():
  if importlib.util.find_spec("libtpu") is not None:
    pytest.skip("libtpu is installed here")
  with pytest.raises(tpu.NotCheckedError, match="not checked"):
    list(tpu.run(list(tpu.jobs(("pallas_tpu",), full=False))))


@pytest.mark.slow
def test_what_cannot_be_compiled_is_refused_with_the_reason():
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("not checked: libtpu is not installed here")
  job = {"operator": "linear_attention", "time": 256, "chunk_size": 96}
  done = subprocess.run(
    [sys.executable, "-m", "pallas_kernels.ahead_of_time"],
    input=json.dumps(job) + "\n",
    capture_output=True,
    text=True,
    timeout=300,
    env=dict(os.environ),
    cwd=pathlib.Path(__file__).resolve().parents[2],
    check=True,
  )
  assert (
    "chunk_size must be a power of two" in json.loads(done.stdout)["refused"]
  )
