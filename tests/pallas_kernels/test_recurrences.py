"""The recurrences in every form against their float64 token recurrence."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.delta_rule import (
  delta_rule,
  gated_delta_rule,
  gated_step,
)
from pallas_kernels.delta_rule import step as delta_step
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.dplr_delta_rule import step as dplr_step
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.linear_attention import step as linear_step
from pallas_kernels.shared import pallas_tpu
from pallas_kernels.shared.arguments import largest_sub_chunk

DECAYS = ("none", "scalar", "vector")
# Each operator, its step, and its tokens.
FORMS = {
  "linear_attention": (linear_attention, linear_step, "qkv"),
  "delta_rule": (delta_rule, delta_step, "qkvp"),
  "dplr_delta_rule": (dplr_delta_rule, dplr_step, "qkvpe"),
}
OPERATORS = tuple(FORMS)
# The largest error relative to the largest entry. Sums of up to T*K products
# in float32 (epsilon 6e-8) leave a few hundred roundings.
FLOAT32 = 2e-5
# Rounding an entry to bfloat16 errs by 2^-9 of it; a result is the sum of few
# chains of such roundings, and is rounded itself.
BFLOAT16 = 2**-6
# Sequences packed into rows of 37 tokens: one of a single token, one within a
# chunk, one over several.
SEGMENTS = np.repeat([[4, 1, 2, 1], [0, 1, 2, 9]], [3, 1, 14, 19], axis=1)


def draw(
  operator,
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

  def keys():
    x = rng.standard_normal((*shape, key_dim))
    return unit(x[:, :1] + twins * x if twins else x)

  k = keys()
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
  if operator == "linear_attention":
    del args["p"]
  if operator == "dplr_delta_rule":
    other = keys()
    args |= {"p": -other, "e": beta * other}
  return args


def run(operator, args, implementation=None, **options):
  function, _, names = FORMS[operator]
  args = dict(args)
  tokens = [args.pop(name) for name in names]
  g = args.pop("g", None)
  return function(*tokens, g, implementation=implementation, **args, **options)


@functools.partial(jax.jit, static_argnums=0)
def run_compiled(operator, args):
  return run(operator, args)


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4))
def run_with_gradients(operator, args, implementation, chunk, packed=False):
  """Returns outputs, final state and all gradients of a random projection."""
  segments = jnp.asarray(SEGMENTS) if packed else None

  def value(args):
    out, state = run(
      operator, args, implementation, chunk_size=chunk, segment_ids=segments
    )
    wave = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    other = jnp.sin(jnp.arange(state.size)).reshape(state.shape)
    total = jnp.sum(out.astype(state.dtype) * wave) + jnp.sum(state * other)
    return total, (out, state)

  grads, outputs = jax.grad(value, has_aux=True)(args)
  return outputs, grads


def exact(operator, args, packed=False):
  """The float64 recurrence by autodiff."""
  with jax.enable_x64(True):
    args = {name: jnp.asarray(x, jnp.float64) for name, x in args.items()}
    return jax.tree.map(
      np.asarray, run_with_gradients(operator, args, "reference", 16, packed)
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
  args = draw(operator, 0, decay=decay, **options)
  actual = run_with_gradients(operator, single(args), "xla", 16)
  check(actual, exact(operator, args), tolerance)


@pytest.mark.parametrize(
  "case",
  [
    case if case == "plain" else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
  ],
)
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_tpu_kernel_equals_float64_recurrence(operator, decay, case):
  options, tolerance = CASES[case]
  args = draw(operator, 0, decay=decay, **options)
  actual = run_with_gradients(operator, single(args), "pallas_tpu", 16)
  check(actual, exact(operator, args), tolerance)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_recurrence_of_packed_rows_is_that_of_each_sequence(
  operator, decay
):
  args = single(draw(operator, 11, decay=decay))
  ids = jnp.asarray(SEGMENTS)
  out, last = run(operator, args, "reference", segment_ids=ids)
  state = args.pop("initial_state")
  for begin, end in ((0, 3), (3, 4), (4, 18), (18, 37)):
    part = {name: x[:, begin:end] for name, x in args.items()}
    want, state = run(operator, part, "reference", initial_state=state)
    np.testing.assert_allclose(out[:, begin:end], want, atol=FLOAT32)
    final, state = state, jnp.zeros_like(state)
  np.testing.assert_allclose(last, final, atol=FLOAT32)


@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
@pytest.mark.parametrize("decay", ["none", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_packed_rows_equal_float64_recurrence(operator, decay, implementation):
  args = draw(operator, 12, decay=decay)
  actual = run_with_gradients(operator, single(args), implementation, 16, True)
  check(actual, exact(operator, args, True), FLOAT32)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_chunked_algebra_is_exact_in_float64(operator, decay):
  args = draw(operator, 1, decay=decay)
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
  args = draw(operator, 2, decay=decay, **sizes)
  actual = run_with_gradients(operator, single(args), "xla", chunk_size)
  check(actual, exact(operator, args), FLOAT32)


@pytest.mark.parametrize("decay", ["none", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_bfloat16_inputs_keep_a_float32_state(operator, decay):
  args = draw(operator, 3, decay=decay)
  low = {name: jnp.asarray(x, jnp.bfloat16) for name, x in args.items()}
  actual = run_with_gradients(operator, low, "xla", 16)
  (out, state), grads = actual
  assert out.dtype == jnp.bfloat16
  assert state.dtype == jnp.float32
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(grads))
  # The recurrence of the rounded inputs: only outputs are rounded again.
  rounded = {name: np.asarray(x, np.float64) for name, x in low.items()}
  check(actual, exact(operator, rounded), 2 * 2**-8)
  if decay == "vector":
    kernel = run_with_gradients(operator, low, "pallas_tpu", 16)
    check(kernel, exact(operator, rounded), BFLOAT16)


@pytest.mark.parametrize("operator", OPERATORS)
def test_tpu_kernel_under_the_simulator_of_tpu_memory(operator):
  """Its memory starts as NaN, and reads that race with writes are errors."""
  args = single(draw(operator, 13, decay="vector", time=20))
  names = FORMS[operator][2]
  tokens = tuple(args[name] for name in names)
  module = FORMS[operator][0].__globals__["OPERATOR"].chunk
  plan = pallas_tpu.Plan(
    heads=2,
    chunk=16,
    group=2,
    scale=8**-0.5,
    low=False,
    interpret=pltpu.InterpretParams(),
    name=operator,
  )
  out, last = pallas_tpu.recur(
    module,
    plan,
    tokens,
    args["g"],
    None,
    args["initial_state"],
    pallas_tpu.Costs(None, None),
  )
  want, state = run(operator, args, "reference")
  np.testing.assert_allclose(out, want, atol=FLOAT32)
  np.testing.assert_allclose(last, state, atol=FLOAT32)


@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
def test_a_key_head_serves_a_group_of_value_heads(implementation):
  args = single(draw("delta_rule", 14, heads=4))
  few = {n: args[n][:, :, ::2] for n in "qkp"}
  out, state = run("delta_rule", args | few, implementation)
  many = {n: jnp.repeat(x, 2, 2) for n, x in few.items()}
  want, want_state = run("delta_rule", args | many, "reference")
  np.testing.assert_allclose(out, want, atol=FLOAT32)
  np.testing.assert_allclose(state, want_state, atol=FLOAT32)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_halves_with_passed_state_equal_the_whole(operator, decay):
  args = single(draw(operator, 4, decay=decay, time=50))
  whole, last = run_compiled(operator, args)
  timed = set(args) - {"initial_state"}
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
  args = single(draw(operator, 5, decay=decay, time=19))
  whole, last = run_compiled(operator, args)
  state = args["initial_state"]

  @jax.jit
  def step(token, state):
    _, function, names = FORMS[operator]
    tokens = (token[name] for name in names)
    return function(*tokens, token.get("g"), state=state)

  for t in range(19):
    token = {n: x[:, t] for n, x in args.items() if n != "initial_state"}
    out, state = step(token, state)
    np.testing.assert_allclose(out, whole[:, t], atol=FLOAT32)
  np.testing.assert_allclose(state, last, atol=FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_future_tokens_change_nothing(operator):
  args = single(draw(operator, 6, decay="vector", time=37))
  out, _ = run_compiled(operator, args)
  changed = {
    n: x if n == "initial_state" else x.at[:, 23:].multiply(0.5)
    for n, x in args.items()
  }
  other, _ = run_compiled(operator, changed)
  np.testing.assert_array_equal(out[:, :23], other[:, :23])
  assert np.max(np.abs(out[:, 23:] - other[:, 23:])) > 1e-3


def test_gated_delta_rule_is_the_delta_rule_with_beta():
  args = single(draw("delta_rule", 7))
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


@pytest.mark.parametrize("decay", ["none", "vector"])
def test_the_kernel_that_takes_beta_equals_float64_recurrence(decay):
  args = draw("delta_rule", 15, decay=decay)
  del args["p"]
  args["beta"] = 1 / (1 + np.exp(-args["v"][..., 0]))

  @functools.partial(jax.jit, static_argnums=1)
  def gradients(args, implementation):
    def value(args):
      out, state = gated_delta_rule(**args, implementation=implementation)
      return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(state))

    return jax.value_and_grad(value)(args)

  actual = gradients(single(args), "pallas_tpu")
  with jax.enable_x64(True):
    wide = {name: jnp.asarray(x) for name, x in args.items()}
    expected = jax.tree.map(np.asarray, gradients(wide, "reference"))
  check(actual, expected, FLOAT32)


@pytest.mark.parametrize("decay", ["scalar", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_decay_of_zero_forgets_everything(operator, decay):
  args = single(draw(operator, 10, decay=decay))
  args["g"] = args["g"].at[:, 11].set(-jnp.inf)
  out, grads = run_with_gradients(operator, args, "xla", 16)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((out, grads)))
  changed = {
    n: x if n == "initial_state" else x[:, 11:] for n, x in args.items()
  }
  changed["initial_state"] = 0 * args["initial_state"]
  if operator == "dplr_delta_rule":  # p reads before the decay: not everything
    want = run(operator, args, "reference")[0][:, 11:]
  else:
    want, _ = run_compiled(operator, changed)
  np.testing.assert_allclose(out[0][:, 11:], want, atol=FLOAT32)


@pytest.mark.parametrize(
  ("operator", "implementation"),
  [("linear_attention", "pallas_tpu"), ("dplr_delta_rule", "xla")],
)
def test_a_schedule_changes_no_value(operator, implementation):
  sizes = {"batch": 1, "time": 32, "strength": 60.0}
  low = single(draw(operator, 10, decay="vector", **sizes))

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def gradients(sub_chunk, block_heads):
    def value(args):
      out, state = run(
        operator,
        args,
        implementation,
        chunk_size=16,
        sub_chunk=sub_chunk,
        block_heads=block_heads,
      )
      return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(state))

    return jax.value_and_grad(value)(low)

  usual = jax.tree.map(np.asarray, gradients(4, None))
  check(gradients(1, 1), usual, FLOAT32)


@pytest.mark.parametrize(
  ("operator", "implementation", "bound", "size"),
  [
    ("linear_attention", "pallas_tpu", -5.0, 16),
    ("delta_rule", "pallas_gpu", -5.0, 16),
    ("dplr_delta_rule", "xla", -0.6, 128),
  ],
)
def test_weak_decays_take_longer_sub_chunks(
  operator, implementation, bound, size
):
  """Runs of decays at the bound, with which factors get as large as e^40."""
  assert largest_sub_chunk(bound) == size
  args = single(draw(operator, 11, batch=1, time=48, decay="vector"))
  strong = jnp.arange(48)[:, None, None] // 8 % 3 == 1
  args["g"] = jnp.where(strong, 10 * bound, args["g"])

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(implementation):
    def value(args):
      options = {"chunk_size": 32, "min_log_decay": bound}
      out, state = run(operator, args, implementation, **options)
      return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(state))

    return jax.value_and_grad(value)(args)

  want = jax.tree.map(np.asarray, gradients("reference"))
  check(gradients(implementation), want, FLOAT32)


def test_as_many_heads_a_program_as_tpus_take():
  fit = pallas_tpu.fit_group
  assert fit(3, 8, [128]) == 2
  assert fit(1, 8, [64]) == 2  # one would be half a tile
  assert fit(100, 8, [64]) == 8
  assert fit(1, 2, [96]) == 2  # all heads always do


def test_scale_defaults_to_the_inverse_root_of_the_key_dim():
  args = single(draw("linear_attention", 8))
  out, _ = run("linear_attention", args)
  unscaled, _ = run("linear_attention", args, scale=1.0)
  np.testing.assert_allclose(out, unscaled / np.sqrt(8), atol=FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_arguments_that_do_not_fit_are_refused(operator):
  args = single(draw(operator, 9))
  with pytest.raises(ValueError, match="unknown implementation"):
    run(operator, args, "cuda")
  with pytest.raises(ValueError, match="target 'tpuv5' is not one of"):
    run(operator, args, target="tpuv5")
  with pytest.raises(ValueError, match="segment_ids must have shape"):
    run(operator, args, segment_ids=jnp.zeros((2, 36), int))
  with pytest.raises(ValueError, match="power of two"):
    run(operator, args, chunk_size=12)
  with pytest.raises(ValueError, match="sub_chunk must be a power of two up"):
    run(operator, args, sub_chunk=8)
  with pytest.raises(ValueError, match="min_log_decay must be in"):
    run(operator, args, min_log_decay=-31.0)
  with pytest.raises(ValueError, match="block_heads must be at least 1"):
    run(operator, args, block_heads=0)
  with pytest.raises(ValueError, match="k must have shape"):
    run(operator, args | {"k": args["k"][:, :5]})
  with pytest.raises(ValueError, match="g must be"):
    run(operator, args | {"g": args["g"][..., :1]})
  with pytest.raises(ValueError, match="initial_state must have shape"):
    run(operator, args | {"initial_state": args["initial_state"][:1]})
  with pytest.raises(TypeError, match="v must be floating"):
    run(operator, args | {"v": args["v"].astype(int)})
