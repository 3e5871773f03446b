"""Checks of derivatives, positions and equal forms, on plain NumPy."""

import ml_dtypes
import numpy as np
import pytest

from asi_evolve_jax.evaluation import derivative_gates, gates
from asi_evolve_jax.evaluation.gates import Rejected

TIME, DIM = 32, 4


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def check(rng, value, gradients, dtype=np.float32):
  point = {
    "x": rng.standard_normal((3, TIME, DIM)).astype(dtype),
    "w": rng.standard_normal((DIM,)).astype(np.float32),
  }
  shape = value(point).shape
  dys = [rng.standard_normal(shape).astype(dtype) for _ in range(3)]
  derivative_gates.check_derivative(value, gradients, point, dys, rng)


def tanh(point):
  x = point["x"]
  return np.tanh(x.astype(np.float32) * point["w"]).astype(x.dtype)


def slope(point, dy, x=1.0, w=1.0, stop=0.0):
  """Returns the pullback of tanh(x w), with factors that spoil it."""
  inside = 1 - np.square(np.asarray(tanh(point), np.float32))
  d = np.asarray(dy, np.float32) * inside
  return {
    "x": x * d * point["w"],
    "w": w * (d * np.asarray(point["x"], np.float32)).sum((0, 1)) + stop,
  }


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_true_derivatives_pass(rng, dtype):
  check(rng, tanh, slope, dtype)


@pytest.mark.parametrize(
  ("spoiled", "name"),
  [({"x": 1.2}, "x"), ({"x": 0.0}, "x"), ({"w": 0.8}, "w"), ({"w": -1.0}, "w")],
)
def test_wrong_factors_are_refused(rng, spoiled, name):
  with pytest.raises(Rejected, match=f"with respect to {name} is"):
    check(rng, tanh, lambda point, dy: slope(point, dy, **spoiled))


def test_in_bfloat16_a_lie_is_still_seen(rng):
  with pytest.raises(Rejected, match="with respect to x"):
    check(
      rng,
      tanh,
      lambda point, dy: slope(point, dy, x=3.0),
      ml_dtypes.bfloat16,
    )


def test_kinks_pass(rng):
  def value(point):
    return np.maximum(point["x"] * point["w"], 0)

  def gradients(point, dy):
    d = dy * (point["x"] * point["w"] > 0)
    return {"x": d * point["w"], "w": (d * point["x"]).sum((0, 1))}

  check(rng, value, gradients)


def test_an_unused_parameter_has_no_gradient(rng):
  def value(point):
    return 2 * point["x"]

  def gradients(point, dy, told=0.0):
    return {"x": 2 * dy, "w": np.full_like(point["w"], told)}

  check(rng, value, gradients)
  with pytest.raises(Rejected, match="with respect to w"):
    check(rng, value, lambda point, dy: gradients(point, dy, told=9.0))


def positions(gain):
  """Returns the gradient of y = x * gain(table) with respect to the table."""

  def gradients(x, dy):
    each = (x * dy).sum((0, 2))
    return {"table": gain.T @ each}

  return gradients


def test_a_table_over_positions_is_refused(rng):
  x, dy = rng.standard_normal((2, 2, TIME, DIM))
  whole = np.eye(TIME)
  by_place = np.tile(np.eye(8), (TIME // 8, 1))
  # One bucket a power of two: the last is read by the second half alone.
  buckets = np.eye(6)[np.log2(np.arange(TIME) + 1).astype(int)]
  first = np.eye(TIME, TIME // 2)  # a table that the first half uses up
  for near in (by_place, buckets, first, np.ones((TIME, 5)), 0 * whole):
    derivative_gates.check_positions(positions(near), x, dy)
  for bad in (whole, whole + 1e-6, np.tri(TIME)):
    with pytest.raises(Rejected, match="table over positions"):
      derivative_gates.check_positions(positions(bad), x, dy)


def test_a_sum_that_is_nothing_by_chance_is_no_table(rng):
  """A bias a head: of one cotangent its first half may come out near 0."""
  x, dy = rng.standard_normal((2, 2, TIME, DIM))
  half = TIME // 2
  each = x[:, :half] * dy[:, :half]
  dy[:, 0] -= x[:, 0] * each.sum() / (x[:, 0] ** 2).sum()
  bias = positions(np.ones((TIME, 1)))
  twice = np.concatenate([x[:, :half], x[:, :half]], 1)
  early = np.where(np.arange(TIME)[:, None] < half, dy, 0)
  assert abs(bias(twice, early)["table"]).max() < 1e-9
  derivative_gates.check_positions(bias, x, dy)


def test_a_sequence_of_one_token_has_no_second_half(rng):
  x = rng.standard_normal((2, 1, DIM))
  derivative_gates.check_positions(positions(np.eye(1)), x, x)


def test_equal_up_to_rounding(rng):
  y = rng.standard_normal((3, 5)).astype(np.float32)
  near = {"y": y + 1e-6}
  derivative_gates.check_equal("it", near, {"y": y}, "Change it.")
  for other in (y + 1e-3, np.where(y > 1, np.nan, y)):
    with pytest.raises(Rejected, match=r"y of it differs.*Change it\."):
      derivative_gates.check_equal("it", {"y": other}, {"y": y}, "Change it.")


def test_a_small_gradient_keeps_the_rounding_of_large_terms(rng):
  large = rng.standard_normal((3, 5)).astype(np.float32)
  wanted = {
    "the result": large,
    "the gradient of w": 100 * large,
    "the gradient of b": np.float32([1e-3]),
  }
  near = {**wanted, "the gradient of b": np.float32([1e-3 + 1e-4])}
  derivative_gates.check_equal("it", near, wanted, "Change it.")
  for name, gap in (("the gradient of b", 0.1), ("the result", 1e-4)):
    other = {**wanted, name: wanted[name] + np.float32(gap)}
    with pytest.raises(Rejected, match=f"{name} of it differs"):
      derivative_gates.check_equal("it", other, wanted, "Change it.")


def test_purity(rng):
  x = rng.standard_normal((2, 3)).astype(np.float32)
  gates.check_purity(np.tanh, x)
  gates.check_purity(lambda x: x * np.nan, x)
  with pytest.raises(Rejected, match="two calls with the same input differ"):
    gates.check_purity(lambda x: x + rng.standard_normal(), x)
