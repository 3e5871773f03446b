"""The recurrences in every form against their float64 token recurrence."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from recurrences_kit import (
  BFLOAT16,
  DECAYS,
  FLOAT32,
  FORMS,
  OPERATORS,
  check,
  draw,
  equations,
  exact,
  pairs,
  run,
  run_with_gradients,
  single,
  with_gradients,
)

from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.delta_rule.api import GATED
from pallas_kernels.shared import chunks, pallas_tpu
from pallas_kernels.shared.arguments import largest_sub_chunk

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


@pytest.mark.parametrize(("operator", "decay"), pairs())
def test_tpu_kernel_equals_float64_recurrence(operator, decay):
  check_tpu_kernel(operator, decay, "plain")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("operator", "decay", "case"),
  [
    *itertools.product(OPERATORS, ["scalar", "vector"], ["strong decay"]),
    *itertools.product(OPERATORS, DECAYS, ["twin keys"]),
    # Linear attention has no beta.
    *itertools.product(
      ["delta_rule", "dplr_delta_rule"], DECAYS, ["twin keys, beta 2"]
    ),
  ],
)
def test_tpu_kernel_in_hard_cases(operator, decay, case):
  check_tpu_kernel(operator, decay, case)


def check_tpu_kernel(operator, decay, case):
  options, tolerance = CASES[case]
  args = draw(operator, 0, decay=decay, **options)
  actual = run_with_gradients(operator, single(args), "pallas_tpu", 16)
  check(actual, exact(operator, args), tolerance)


@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
@pytest.mark.parametrize(("operator", "decay"), pairs("none", "vector"))
def test_packed_rows_equal_float64_recurrence(operator, decay, implementation):
  args = draw(operator, 12, decay=decay)
  actual = run_with_gradients(operator, single(args), implementation, 16, True)
  check(actual, exact(operator, args, True), FLOAT32)


@pytest.mark.parametrize(("operator", "decay"), pairs())
def test_chunked_algebra_is_exact_in_float64(operator, decay):
  args = draw(operator, 1, decay=decay)
  with jax.enable_x64(True):
    wide = {name: jnp.asarray(x, jnp.float64) for name, x in args.items()}
    actual = run_with_gradients(operator, wide, "xla", 8)
  assert actual[0][1].dtype == np.float64
  check(actual, exact(operator, args), 1e-12)


ANY_SHAPE = {
  "operator": st.sampled_from(OPERATORS),
  "decay": st.sampled_from(DECAYS),
  "sizes": st.fixed_dictionaries(
    {
      "batch": st.integers(1, 3),
      "time": st.integers(1, 70),
      "heads": st.integers(1, 3),
      "key_dim": st.integers(1, 17),
      "value_dim": st.integers(1, 17),
    }
  ),
  "chunk_size": st.sampled_from((1, 4, 16, 64)),
}


@pytest.mark.slow
@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
@hypothesis.example("delta_rule", "vector", SMALLEST, 16)
@hypothesis.example("linear_attention", "scalar", SMALLEST | {"time": 32}, 16)
@hypothesis.given(**ANY_SHAPE)
def test_any_shape(operator, decay, sizes, chunk_size):
  args = draw(operator, 2, decay=decay, **sizes)
  actual = run_with_gradients(operator, single(args), "xla", chunk_size)
  check(actual, exact(operator, args), FLOAT32)


@pytest.mark.slow
@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
@hypothesis.example("pallas_tpu", "delta_rule", "scalar", SMALLEST, 16)
@hypothesis.example("pallas_gpu", "dplr_delta_rule", "vector", SMALLEST, 16)
@hypothesis.given(
  implementation=st.sampled_from(("pallas_tpu", "pallas_gpu")), **ANY_SHAPE
)
def test_any_shape_in_kernels(
  implementation, operator, decay, sizes, chunk_size
):
  args = single(draw(operator, 2, decay=decay, **sizes))
  actual = run_with_gradients(operator, args, implementation, chunk_size)
  wide = {name: np.asarray(x, np.float64) for name, x in args.items()}
  check(actual, exact(operator, wide), FLOAT32)


@pytest.mark.parametrize(("operator", "decay"), pairs("none", "vector"))
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
  function, _, names = FORMS[operator]
  out, last = simulated(function.__globals__["OPERATOR"], args, names)
  want, state = run(operator, args, "reference")
  np.testing.assert_allclose(out, want, atol=FLOAT32)
  np.testing.assert_allclose(last, state, atol=FLOAT32)


@pytest.mark.slow
def test_backward_under_the_simulator_of_tpu_memory():
  args = single(draw("delta_rule", 13, batch=1, heads=1, time=20))
  del args["p"]
  args["beta"] = jax.nn.sigmoid(args["v"][..., 0])
  ids = jnp.asarray([[3] * 5 + [1] * 13 + [3] * 2])  # a border in each chunk
  got = with_gradients(
    lambda a: simulated(GATED, a, ("q", "k", "v", "beta"), ids), args
  )
  want = with_gradients(
    lambda a: gated_delta_rule(
      **a, segment_ids=ids, implementation="reference"
    ),
    args,
  )
  check(got, jax.tree.map(np.asarray, want), FLOAT32)


def simulated(operator, args, names, ids=None):
  """Runs the kernel of two chunks of an operator in the simulator."""
  heads, key_dim = args["q"].shape[2:]
  plan = pallas_tpu.Plan(
    heads=heads,
    chunk=16,
    group=heads,
    scale=key_dim**-0.5,
    low=False,
    interpret=pltpu.InterpretParams(),
    name=operator.name,
  )
  return pallas_tpu.recur(
    operator.chunk,
    plan,
    tuple(args[name] for name in names),
    args["g"],
    None if ids is None else chunks.numbered(ids),
    args["initial_state"],
    pallas_tpu.Costs(None, None),
  )


@pytest.mark.parametrize(
  ("decay", "case"),
  [
    ("none", "plain"),
    ("vector", "plain"),
    pytest.param("scalar", "twin keys, beta 2", marks=pytest.mark.slow),
  ],
)
def test_the_kernel_that_takes_beta_equals_float64_recurrence(decay, case):
  options, tolerance = CASES[case]
  args = draw("delta_rule", 15, decay=decay, **options)
  del args["p"]
  args["beta"] = 1 / (1 + np.exp(-args["v"][..., 0]))
  if "beta" in options:
    args["beta"] = np.full_like(args["beta"], options["beta"])

  @functools.partial(jax.jit, static_argnums=1)
  def gradients(args, implementation):
    return with_gradients(
      lambda a: gated_delta_rule(**a, implementation=implementation), args
    )

  actual = gradients(single(args), "pallas_tpu")
  with jax.enable_x64(True):
    wide = {name: jnp.asarray(x) for name, x in args.items()}
    expected = jax.tree.map(np.asarray, gradients(wide, "reference"))
  check(actual, expected, tolerance)


@pytest.mark.parametrize(
  ("operator", "implementation"),
  [("linear_attention", "pallas_tpu"), ("dplr_delta_rule", "xla")],
)
def test_a_schedule_changes_no_value(operator, implementation):
  sizes = {"batch": 1, "time": 32, "strength": 60.0}
  args = single(draw(operator, 10, decay="vector", **sizes))

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def gradients(sub_chunk, block_heads):
    options = {"sub_chunk": sub_chunk, "block_heads": block_heads}
    return with_gradients(
      lambda a: run(operator, a, implementation, chunk_size=16, **options),
      args,
    )

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
    options = {"chunk_size": 32, "min_log_decay": bound}
    return with_gradients(
      lambda a: run(operator, a, implementation, **options), args
    )

  want = jax.tree.map(np.asarray, gradients("reference"))
  check(gradients(implementation), want, FLOAT32)


def test_as_many_heads_a_program_as_tpus_take():
  fit = pallas_tpu.fit_group
  assert fit(3, 8, [128]) == 2
  assert fit(1, 8, [64]) == 2  # one would be half a tile
  assert fit(100, 8, [64]) == 8
  assert fit(1, 2, [96]) == 2  # all heads always do


@pytest.mark.parametrize(
  ("heads", "dim", "computed", "group"),
  [
    (25, 64, 26, 2),  # 25 of 64 are cut nowhere but after the last
    (7, 64, 7, 7),  # few enough to be one block
    (16, 64, 16, 8),
    (12, 96, 12, 4),
    (4, 128, 4, 4),
    (3, 2048, 3, 1),  # as narrow as blocks get
    (25, 100, 25, 25),  # a block of less would be of 32
  ],
)
def test_awkward_numbers_of_heads_leave_room_for_a_chunk(
  heads, dim, computed, group
):
  assert pallas_tpu.padded_heads(heads, [dim]) == computed
  assert pallas_tpu.default_group(computed, [dim]) == group


def test_chunks_are_as_long_as_vmem_has_room_for():
  assert pallas_tpu.default_chunk([64, 128]) == 128
  assert pallas_tpu.default_chunk([256]) == 128
  assert pallas_tpu.default_chunk([256], low=False) == 64
  assert pallas_tpu.default_chunk([128, 512]) == 64


@pytest.mark.parametrize(
  ("dtype", "chunk", "group"), [(jnp.bfloat16, 128, 2), (jnp.float32, 64, 1)]
)
def test_wide_heads_take_the_schedule_of_their_dtype(dtype, chunk, group):
  q = jax.ShapeDtypeStruct((1, 256, 2, 256), dtype)

  def forward(q):
    return run("linear_attention", dict.fromkeys("qkv", q), "pallas_tpu")

  (call,) = equations(jax.make_jaxpr(forward)(q).jaxpr, "pallas_call")
  assert call.params["grid_mapping"].grid == (1, 2 // group, 256 // chunk)


@pytest.mark.slow
def test_heads_that_are_added_change_nothing(monkeypatch):
  # With so little room three heads of 8 become two pairs.
  monkeypatch.setattr(pallas_tpu, "_WIDEST", 16)
  monkeypatch.setattr(pallas_tpu, "LANES", 16)
  sizes = {"batch": 1, "heads": 3, "time": 16, "value_dim": 8}
  args = single(draw("linear_attention", 19, **sizes))
  assert pallas_tpu.padded_heads(3, [8]) == 4
  got = run_with_gradients("linear_attention", args, "pallas_tpu", 16)
  want = run_with_gradients("linear_attention", args, "reference", 16)
  check(got, jax.tree.map(np.asarray, want), FLOAT32)


@pytest.mark.slow
def test_near_duplicate_keys_in_bfloat16():
  """What docs/kernels.md says of them: the kernels' worst case.

  With keys alike and beta 2 the values of neighbours alternate in sign, and
  their sums are up to the chunk's length smaller than they are: the roundings
  of values to 2^-9 are that much larger beside what is left. The decay's
  gradient is a difference of two such sums.
  """
  sizes = {"batch": 1, "heads": 1, "time": 64, "key_dim": 16, "value_dim": 8}
  options = {"twins": 1e-3, "beta": 2.0, "strength": 0.01}
  args = draw("delta_rule", 0, **sizes, **options)
  low = {name: jnp.asarray(x, jnp.bfloat16) for name, x in args.items()}
  rounded = {name: np.asarray(x, np.float64) for name, x in low.items()}
  want, dwant = exact("delta_rule", rounded)
  got, dgot = run_with_gradients("delta_rule", low, "pallas_tpu", 64)
  check({"g": dgot.pop("g")}, {"g": dwant.pop("g")}, 64 * 2**-8)
  check((got, dgot), (want, dwant), 64 * 2**-9)
