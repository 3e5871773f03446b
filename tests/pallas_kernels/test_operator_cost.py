"""Counted costs against the products that the operators really do."""

import functools

import jax
import jax.numpy as jnp
import pytest
from recurrences_kit import equations

from pallas_kernels.delta_rule import cost as delta_cost
from pallas_kernels.delta_rule import delta_rule, gated_delta_rule
from pallas_kernels.dplr_delta_rule import cost as dplr_cost
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import cost as linear_cost
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.short_conv import cost as conv_cost

OPERATORS = {
  "linear_attention": (linear_attention, linear_cost, lambda k, v: (k, k, v)),
  "delta_rule": (delta_rule, delta_cost, lambda k, v: (k, k, v, k)),
  "dplr_delta_rule": (
    dplr_delta_rule,
    dplr_cost,
    lambda k, v: (k, k, v, k, k),
  ),
}
SIZES = {"batch": 2, "heads": 3, "key_dim": 8, "value_dim": 6}


def dot_flops(jaxpr):
  """Counts 2 m n k of each product, scan bodies times their length.

  Of branches that which does most: the one for the strongest decays.
  """
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      contracted, _ = eqn.params["dimension_numbers"][0]
      depth = 1
      for axis in contracted:
        depth *= eqn.invars[0].aval.shape[axis]
      total += 2 * eqn.outvars[0].aval.size * depth
    branches = eqn.params.get("branches", ())
    total += max((dot_flops(one.jaxpr) for one in branches), default=0)
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", None)
      if inner is not None:
        total += eqn.params.get("length", 1) * dot_flops(inner)
  return total


@pytest.mark.parametrize(
  ("time", "chunk"), [(37, 16), (3, 16), (1, 16), (8, 2)]
)
@pytest.mark.parametrize("decay", ["none", "scalar", "vector"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_chunked_flops_are_those_of_the_products(operator, decay, time, chunk):
  batch, heads, key_dim, value_dim = SIZES.values()
  k = jnp.ones((batch, time, heads, key_dim))
  v = jnp.ones((batch, time, heads, value_dim))
  g = {"none": None, "scalar": k[..., 0], "vector": k}[decay]
  function, cost, tokens = OPERATORS[operator]
  trace = jax.make_jaxpr(
    lambda k, v, g: function(
      *tokens(k, v), g, chunk_size=chunk, implementation="xla"
    )
  )
  counted = cost.forward_cost(
    time=time, decay_kind=decay, chunk_size=chunk, **SIZES
  )
  assert counted.flops == dot_flops(trace(k, v, g).jaxpr)


def test_recurrent_flops_and_bytes_of_one_head():
  one = {"batch": 1, "time": 1, "heads": 1, "key_dim": 4, "value_dim": 3}
  cost = delta_cost.forward_cost(
    **one, decay_kind="scalar", convention="recurrent", itemsize=2
  )
  assert cost.flops == 12 * (6 + 1)
  assert cost.bytes == 2 * (3 * 4 + 2 * 3) + 4 * 1 + 2 * 4 * 12
  cost = linear_cost.forward_cost(**one, convention="recurrent")
  assert cost.flops == 12 * 4
  assert cost.bytes == 4 * (2 * 4 + 2 * 3) + 2 * 4 * 12
  cost = conv_cost.forward_cost(1, 2, 3, 4)
  assert cost.flops == 2 * 2 * 3 * 4
  assert cost.bytes == 4 * (2 * 6 + 12) + 2 * 4 * 9


@pytest.mark.parametrize("decay", ["none", "scalar", "vector"])
@pytest.mark.parametrize("operator", [*OPERATORS, "gated_delta_rule"])
def test_bytes_are_those_of_what_the_kernel_reads_and_writes(operator, decay):
  """Of the call itself: tokens in bfloat16, all else in float32."""
  batch, time, heads, dim = 1, 32, 2, 16
  token = jax.ShapeDtypeStruct((batch, time, heads, dim), jnp.bfloat16)
  rate = jax.ShapeDtypeStruct(token.shape[:3], jnp.float32)
  full = jax.ShapeDtypeStruct(token.shape, jnp.float32)
  g = {"none": (), "scalar": (rate,), "vector": (full,)}[decay]
  if operator == "gated_delta_rule":
    function, tokens = gated_delta_rule, (token, token, token, rate)
  else:
    function, tokens = OPERATORS[operator][0], OPERATORS[operator][2]
    tokens = tokens(token, token)
  trace = jax.make_jaxpr(
    functools.partial(function, chunk_size=16, implementation="pallas_tpu")
  )
  (call,) = equations(trace(*tokens, *g).jaxpr, "pallas_call")
  arrays = [x.aval for x in (*call.invars, *call.outvars)]
  moved = sum(x.size * x.dtype.itemsize for x in arrays)
  assert call.params["cost_estimate"].bytes_accessed == moved


def test_names_that_mean_nothing_are_refused():
  with pytest.raises(ValueError, match="convention"):
    linear_cost.forward_cost(time=4, convention="fast", **SIZES)
  with pytest.raises(ValueError, match="decay"):
    delta_cost.forward_cost(time=4, decay_kind="matrix", **SIZES)
