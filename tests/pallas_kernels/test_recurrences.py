"""Linear attention and the delta rule against their float64 recurrences."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.delta_rule import (
  delta_rule,
  gated_delta_rule,
  gated_step,
)
from pallas_kernels.delta_rule import step as delta_step
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.linear_attention import step as linear_step

DECAYS = ("none", "scalar", "vector")
OPERATORS = ("linear_attention", "delta_rule")
# The largest error relative to the largest entry. Sums of up to T*K products
# in float32 (epsilon 6e-8) leave a few hundred roundings.
FLOAT32 = 2e-5


def draw(
  seed,
  *,
  batch=2,
  time=37,
  heads=2,
  key_dim=8,
  value_dim=6,
  decay="scalar",
  strength=1.0,
  beta=1.0,
  twins=0.0,
):
  """Draws float64 arguments with unit keys; `twins` makes keys near equal."""
  rng = np.random.default_rng(seed)
  shape = (batch, time, heads)

  def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  k = rng.standard_normal((*shape, key_dim))
  if twins:
    k = k[:, :1] + twins * k
  k = unit(k)
  args = {
    "q": unit(rng.standard_normal((*shape, key_dim))),
    "k": k,
    "v": rng.standard_normal((*shape, value_dim)),
    "p": beta * k,
    "initial_state": rng.standard_normal((batch, heads, key_dim, value_dim)),
  }
  if decay == "scalar":
    args["g"] = -strength * rng.uniform(0, 1, shape)
  elif decay == "vector":
    args["g"] = -strength * rng.uniform(0, 1, (*shape, key_dim))
  return args


def run(operator, args, implementation=None, **options):
  args = dict(args)
  g = args.pop("g", None)
  p = args.pop("p")
  q, k, v = (args.pop(name) for name in "qkv")
  options |= args
  if operator == "linear_attention":
    return linear_attention(
      q, k, v, g, implementation=implementation, **options
    )
  return delta_rule(q, k, v, p, g, implementation=implementation, **options)


@functools.partial(jax.jit, static_argnums=0)
def run_compiled(operator, args):
  return run(operator, args)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def run_with_gradients(operator, args, implementation, chunk_size):
  """Returns outputs, final state and all gradients of a random projection."""

  def value(args):
    out, state = run(operator, args, implementation, chunk_size=chunk_size)
    wave = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    other = jnp.sin(jnp.arange(state.size)).reshape(state.shape)
    total = jnp.sum(out.astype(state.dtype) * wave) + jnp.sum(state * other)
    return total, (out, state)

  grads, outputs = jax.grad(value, has_aux=True)(args)
  if operator == "linear_attention":
    del grads["p"]
  return outputs, grads


def exact(operator, args):
  """The float64 recurrence by autodiff."""
  with jax.enable_x64(True):
    args = {name: jnp.asarray(x, jnp.float64) for name, x in args.items()}
    return jax.tree.map(
      np.asarray, run_with_gradients(operator, args, "reference", 16)
    )


def check(actual, expected, tolerance):
  paths = jax.tree_util.tree_flatten_with_path(expected)[0]
  for (path, want), got in zip(paths, jax.tree.leaves(actual), strict=True):
    error = np.max(np.abs(np.asarray(got, np.float64) - want))
    scale = np.max(np.abs(want)) + 1e-6
    assert np.isfinite(error), jax.tree_util.keystr(path)
    assert error <= tolerance * scale, (
      f"{jax.tree_util.keystr(path)}: {error / scale}"
    )


def single(args):
  return {name: jnp.asarray(x, jnp.float32) for name, x in args.items()}


SMALLEST = {"batch": 1, "time": 1, "heads": 1, "key_dim": 1, "value_dim": 1}
# All at one shape, a chunk size that does not divide it: one compilation each.
CASES = {
  "plain": ({}, FLOAT32),
  # The state is gone after one token, and exp(-G) would overflow in float32.
  "strong decay": ({"strength": 20.0}, FLOAT32),
  "twin keys": ({"twins": 1e-3, "strength": 0.01}, 1e-4),
  "twin keys, beta 2": ({"twins": 1e-3, "beta": 2.0, "strength": 0.01}, 1e-3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_chunked_equals_float64_recurrence(operator, decay, case):
  options, tolerance = CASES[case]
  args = draw(0, decay=decay, **options)
  actual = run_with_gradients(operator, single(args), "xla", 16)
  check(actual, exact(operator, args), tolerance)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_chunked_algebra_is_exact_in_float64(operator, decay):
  args = draw(1, decay=decay)
  with jax.enable_x64(True):
    wide = {name: jnp.asarray(x, jnp.float64) for name, x in args.items()}
    actual = run_with_gradients(operator, wide, "xla", 8)
  assert actual[0][1].dtype == np.float64
  check(actual, exact(operator, args), 1e-12)


@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
@hypothesis.example("delta_rule", "vector", SMALLEST, 16)
@hypothesis.example("linear_attention", "scalar", SMALLEST | {"time": 32}, 16)
@hypothesis.given(
  operator=st.sampled_from(OPERATORS),
  decay=st.sampled_from(DECAYS),
  sizes=st.fixed_dictionaries(
    {
      "batch": st.integers(1, 3),
      "time": st.integers(1, 70),
      "heads": st.integers(1, 3),
      "key_dim": st.integers(1, 17),
      "value_dim": st.integers(1, 17),
    }
  ),
  chunk_size=st.sampled_from((1, 4, 16, 64)),
)
def test_any_shape(operator, decay, sizes, chunk_size):
  args = draw(2, decay=decay, **sizes)
  actual = run_with_gradients(operator, single(args), "xla", chunk_size)
  check(actual, exact(operator, args), FLOAT32)


@pytest.mark.parametrize("decay", ["none", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_bfloat16_inputs_keep_a_float32_state(operator, decay):
  args = draw(3, decay=decay)
  low = {name: jnp.asarray(x, jnp.bfloat16) for name, x in args.items()}
  actual = run_with_gradients(operator, low, "xla", 16)
  (out, state), grads = actual
  assert out.dtype == jnp.bfloat16
  assert state.dtype == jnp.float32
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(grads))
  # The recurrence of the rounded inputs: only outputs are rounded again.
  rounded = {name: np.asarray(x, np.float64) for name, x in low.items()}
  check(actual, exact(operator, rounded), 2 * 2**-8)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_halves_with_passed_state_equal_the_whole(operator, decay):
  args = single(draw(4, decay=decay, time=50))
  whole, last = run_compiled(operator, args)
  timed = {"q", "k", "v", "p", "g"} & set(args)
  early = {n: x[:, :21] if n in timed else x for n, x in args.items()}
  late = {n: x[:, 21:] if n in timed else x for n, x in args.items()}
  first, state = run_compiled(operator, early)
  second, end = run_compiled(operator, late | {"initial_state": state})
  joined = np.concatenate([first, second], axis=1)
  np.testing.assert_allclose(joined, whole, atol=FLOAT32)
  np.testing.assert_allclose(end, last, atol=FLOAT32)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_steps_equal_the_whole(operator, decay):
  args = single(draw(5, decay=decay, time=19))
  whole, last = run_compiled(operator, args)
  state = args["initial_state"]

  @jax.jit
  def step(token, state):
    q, k, v, p = (token[name] for name in "qkvp")
    g = token.get("g")
    if operator == "delta_rule":
      return delta_step(q, k, v, p, g, state=state)
    return linear_step(q, k, v, g, state=state)

  for t in range(19):
    token = {n: x[:, t] for n, x in args.items() if n != "initial_state"}
    out, state = step(token, state)
    np.testing.assert_allclose(out, whole[:, t], atol=FLOAT32)
  np.testing.assert_allclose(state, last, atol=FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_future_tokens_change_nothing(operator):
  args = single(draw(6, decay="vector", time=37))
  out, _ = run_compiled(operator, args)
  changed = {
    n: x if n == "initial_state" else x.at[:, 23:].multiply(0.5)
    for n, x in args.items()
  }
  other, _ = run_compiled(operator, changed)
  np.testing.assert_array_equal(out[:, :23], other[:, :23])
  assert np.max(np.abs(out[:, 23:] - other[:, 23:])) > 1e-3


def test_gated_delta_rule_is_the_delta_rule_with_beta():
  args = single(draw(7))
  q, k, v, g = (args[name] for name in "qkvg")
  beta = jax.nn.sigmoid(q[..., 0])
  out, state = gated_delta_rule(q, k, v, beta, g, scale=1.0)
  rate = beta[..., None]
  want, want_state = delta_rule(
    q, k, rate * v, rate * k, g, scale=1.0, implementation="reference"
  )
  np.testing.assert_allclose(out, want, atol=FLOAT32)
  np.testing.assert_allclose(state, want_state, atol=FLOAT32)
  token = [x[:, 0] for x in (q, k, v, beta, g)]
  first, _ = gated_step(*token, state=jnp.zeros_like(state), scale=1.0)
  np.testing.assert_allclose(first, out[:, 0], atol=FLOAT32)
  with pytest.raises(ValueError, match="beta must have shape"):
    gated_delta_rule(q, k, v, q, g)


@pytest.mark.parametrize("decay", ["scalar", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_decay_of_zero_forgets_everything(operator, decay):
  args = single(draw(10, decay=decay))
  args["g"] = args["g"].at[:, 11].set(-jnp.inf)
  out, grads = run_with_gradients(operator, args, "xla", 16)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((out, grads)))
  changed = {
    n: x if n == "initial_state" else x[:, 11:] for n, x in args.items()
  }
  changed["initial_state"] = 0 * args["initial_state"]
  late, _ = run_compiled(operator, changed)
  np.testing.assert_allclose(out[0][:, 11:], late, atol=FLOAT32)


def test_scale_defaults_to_the_inverse_root_of_the_key_dim():
  args = single(draw(8))
  out, _ = run("linear_attention", args)
  unscaled, _ = run("linear_attention", args, scale=1.0)
  np.testing.assert_allclose(out, unscaled / np.sqrt(8), atol=FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_arguments_that_do_not_fit_are_refused(operator):
  args = single(draw(9))
  with pytest.raises(NotImplementedError, match="no TPU kernel"):
    run(operator, args, "pallas_tpu")
  with pytest.raises(ValueError, match="unknown implementation"):
    run(operator, args, "cuda")
  with pytest.raises(NotImplementedError, match="segment_ids"):
    run(operator, args, segment_ids=jnp.zeros((2, 37), int))
  with pytest.raises(ValueError, match="power of two"):
    run(operator, args, chunk_size=12)
  with pytest.raises(ValueError, match="k must have shape"):
    run(operator, args | {"k": args["k"][:, :5]})
  with pytest.raises(ValueError, match="g must be"):
    run(operator, args | {"g": args["g"][..., :1]})
  with pytest.raises(ValueError, match="initial_state must have shape"):
    run(operator, args | {"initial_state": args["initial_state"][:1]})
  with pytest.raises(TypeError, match="v must be floating"):
    run(operator, args | {"v": args["v"].astype(int)})
