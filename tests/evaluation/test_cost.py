import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from asi_evolve_jax.evaluation.cost import cost, growth


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


def test_scan_counts_its_length_and_its_carry():
  def f(x, w):
    return jax.lax.scan(lambda s, row: (s @ w + row, s), x[0], x)[0]

  c = cost(f, array(10, 8), array(8, 8))
  assert c.work["dot_general"] == 10 * 2 * 8 * 8
  assert c.carry == 8
  # XLA counts the body once: what this module is for.
  compiled = jax.jit(f).lower(array(10, 8), array(8, 8)).compile()
  assert compiled.cost_analysis()["flops"] < c.flops / 4


def test_nested_scans_multiply():
  def f(x):
    def outer(s, _):
      return jax.lax.fori_loop(0, 7, lambda i, s: s * 2.0, s), None

    return jax.lax.scan(outer, x, length=5)[0]

  assert cost(f, array(3)).work["mul"] == 5 * 7 * 3


def test_conditional_counts_its_dearest_branch():
  def f(p, x):
    return jax.lax.cond(p, lambda x: x @ x, lambda x: x + 1.0, x)

  assert cost(f, array(dtype=jnp.bool_), array(4, 4)).flops == 2 * 4**3


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
  c = cost(jax.grad(lambda x: f(x).sum()), array(4, 4))
  assert c.work["dot_general"] == 4 * 2 * 4**3


def test_pallas_body_counts_times_its_grid():
  def kernel(x_ref, o_ref):
    o_ref[...] = x_ref[...] @ x_ref[...]

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
    )(x)

  assert cost(f, array(6, 8, 8)).work["dot_general"] == 6 * 2 * 8**3


def test_unbounded_loops_are_named():
  def f(x):
    return jax.lax.while_loop(lambda s: s.sum() < 9, lambda s: s * 2, x)

  assert cost(f, array(3)).while_loops == 1
  assert cost(lambda x: x * 2, array(3)).while_loops == 0


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
