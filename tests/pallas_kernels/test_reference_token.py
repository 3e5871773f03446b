"""One reference token a chunk, where the decays of a batch are weak enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences_kit import (
  FLOAT32,
  OPERATORS,
  check,
  draw,
  equations,
  exact,
  run,
  run_with_gradients,
  single,
)


def conds(jaxpr):
  """Counts the `cond`s; under vmap those that became selects not."""
  return len(list(equations(jaxpr, "cond")))


# Half of a chunk of 16 decays by e^-59 or by e^-61: one reference for all
# tokens makes factors of e^59, and would make products that are no numbers
# were it used beyond e^88.
@pytest.mark.parametrize("half", [-59.0, -61.0, -200.0])
@pytest.mark.parametrize("operator", OPERATORS)
def test_either_way_is_exact(operator, half):
  args = draw(operator, 0, decay="vector")
  args["g"] = np.full_like(args["g"], half / 8)
  args["g"][0, 20:24] = -1e-3
  actual = run_with_gradients(operator, single(args), "xla", 16)
  check(actual, exact(operator, args), FLOAT32)


def test_the_choice_is_made_where_it_is_open():
  args = single(draw("delta_rule", 1, decay="vector"))

  def count(**options):
    form = lambda args: run("delta_rule", args, "xla", **options)  # noqa: E731
    return conds(jax.make_jaxpr(form)(args).jaxpr)

  assert count() == 1
  assert count(sub_chunk=4) == 0  # a schedule is what it says
  assert count(min_log_decay=-5.0) == 0  # and a promise needs no look
  args["g"] = args["g"][..., 0]
  assert count() == 0


@pytest.mark.slow
def test_a_vmap_chooses_once_for_all():
  args = single(draw("linear_attention", 2, batch=2, decay="vector", time=16))
  args["g"] = args["g"].at[1].multiply(60.0)  # strong in one of them alone

  def one(args):
    args = jax.tree.map(lambda x: x[None], args)
    return run("linear_attention", args, "xla")[0][0]

  both = jax.vmap(one)
  assert conds(jax.make_jaxpr(both)(args).jaxpr) == 1
  want = run("linear_attention", args, "reference")[0]
  np.testing.assert_allclose(both(args), want, atol=FLOAT32)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_choice_lowers_anywhere(platform):
  args = single(draw("delta_rule", 3, decay="vector"))
  grad = jax.grad(lambda args: jnp.sum(run("delta_rule", args, "xla")[0]))
  lowered = jax.jit(grad).trace(args).lower(lowering_platforms=(platform,))
  # Forward and backward each choose.
  assert lowered.as_text().count("stablehlo.case") == 2
