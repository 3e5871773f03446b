"""The recurrences of all operators, drawn, run and compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.delta_rule import delta_rule
from pallas_kernels.delta_rule import step as delta_step
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.dplr_delta_rule import step as dplr_step
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.linear_attention import step as linear_step

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


def pairs(*decays):
  """Returns cases of each operator with each kind of decay.

  The delta rule with a decay a channel runs nearly all the code there is; the
  others are slow tests, as they are as many compilations.
  """
  return [
    (operator, decay)
    if (operator, decay) == ("delta_rule", "vector")
    else pytest.param(operator, decay, marks=pytest.mark.slow)
    for operator in OPERATORS
    for decay in decays or DECAYS
  ]


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


def with_gradients(function, args):
  """Returns what `function(args)` does, and gradients of a projection of it.

  Args:
    function: args to (output, final state).
    args: arrays by name.
  """

  def value(args):
    out, state = function(args)
    wave = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    other = jnp.sin(jnp.arange(state.size)).reshape(state.shape)
    total = jnp.sum(out.astype(state.dtype) * wave) + jnp.sum(state * other)
    return total, (out, state)

  grads, outputs = jax.grad(value, has_aux=True)(args)
  return outputs, grads


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4))
def run_with_gradients(operator, args, implementation, chunk, packed=False):
  segments = jnp.asarray(SEGMENTS) if packed else None
  options = {"chunk_size": chunk, "segment_ids": segments}
  return with_gradients(
    lambda args: run(operator, args, implementation, **options), args
  )


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


def equations(jaxpr, primitive):
  """Yields a primitive's equations in a jaxpr and in those inside it."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == primitive:
      yield eqn
    for value in jax.tree.leaves(list(eqn.params.values())):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from equations(inner, primitive)
