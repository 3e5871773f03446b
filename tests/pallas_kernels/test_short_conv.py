"""The short convolution against a direct sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.short_conv import short_conv, step


def direct(x, weight, past):
  padded = np.concatenate([past, x], axis=1)
  width, time = len(weight), x.shape[1]
  return sum(
    weight[j] * padded[:, width - 1 - j : width - 1 - j + time]
    for j in range(width)
  )


def draw(width, time):
  rng = np.random.default_rng(width * 100 + time)
  return (
    rng.standard_normal((2, time, 5)),
    rng.standard_normal((width, 5)),
    rng.standard_normal((2, width - 1, 5)),
  )


@pytest.mark.parametrize("implementation", ["xla", "reference"])
@pytest.mark.parametrize(("width", "time"), [(4, 9), (4, 2), (1, 3), (3, 1)])
def test_equals_the_direct_sum(width, time, implementation):
  x, weight, past = draw(width, time)
  out, state = short_conv(
    jnp.float32(x),
    jnp.float32(weight),
    initial_state=jnp.float32(past),
    implementation=implementation,
  )
  np.testing.assert_allclose(out, direct(x, weight, past), atol=1e-5)
  tail = np.concatenate([past, x], axis=1)[:, time:]
  np.testing.assert_allclose(state, tail, rtol=1e-6)


def test_gradients_equal_those_of_the_recurrence():
  x, weight, past = draw(4, 9)
  wave = np.cos(np.arange(x.size)).reshape(x.shape)

  def value(x, weight, past, implementation):
    out, state = short_conv(
      x, weight, initial_state=past, implementation=implementation
    )
    return jnp.sum(out * wave) + jnp.sum(jnp.sin(state))

  with jax.enable_x64(True):
    args = [jnp.asarray(a) for a in (x, weight, past)]
    got = jax.grad(value, (0, 1, 2))(*args, "xla")
    want = jax.grad(value, (0, 1, 2))(*args, "reference")
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_steps_and_halves_equal_the_whole():
  x, weight, _ = (jnp.float32(a) for a in draw(4, 9))
  whole, last = short_conv(x, weight)
  early, state = short_conv(x[:, :2], weight)
  late, end = short_conv(x[:, 2:], weight, initial_state=state)
  np.testing.assert_allclose(np.concatenate([early, late], 1), whole, atol=1e-5)
  np.testing.assert_array_equal(end, last)
  state = jnp.zeros((2, 3, 5))
  for t in range(9):
    out, state = step(x[:, t], weight, state=state)
    np.testing.assert_allclose(out, whole[:, t], atol=1e-5)


def test_bfloat16_sums_in_float32():
  x, weight, _ = draw(4, 9)
  low = jnp.bfloat16(x)
  out, state = short_conv(low, jnp.float32(weight))
  assert out.dtype == jnp.bfloat16
  assert state.dtype == jnp.float32
  want = direct(np.float64(low), weight, np.zeros((2, 3, 5)))
  np.testing.assert_allclose(np.float64(out), want, rtol=2**-8, atol=1e-5)


def test_arguments_that_do_not_fit_are_refused():
  x, weight, _ = (jnp.float32(a) for a in draw(4, 9))
  with pytest.raises(ValueError, match=r"weight \[width, dim\]"):
    short_conv(x, weight[:, :2])
  with pytest.raises(ValueError, match="initial_state must be"):
    short_conv(x, weight, initial_state=x)
  with pytest.raises(ValueError, match="segment_ids must have shape"):
    short_conv(x, weight, segment_ids=jnp.zeros((2, 8), int))
  with pytest.raises(ValueError, match="unknown implementation 'pallas_gpu'"):
    short_conv(x, weight, implementation="pallas_gpu")


@pytest.mark.parametrize("implementation", ["xla", "reference"])
def test_packed_rows_equal_each_sequence(implementation):
  x, weight, past = (jnp.float32(a) for a in draw(4, 9))
  ids = jnp.asarray([[7] * 2 + [1] * 5 + [7] * 2] * 2)
  out, last = short_conv(
    x,
    weight,
    initial_state=past,
    segment_ids=ids,
    implementation=implementation,
  )
  state = past
  for begin, end in ((0, 2), (2, 7), (7, 9)):
    want, final = short_conv(x[:, begin:end], weight, initial_state=state)
    np.testing.assert_allclose(out[:, begin:end], want, atol=1e-5)
    state = jnp.zeros_like(past)
  np.testing.assert_allclose(last, final, atol=1e-6)
