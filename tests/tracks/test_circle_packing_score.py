"""The exact judge: nothing invalid passes, nothing valid is refused."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.tracks.circle_packing import packing, score

TWO = np.array([[0.25, 0.25], [0.75, 0.75]])


def request(payload, seeds=(0,), circles=2, facts=None):
  return StageRequest(
    source="",
    payload=payload,
    seeds=seeds,
    options={"circles": circles, "cpu_seconds": 5.0},
    scratch="",
    cache="",
    deadline_s=10.0,
    facts=facts or {},
  )


def judge(centers, radii, circles=2):
  pair = (
    packing.as_array(centers, "centers"),
    packing.as_array(radii, "radii"),
  )
  return score.run(request(packing.encode([pair]), circles=circles))


@pytest.mark.parametrize(("used", "status"), [(11.9, "ok"), (12.1, "rejected")])
def test_cpu_time_is_judged_by_what_was_measured_outside(used, status):
  good = (packing.as_array(TWO, "c"), packing.as_array([0.25, 0.125], "r"))
  reply = score.run(
    request(
      packing.encode([good, good]),
      seeds=(3, 7),
      facts={"run_cpu_seconds": used},
    )
  )
  assert reply.status == status
  assert reply.gate == ("" if status == "ok" else "cpu_seconds")


def test_a_valid_packing_scores_its_sum_and_is_kept():
  reply = judge(TWO, [0.25, 0.125])
  assert reply.status == "ok"
  assert reply.metrics == ({"sum_of_radii": 0.375},)
  np.testing.assert_array_equal(
    reply.curves["packing"], [[[0.25, 0.25, 0.25], [0.75, 0.75, 0.125]]]
  )


def test_touching_circles_and_walls_are_valid():
  # All of it is representable: distance 0.5 exactly, walls at 0 and 1.
  reply = judge([[0.25, 0.25], [0.75, 0.25]], [0.25, 0.25])
  assert reply.status == "ok"


@pytest.mark.parametrize("amount", [1e-6, 1e-12, 2.0**-55])
def test_the_least_overlap_is_rejected_and_named(amount):
  centers = [[0.25, 0.5], [0.625, 0.5]]  # 0.375 apart
  assert judge(centers, [0.25, 0.125]).status == "ok"
  reply = judge(centers, [0.25, 0.125 + amount])
  assert (reply.status, reply.gate) == ("rejected", "valid_packing")
  assert reply.error.endswith(
    f"circles 0 and 1 overlap by {0.125 + amount - 0.125:.3g}."
  )
  assert judge(centers, [0.25, 0.125 - amount]).status == "ok"


def test_tangent_by_float_is_judged_by_its_exact_value():
  """A float distance may hide an overlap that the rationals show."""
  rng = np.random.default_rng(0)
  hidden = refused = 0
  for _ in range(300):
    a, b = rng.uniform(0.3, 0.7, (2, 2))
    distance = math.hypot(*(a - b))
    radii = [distance / 2, distance - distance / 2]
    exact = (Fraction(a[0]) - Fraction(b[0])) ** 2
    exact += (Fraction(a[1]) - Fraction(b[1])) ** 2
    valid = exact >= (Fraction(radii[0]) + Fraction(radii[1])) ** 2
    assert judge([a, b], radii).status == ("ok" if valid else "rejected")
    # A check in floats would let all of these pass.
    hidden += not valid
    refused += valid
  assert hidden > 20
  assert refused > 20


@pytest.mark.parametrize(
  ("centers", "radii", "says"),
  [
    (TWO, [0.1, float("nan")], "radii holds nan (circle 1)"),
    (TWO, [0.1, float("inf")], "radii holds inf"),
    ([[0.2, 0.2], [0.5, float("nan")]], [0.1, 0.1], "nan (circle 1)"),
    (TWO, [0.1, -0.1], "circle 1 has radius -0.1"),
    (TWO, [0.0, 0.1], "circle 0 has radius 0.0"),
    (TWO, [0.25, 0.25 + 2.0**-53], "circle 1 leaves the unit square"),
    ([[1.5, 0.5], [0.2, 0.2]], [0.1, 0.1], "leaves the unit square by 0.6"),
    ([[1e308, 0.5], [0.2, 0.2]], [1e308, 0.1], "by more than any float"),
    (TWO[:1], [0.1, 0.1], "centers must be [2, 2]"),
    (TWO, [[0.1], [0.1]], "radii [2], got [2, 2] and [2, 1]"),
    (TWO.ravel(), [0.1, 0.1], "got [4] and [2]"),
    (np.zeros((0, 2)), [], "got [0, 2] and [0]"),
  ],
)
def test_what_is_no_packing_is_rejected(centers, radii, says):
  reply = judge(centers, radii)
  assert (reply.status, reply.gate) == ("rejected", "valid_packing")
  assert says in reply.error
  assert reply.metrics == ()


def test_one_bad_seed_rejects_all():
  good = (packing.as_array(TWO, "c"), packing.as_array([0.1, 0.1], "r"))
  bad = (packing.as_array(TWO, "c"), packing.as_array([0.1, 0.4], "r"))
  reply = score.run(request(packing.encode([good, bad]), seeds=(3, 7)))
  assert reply.status == "rejected"
  assert reply.error.startswith("Seed 7: circle 1 leaves")


GOOD = {
  "centers": {"shape": [2, 2], "values": ["0x0.4p0"] * 4},
  "radii": {"shape": [2], "values": ["0x0.1p0"] * 2},
}


@pytest.mark.parametrize(
  "payload",
  [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b"{}",
    b"[[]]",
    b"[" + b" " * (2 << 20) + b"]",
    json.dumps([]).encode(),  # too few
    json.dumps([GOOD, GOOD]).encode(),  # too many
    json.dumps([{**GOOD, "score": 3.0}]).encode(),
    json.dumps([{**GOOD, "radii": [0.1, 0.1]}]).encode(),
    json.dumps(
      [{**GOOD, "radii": {"shape": [2], "values": [0.1, 0.1]}}]
    ).encode(),
    json.dumps(
      [{**GOOD, "radii": {"shape": [2], "values": ["big", "0x1p0"]}}]
    ).encode(),
    json.dumps(
      [{**GOOD, "radii": {"shape": [2], "values": ["0x1p9999"] * 2}}]
    ).encode(),
    json.dumps(
      [{**GOOD, "radii": {"shape": [3], "values": ["0x1p0"] * 2}}]
    ).encode(),
    json.dumps(
      [{**GOOD, "radii": {"shape": [-2], "values": ["0x1p0"] * 2}}]
    ).encode(),
  ],
)
def test_garbage_fails(payload):
  reply = score.run(request(payload))
  assert reply.status == "failed"
  assert "Unreadable output" in reply.error
  assert reply.metrics == ()


def test_the_garbage_above_is_near_to_something_valid():
  overlapping = score.run(request(json.dumps([GOOD]).encode()))
  assert overlapping.gate == "valid_packing"


@pytest.mark.parametrize(
  "value", ["abc", ["0.1", "0.2"], [0.1, None], [1j, 2j], [True, False], {}]
)
def test_only_real_numbers_become_arrays(value):
  with pytest.raises(packing.PackingError):
    packing.as_array(value, "radii")


def test_too_many_numbers_are_refused():
  with pytest.raises(packing.PackingError, match="5000 numbers"):
    packing.as_array(np.zeros(5000), "radii")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-12, 0.5), min_size=1, max_size=40))
def test_the_sum_is_the_float_below_the_exact_one(radii):
  exact = sum(map(Fraction, radii))
  value = packing.sum_of_radii(packing.Array((len(radii),), tuple(radii)))
  assert Fraction(value) <= exact < Fraction(math.nextafter(value, math.inf))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=64), min_size=0, max_size=8))
def test_every_float_survives_the_way(values):
  array = packing.as_array(np.array(values, np.float64), "radii")
  (centers, radii), *rest = packing.decode(packing.encode([(array, array)]))
  assert rest == []
  assert centers.shape == (len(values),)
  np.testing.assert_array_equal(radii.values, values)
