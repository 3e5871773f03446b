import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from stablehlo_of import stablehlo_of

from asi_evolve_jax.evaluation.cost import UnknownCost, growth
from asi_evolve_jax.evaluation.cost import cost as module_cost


def cost(f, *args):
  return module_cost(stablehlo_of(f, *args))


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def test_matrix_product():
  c = cost(lambda a, b: a @ b, array(4, 5), array(5, 6))
  assert c.flops == 2 * 4 * 5 * 6
  assert c.bytes == 4 * (20 + 30 + 24)
  assert c.work == {"dot_general": 240}


def test_batched_product_counts_every_batch():
  c = cost(
    lambda a, b: jnp.einsum("bhtk,bhsk->bhts", a, b),
    array(2, 3, 8, 5),
    array(2, 3, 8, 5),
  )
  assert c.flops == 2 * 2 * 3 * 8 * 8 * 5


def test_convolution():
  c = cost(
    lambda x, w: jax.lax.conv_general_dilated(
      x,
      w,
      (1,),
      [(3, 0)],
      dimension_numbers=("NWC", "WIO", "NWC"),
      feature_group_count=8,
    ),
    array(2, 16, 8),
    array(4, 1, 8),
  )
  assert c.flops == 2 * (2 * 16 * 8) * 4


def test_scan_counts_its_length():
  def f(x, w):
    return jax.lax.scan(lambda s, row: (s @ w + row, s), x[0], x)[0]

  c = cost(f, array(10, 8), array(8, 8))
  assert c.work["dot_general"] == 10 * 2 * 8 * 8
  # XLA counts the body once: what this module is for.
  compiled = jax.jit(f).lower(array(10, 8), array(8, 8)).compile()
  assert compiled.cost_analysis()["flops"] < c.flops / 4


def test_nested_scans_multiply():
  def f(x):
    def outer(s, _):
      return jax.lax.fori_loop(0, 7, lambda i, s: s * 2.0, s), None

    return jax.lax.scan(outer, x, length=5)[0]

  assert cost(f, array(3)).work["multiply"] == 5 * 7 * 3


@pytest.mark.parametrize(
  ("start", "trips", "cond", "body"),
  [
    (3, 4, lambda i: i < 7, lambda i: i + 1),
    (3, 5, lambda i: i <= 7, lambda i: 1 + i),
    (0, 3, lambda i: i < 7, lambda i: i + 3),
    (9, 5, lambda i: i > 0, lambda i: i - 2),
    (9, 5, lambda i: jnp.less(0, i), lambda i: i - 2),
    (0, 4, lambda i: i != 8, lambda i: i + 2),
    (8, 0, lambda i: i < 7, lambda i: i + 1),
  ],
)
def test_trips_follow_from_the_counter(start, trips, cond, body):
  def f(x):
    return jax.lax.while_loop(
      lambda c: cond(c[0]), lambda c: (body(c[0]), c[1] * 2.0), (start, x)
    )[1]

  work = cost(f, array(3, 5)).work
  assert work.get("multiply", 0) == trips * 15


@pytest.mark.parametrize(
  ("start", "cond", "body"),
  [
    (0, lambda i, x: x.sum() < 9, lambda i: i + 1),
    (0, lambda i, x: i < x[0].astype(int), lambda i: i + 1),
    (0, lambda i, x: (i < 9) | (x[0] > 0), lambda i: i + 1),
    (0, lambda i, x: i < 9, lambda i: i * 2),
    (0, lambda i, x: i < 9, lambda i: i - 1),
    (0, lambda i, x: i != 9, lambda i: i + 2),
    (0, lambda i, x: i == 0, lambda i: i + 0),
    (0, lambda i, x: i < 2**31 - 1, lambda i: i + 2),
  ],
  ids=[
    "data",
    "traced bound",
    "two conditions",
    "factor",
    "wrong way",
    "stepped over",
    "standing still",
    "wraps around",
  ],
)
def test_unbounded_loops_have_no_cost(start, cond, body):
  def f(x):
    return jax.lax.while_loop(
      lambda c: cond(*c), lambda c: (body(c[0]), c[1] * 2.0), (start, x)
    )[1]

  with pytest.raises(UnknownCost, match="unbounded loop"):
    cost(f, array(3))


def test_conditional_counts_its_dearest_branch():
  def f(p, x):
    return jax.lax.cond(p, lambda x: x @ x, lambda x: x + 1.0, x)

  work = cost(f, array(dtype=jnp.bool_), array(4, 4)).work
  assert work["dot_general"] == 2 * 4**3
  assert "add" not in work


def with_jvp(f):
  g = jax.custom_jvp(f)
  g.defjvps(lambda t, out, x: t @ x)
  return g


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, with_jvp])
def test_calls_are_looked_into(wrap):
  c = cost(wrap(lambda x: x @ x), array(4, 4))
  assert c.flops == 2 * 4**3


def test_custom_derivative_counts_the_function_then_the_rule():
  @jax.custom_vjp
  def f(x):
    return x @ x

  def forward(x):
    return f(x), x

  def backward(x, ct):
    return (ct @ x @ x @ x,)

  f.defvjp(forward, backward)
  assert cost(f, array(4, 4)).flops == 2 * 4**3
  c = cost(jax.value_and_grad(lambda x: f(x).sum()), array(4, 4))
  assert c.work["dot_general"] == 4 * 2 * 4**3


def on_blocks(kernel, **options):
  def f(x):
    return pl.pallas_call(
      kernel,
      out_shape=array(6, 8, 8),
      grid=(6,),
      in_specs=[pl.BlockSpec((None, 8, 8), lambda i: (i, 0, 0))],
      out_specs=pl.BlockSpec((None, 8, 8), lambda i: (i, 0, 0)),
      # A lie that must not be believed.
      cost_estimate=pl.CostEstimate(
        flops=1, bytes_accessed=1, transcendentals=0
      ),
      **options,
    )(x)

  return f


def test_an_interpreted_pallas_body_counts_times_its_grid():
  def kernel(x_ref, o_ref):
    o_ref[...] = x_ref[...] @ x_ref[...]

  f = on_blocks(kernel, interpret=True)
  assert cost(f, array(6, 8, 8)).work["dot_general"] == 6 * 2 * 8**3


def test_nobody_looks_into_a_compiled_kernel():
  def kernel(x_ref, o_ref):
    o_ref[...] = x_ref[...] * 2.0

  module = stablehlo_of(on_blocks(kernel), array(6, 8, 8), platform="tpu")
  assert module.custom_calls == {"tpu_custom_call"}
  with pytest.raises(UnknownCost, match="nobody can look into"):
    module_cost(module)


def test_a_cumulative_sum_is_linear_and_other_windows_are_not():
  assert cost(lambda x: jnp.cumsum(x, 0), array(64, 3)).flops == 64 * 3
  c = cost(
    lambda x: jax.lax.reduce_window(
      x, 0.0, jax.lax.add, (64, 1), (1, 1), [(32, 31), (0, 0)]
    ),
    array(64, 3),
  )
  assert c.flops == 64 * 64 * 3


def test_a_solver_and_a_sort():
  c = cost(jax.scipy.linalg.solve_triangular, array(8, 8), array(8, 8))
  assert c.work["custom_call"] == 8**3
  c = cost(lambda x: jnp.sort(x, axis=0), array(8, 4))
  assert c.work["sort"] >= 32 * 3


def test_operations_inside_a_composite_count():
  assert cost(jax.lax.erf, array(100)).flops > 10 * 100


def test_a_window_does_not_count_what_it_looks_into():
  def f(x):
    def step(s, i):
      return s + jax.lax.dynamic_slice_in_dim(x, i, 1)[0], None

    return jax.lax.scan(step, jnp.zeros(8), jnp.arange(x.shape[0]))[0]

  costs = [cost(f, array(t, 8)) for t in (64, 128, 256)]
  assert growth(*(c.bytes for c in costs)) == pytest.approx(2, rel=0.02)


def test_growth_tells_orders_apart():
  def linear(x):
    return jnp.cumsum(x @ jnp.ones((8, 8)), 0)

  def hidden(x):  # every step reads everything
    return jax.lax.scan(lambda s, r: (s, (x @ r).sum()), 0.0, x)[1]

  def ratio(f):
    flops = [cost(f, array(t, 8)).flops for t in (64, 128, 256)]
    return growth(*flops)

  assert ratio(linear) == pytest.approx(2)
  assert ratio(hidden) == pytest.approx(4, rel=0.1)
  assert growth(5, 5, 9) == float("inf")
