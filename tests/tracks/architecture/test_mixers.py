"""Rendered mixers as modules: shapes, dtypes, gradients, causality."""

import functools
import random
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoding import decoded
from flax import nnx

from asi_evolve_jax.tracks.architecture.baselines import baselines
from asi_evolve_jax.tracks.architecture.space import ArchitectureSpace

SPACE = ArchitectureSpace()
BATCH, TIME, DIM, CUT = 2, 20, 32, 11
# These tests compile for seconds and run for milliseconds.
FAST_COMPILE = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}
CONFIG = types.SimpleNamespace(dim=DIM, heads=2, head_dim=16, chunk_size=8)


# Much of what one draw may miss: every path, statistics, floors, tied keys.
MANY = SPACE.genome(
  update="delta",
  decay="vector",
  decay_param="floored",
  key_tie="forget",
  token_shift="lerp",
  rotation="data",
  expand_v=2,
  write_gate="channel",
  erase="channel",
  beta="negative",
  gate_bias="deep",
  read="corrected",
  second_path="slow",
  local_path="multi",
  fusion="softmax_temperature",
  gate_input="statistics",
  gate_floor=0.05,
  path_norm="rms",
  out_norm="full",
  out_scale="depth",
)


def sources():
  names = ("softmax", "retnet", "gated_deltanet")
  found = {b.name: b.source for b in baselines() if b.name in names}
  rng = random.Random(7)
  for i in range(2):
    found[f"random-{i}"] = SPACE.render(SPACE.sample(rng))
  return {**found, "many": SPACE.render(MANY)}


SOURCES = sources()


def build(source, seed=0):
  """Returns (graph definition, parameters) of a Program's mixer."""
  space = {}
  exec(compile(source, "program.py", "exec"), space)
  mixer = space["TokenMixer"](CONFIG, rngs=nnx.Rngs(params=seed))
  graph, params, rest = nnx.split(mixer, nnx.Param, ...)
  assert not jax.tree.leaves(rest)
  return graph, params


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_mixer_learns_from_the_past_only(name):
  graph, params = build(SOURCES[name])
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  # The MLP gives way to the mixer: it must leave it something.
  assert count < 12 * DIM * DIM

  @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
  def run(params, x, depth):
    def mix(params, x):
      ctx = types.SimpleNamespace(depth=depth, segment_ids=None)
      return nnx.merge(graph, params)(x, ctx)

    out, pull = jax.vjp(mix, params, x)
    # Only the past is asked for: nothing after it may have a gradient.
    past = jnp.where(jnp.arange(TIME)[:, None] < CUT, jnp.sin(out), 0.0)
    gradient, gradient_x = pull(past.astype(out.dtype))
    return out, gradient, gradient_x

  x = jax.random.normal(jax.random.key(1), (BATCH, TIME, DIM), jnp.float32)
  depth = jnp.float32(0.75)
  out, gradient, gradient_x = run(params, x, depth)
  assert out.shape == x.shape
  assert out.dtype == x.dtype
  assert np.isfinite(out).all()
  assert np.std(out) > 1e-3
  for leaf in jax.tree.leaves(gradient):
    assert np.isfinite(leaf).all()
  moved = [bool(np.any(leaf)) for leaf in jax.tree.leaves(gradient)]
  assert sum(moved) >= len(moved) - 1
  # The past has a gradient, the future none, and changing it changes nothing.
  assert np.abs(gradient_x[:, :CUT]).max() > 1e-3
  assert np.abs(gradient_x[:, CUT:]).max() == 0
  future = jnp.where(jnp.arange(TIME)[:, None] < CUT, x, x + 3.0)
  changed, _, _ = run(params, future, depth)
  np.testing.assert_allclose(
    changed[:, :CUT], out[:, :CUT], atol=1e-5 * np.abs(out).max()
  )
  assert np.abs(changed[:, CUT:] - out[:, CUT:]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated_deltanet"])
def test_mixer_keeps_bfloat16_and_agrees_with_float32(name):
  graph, params = build(SOURCES[name])

  @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
  def mix(x):
    ctx = types.SimpleNamespace(depth=jnp.float32(0.25), segment_ids=None)
    return nnx.merge(graph, params)(x, ctx)

  x = jax.random.normal(jax.random.key(2), (BATCH, TIME, DIM), jnp.bfloat16)
  narrow = mix(x)
  assert narrow.dtype == jnp.bfloat16
  wide = np.asarray(mix(x.astype(jnp.float32)))
  error = np.asarray(narrow, np.float32) - wide
  # 8 bits of mantissa, a dozen roundings in a row that mostly average out.
  bound = 12 * 2.0**-8
  assert np.sqrt(np.mean(error**2)) < bound * np.sqrt(np.mean(wide**2))


@pytest.mark.slow
def test_steps_make_the_whole():
  graph, params = build(SOURCES["many"])

  @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
  def both(x):
    ctx = types.SimpleNamespace(depth=jnp.float32(0.25), segment_ids=None)
    mixer = nnx.merge(graph, params)
    return mixer(x, ctx), decoded(mixer, x, ctx)

  whole, steps = both(jax.random.normal(jax.random.key(3), (BATCH, TIME, DIM)))
  np.testing.assert_allclose(steps, whole, atol=3e-5 * np.abs(whole).max())


def test_same_seed_same_parameters():
  one, two, other = (
    jax.tree.leaves(build(SOURCES["gated_deltanet"], seed)[1])
    for seed in (3, 3, 4)
  )
  assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
  assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
