"""The GPU kernels: right in the interpreter, and lowered for CUDA without one.

Whether they run on a GPU, these tests do not say.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recurrences_kit as recurrences

from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.shared import pallas_gpu

DECAYS = recurrences.DECAYS
OPERATORS = recurrences.OPERATORS


def check(operator, args, tolerance, packed=False):
  """Compares with the float64 recurrence: outputs and all gradients."""
  dtype = jnp.float32 if tolerance < 1e-2 else jnp.bfloat16
  args = {name: jnp.asarray(x, dtype) for name, x in args.items()}
  actual = recurrences.run_with_gradients(
    operator, args, "pallas_gpu", 16, packed
  )
  rounded = {name: np.asarray(x, np.float64) for name, x in args.items()}
  want = recurrences.exact(operator, rounded, packed)
  recurrences.check(actual, want, tolerance)


@pytest.mark.parametrize(("operator", "decay"), recurrences.pairs())
def test_kernel_equals_float64_recurrence(operator, decay):
  # Keys nearly alike, and decays so strong that exp(-G) would overflow.
  args = recurrences.draw(
    operator, 20, batch=1, heads=1, decay=decay, twins=0.1, strength=8.0
  )
  check(operator, args, recurrences.FLOAT32)


def test_near_duplicate_keys_at_beta_2():
  """As tests of the other forms have them: an inverse by powers loses it."""
  options = {"twins": 1e-3, "beta": 2.0, "strength": 0.01}
  args = recurrences.draw("delta_rule", 0, batch=1, heads=1, **options)
  check("delta_rule", args, 1e-3)


@pytest.mark.slow
def test_kernel_sees_the_sequences_of_packed_rows():
  args = recurrences.draw("dplr_delta_rule", 21, decay="vector")
  check("dplr_delta_rule", args, recurrences.FLOAT32, packed=True)


@pytest.mark.slow
def test_a_rate_a_head_reaches_the_kernel():
  args = recurrences.single(recurrences.draw("delta_rule", 24, time=20))
  q, k, v, g = (args[name] for name in "qkvg")
  beta = jax.nn.sigmoid(q[..., 0])

  @functools.partial(jax.jit, static_argnums=1)
  def gradients(beta, implementation):
    return recurrences.with_gradients(
      lambda beta: gated_delta_rule(
        q, k, v, beta, g, implementation=implementation
      ),
      beta,
    )

  want = jax.tree.map(np.asarray, gradients(beta, "reference"))
  recurrences.check(gradients(beta, "pallas_gpu"), want, recurrences.FLOAT32)


@pytest.mark.slow
def test_values_in_blocks_add_up_in_bfloat16(monkeypatch):
  monkeypatch.setattr(pallas_gpu, "_VALUES", 16)
  args = recurrences.draw(
    "delta_rule", 22, batch=1, heads=1, value_dim=40, decay="vector"
  )
  check("delta_rule", args, recurrences.BFLOAT16)


# The last is the operator that Gated DeltaNet and KDA call: q, k, v and beta.
CUDA_CASES = [
  *itertools.product(
    [*OPERATORS, "gated_delta_rule"],
    DECAYS,
    [64, 128, 256],
    [jnp.bfloat16],
    [False],
  ),
  ("gated_delta_rule", "scalar", 128, jnp.bfloat16, True),
  ("gated_delta_rule", "vector", 128, jnp.float32, False),
]


@pytest.mark.parametrize(
  ("operator", "decay", "dim", "dtype", "packed"), CUDA_CASES
)
def test_forward_and_backward_lower_for_cuda(
  operator, decay, dim, dtype, packed
):
  shape = (1, 128, 2)
  token = jax.ShapeDtypeStruct((*shape, dim), dtype)
  rate = jax.ShapeDtypeStruct(shape, jnp.float32)
  if operator == "gated_delta_rule":
    function, args = gated_delta_rule, [token, token, token, rate]
  else:
    function, _, names = recurrences.FORMS[operator]
    args = [token] * len(names)
  if decay != "none":
    full = jax.ShapeDtypeStruct((*shape, dim), jnp.float32)
    args.append(full if decay == "vector" else rate)
  ids = jax.ShapeDtypeStruct(shape[:2], jnp.int32) if packed else None

  def value(args, ids):
    out, state = function(
      *args, segment_ids=ids, implementation="pallas_gpu", target="gpu"
    )
    return jnp.sum(out.astype(jnp.float32)) + jnp.sum(state)

  # Newer versions of JAX ask which GPU it is.
  device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh):
    traced = jax.jit(jax.grad(value)).trace(args, ids)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert "triton" in text
  for name in ("solve", "forward", "backward"):
    assert f"{operator}_{name}" in text
