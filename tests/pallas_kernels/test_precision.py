"""Every product states its precision: on TPUs and GPUs the default rounds."""

import jax
import jax.numpy as jnp
import pytest
import recurrences_kit as recurrences
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from pallas_kernels.delta_rule import gated_delta_rule, gated_step
from pallas_kernels.shared.sequence import over_shards


def check_stated(function, *args):
  found = list(
    recurrences.equations(jax.make_jaxpr(function)(*args).jaxpr, "dot_general")
  )
  assert found
  for eqn in found:
    rounded = all(x.aval.dtype == jnp.bfloat16 for x in eqn.invars)
    exact = eqn.params["preferred_element_type"] == jnp.float32
    assert eqn.params["precision"] is not None or (rounded and exact), eqn


@pytest.mark.parametrize(
  ("implementation", "dtype"),
  [
    ("reference", jnp.float32),
    ("xla", jnp.bfloat16),
    ("pallas_tpu", jnp.float32),
    ("pallas_tpu", jnp.bfloat16),
    ("pallas_gpu", jnp.float32),
    ("pallas_gpu", jnp.bfloat16),
  ],
)
@pytest.mark.parametrize("operator", recurrences.OPERATORS)
def test_forms_and_their_gradients(operator, implementation, dtype):
  args = recurrences.draw(operator, 30, batch=1, decay="vector")
  args = {name: jnp.asarray(x, dtype) for name, x in args.items()}
  check_stated(
    lambda args: recurrences.run_with_gradients(
      operator, args, implementation, 16
    ),
    args,
  )


@pytest.mark.parametrize("operator", recurrences.OPERATORS)
def test_single_tokens(operator):
  function, step, names = recurrences.FORMS[operator]
  args = recurrences.single(
    recurrences.draw(operator, 31, time=1, decay="vector")
  )
  tokens = [args[name] for name in names]
  check_stated(function, *tokens, args["g"])
  state = args["initial_state"]
  check_stated(
    lambda *token: step(*token, state=state), *(x[:, 0] for x in tokens)
  )


def test_the_step_with_a_rate():
  token = jnp.ones((1, 2, 4))
  state = jnp.ones((1, 2, 4, 4))
  check_stated(lambda x: gated_step(x, x, x, x[..., 0], state=state), token)


def test_the_exchange_between_shards():
  mesh = AbstractMesh((2,), ("time",), axis_types=(AxisType.Auto,))
  time = P(None, "time")
  x = jnp.ones((1, 8, 2, 4))
  split = jax.shard_map(
    lambda x: over_shards(gated_delta_rule, "time")(x, x, x, x[..., 0]),
    mesh=mesh,
    in_specs=time,
    out_specs=(time, P()),
    check_vma=False,
  )
  check_stated(split, x)
