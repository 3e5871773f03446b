"""The untrusted stage: a Program's faults are the Program's, and named."""

import textwrap

import pytest

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.tracks.circle_packing import packing, run


def request(source, seeds=(0,), cpu_seconds=10.0):
  return StageRequest(
    source=textwrap.dedent(source),
    payload=b"",
    seeds=seeds,
    options={"circles": 2, "work": 3, "cpu_seconds": cpu_seconds},
    scratch="",
    cache="",
    deadline_s=10.0,
  )


def test_it_calls_pack_once_a_seed_with_the_work():
  reply = run.run(
    request(
      """
      import numpy as np
      def pack(n, seed, work):
        return np.full((n, 2), 0.5), np.array([seed, work])
      """,
      seeds=(4, 9),
    )
  )
  assert reply.status == "ok"
  first, second = packing.decode(reply.payload)
  assert first[0].shape == (2, 2)
  assert (first[1].values, second[1].values) == ((4.0, 3.0), (9.0, 3.0))
  assert reply.cost["pack_cpu_seconds"] >= 0


def test_an_error_names_the_programs_line():
  reply = run.run(
    request(
      """
      def half(x):
        return 1 / x
      def pack(n, seed, work):
        return half(seed)
      """
    )
  )
  assert reply.status == "failed"
  assert reply.error.splitlines() == [
    "line 5, in pack: `return half(seed)`",
    "line 3, in half: `return 1 / x`",
    "ZeroDivisionError: division by zero",
  ]


def test_an_error_inside_numpy_names_the_programs_line():
  reply = run.run(
    request(
      """
      import numpy as np
      def pack(n, seed, work):
        return np.linalg.inv(np.zeros((2, 2)))
      """
    )
  )
  assert "line 4, in pack" in reply.error
  assert reply.error.endswith("LinAlgError: Singular matrix")


@pytest.mark.parametrize(
  "body",
  [
    "return None",
    "return 3",
    "return [[0.1, 0.2]]",
    "return 'ab'",
    "return [['0.2', '0.2']] * 2, ['0.1', '0.1']",
    "return [[0.2, 0.2], [0.3]], [0.1, 0.1]",
    "return [[0.2, 0.2]] * 2, [0.1, None]",
  ],
)
def test_garbage_is_a_failure(body):
  reply = run.run(request(f"def pack(n, seed, work):\n  {body}\n"))
  assert reply.status == "failed"
  assert "`pack` returned garbage" in reply.error
  assert reply.payload == b""


@pytest.mark.parametrize(
  "body", ["raise SystemExit(0)", "pack(n, seed, work)", "raise Exception"]
)
def test_no_way_of_raising_gets_through(body):
  reply = run.run(request(f"def pack(n, seed, work):\n  {body}\n"))
  assert reply.status == "failed"
  assert len(reply.error) < 1000


def test_running_out_of_memory_is_left_to_the_worker():
  with pytest.raises(MemoryError):
    run.run(request("def pack(n, seed, work):\n  raise MemoryError\n"))


def test_more_cpu_time_than_allowed_is_rejected():
  source = "def pack(n, seed, work):\n  return sum(range(10**6))\n"
  reply = run.run(request(source, cpu_seconds=1e-4))
  assert (reply.status, reply.gate) == ("rejected", "cpu_seconds")


def test_work_outside_of_pack_counts_too():
  source = """\
    BEFORE = sum(range(10**6))
    def pack(n, seed, work):
      return [[0.5, 0.5]] * 2, [0.1, 0.1]
  """
  reply = run.run(request(source, cpu_seconds=1e-4))
  assert (reply.status, reply.gate) == ("rejected", "cpu_seconds")


def test_dataclasses_work_in_a_program():
  reply = run.run(
    request(
      """
      from __future__ import annotations
      import dataclasses
      @dataclasses.dataclass
      class Circle:
        x: float
      def pack(n, seed, work):
        return [[Circle(0.5).x] * 2] * n, [0.1] * n
      """
    )
  )
  assert reply.status == "ok", reply.error


PACK = "\ndef pack(n, seed, work):\n  return 0\n"


@pytest.mark.parametrize(
  ("source", "gate", "says"),
  [
    ("def pack(", "source", "line 1"),
    ("import os" + PACK, "source", "line 1: os cannot be imported"),
    ("import time" + PACK, "source", "time cannot be imported"),
    ("import jax" + PACK, "source", "jax cannot be imported"),
    ("open('x')" + PACK, "source", "open cannot be used"),
    ("x = 1", "contract", "no function `pack"),
    ("def pack(n, seed):\n  return 0", "contract", "(n, seed, work)"),
    ("class A:\n  def pack(n, seed, work): 0", "contract", "no function"),
  ],
)
def test_the_gates_refuse(source, gate, says):
  reply = run.run(request(source))
  assert (reply.status, reply.gate) == ("rejected", gate)
  assert says in reply.error


@pytest.mark.parametrize(
  "start",
  [
    "import numpy.linalg",
    "from scipy.optimize import linprog",
    "import math, itertools, functools, typing",
    "def pack(n: int, seed: int, work: int):\n  return 0",
  ],
)
def test_the_gates_let_near_misses_pass(start):
  reply = run.run(request(start + PACK))
  assert "`pack` returned garbage" in reply.error  # so it ran
