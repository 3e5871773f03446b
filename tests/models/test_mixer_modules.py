"""Named mixers as modules: the contract of a token mixer."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import FAST_COMPILE
from flax import nnx

from asi_evolve_jax.models.mixers import MIXERS
from asi_evolve_jax.programs.traceable import MixerContext, Traceable

BATCH, TIME, DIM, CUT = 2, 11, 16, 6
CONFIG = types.SimpleNamespace(dim=DIM, heads=2, head_dim=8, chunk_size=4)
DEPTH = 0.5
# They differ from others by a number or by what others have: shapes will do.
LIKE_OTHERS = ("deltanet_negative", "gated_deltaproduct", "sliding_window")
# One of each core and of each way to look at the token before.
PACKED = ("deltaproduct", "mamba3", "rwkv7", "softmax")
# Running sums of decays and angles pass through packed sequences.
FLOAT32 = 1e-5


def compiled(function):
  return jax.jit(function, compiler_options=FAST_COMPILE)


def decoded(mixer, params, x):
  """Returns what `step` makes of x, one token after the other."""

  def step(state, token):
    y, state = mixer.step(params, token, jnp.float32(DEPTH), state)
    return state, y

  start = mixer.init_state(params, BATCH)
  return jax.lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1)


def inputs(dtype=jnp.float32):
  return jax.random.normal(jax.random.key(1), (BATCH, TIME, DIM), dtype)


@pytest.mark.parametrize("name", [n for n in MIXERS if n not in LIKE_OTHERS])
def test_mixer_learns_from_the_past_only_and_decodes(name):
  mixer = Traceable(MIXERS[name], CONFIG)

  @compiled
  def run(params, x):
    out, pull = jax.vjp(lambda p: mixer.apply(p, x, jnp.float32(DEPTH)), params)
    return out, pull(jnp.sin(out))[0]

  params, x = mixer.init(jax.random.key(0)), inputs()
  out, gradient = run(params, x)
  if mixer.recurrent:
    steps = compiled(functools.partial(decoded, mixer))(params, x)
    scale = np.abs(out).max()
    np.testing.assert_allclose(steps, out, atol=FLOAT32 * scale)
  assert mixer.recurrent == (name != "softmax")
  assert mixer.leftovers == ()
  assert out.shape == x.shape
  assert out.dtype == x.dtype
  assert np.isfinite(out).all()
  assert np.std(out) > 1e-2
  for path, leaf in jax.tree_util.tree_flatten_with_path(gradient)[0]:
    assert np.isfinite(leaf).all(), path
    assert np.any(leaf), path
  future = jnp.where(jnp.arange(TIME)[:, None] < CUT, x, x + 3.0)
  changed, _ = run(params, future)
  np.testing.assert_array_equal(changed[:, :CUT], out[:, :CUT])
  assert np.abs(changed[:, CUT:] - out[:, CUT:]).min() > 0
  # Equal tokens, zeros and strong ones, at the same compilation.
  for other in (0 * x, 0 * x + 1, 30 * x):
    result = run(params, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


@pytest.mark.parametrize("name", MIXERS)
def test_mixer_keeps_bfloat16(name):
  mixer = Traceable(MIXERS[name], CONFIG)
  assert mixer.others == ()
  assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(mixer.params))
  x = inputs(jnp.bfloat16)
  forms = [lambda params, x: mixer.apply(params, x, jnp.float32(DEPTH))]
  if mixer.recurrent:  # a scan: the state keeps its dtypes too
    forms.append(functools.partial(decoded, mixer))
  for form in forms:
    out = jax.eval_shape(form, mixer.params, x)
    assert out.dtype == jnp.bfloat16
    assert out.shape == x.shape


@pytest.mark.parametrize("name", ["hgrn2", "rwkv7"])
def test_bfloat16_is_near_float32(name):
  mixer = Traceable(MIXERS[name], CONFIG)
  params = mixer.init(jax.random.key(0))
  x = inputs(jnp.bfloat16)

  @compiled
  def both(x):
    wide = x.astype(jnp.float32)
    return [mixer.apply(params, y, jnp.float32(DEPTH)) for y in (x, wide)]

  narrow, wide = (np.asarray(y, np.float32) for y in both(x))
  # 8 bits of mantissa, a dozen roundings in a row that mostly average out.
  bound = 12 * 2.0**-8
  error = np.sqrt(np.mean((narrow - wide) ** 2))
  assert error < bound * np.sqrt(np.mean(wide**2))


@pytest.mark.parametrize("name", PACKED)
def test_packed_sequences_do_not_see_each_other(name):
  mixer = MIXERS[name](CONFIG, rngs=nnx.Rngs(0))
  ids = jnp.asarray([[1] * CUT + [2] * (TIME - CUT)] * BATCH)

  @compiled
  def run(x):
    return mixer(x, MixerContext(jnp.float32(DEPTH), ids))

  x = inputs()
  out = run(x)
  other = run(jnp.where(jnp.arange(TIME)[:, None] < CUT, x + 3.0, x))
  np.testing.assert_allclose(other[:, CUT:], out[:, CUT:], atol=FLOAT32)
  assert np.abs(other[:, :CUT] - out[:, :CUT]).max() > 0


def test_sliding_window_reaches_no_further():
  class Narrow(MIXERS["sliding_window"]):
    window = 3

  mixer = Narrow(CONFIG, rngs=nnx.Rngs(0))
  ctx = MixerContext(jnp.float32(DEPTH))
  run = compiled(lambda x: mixer(x, ctx))
  x = inputs()
  difference = np.abs(run(x) - run(x.at[:, CUT].add(1.0))).max((0, 2))
  np.testing.assert_array_equal(np.flatnonzero(difference), CUT + np.arange(3))


def test_every_mixer_names_its_paper():
  for name, mixer in MIXERS.items():
    front, back = mixer.paper.split(".")
    assert (len(front), len(back)) == (4, 5), name
    assert (front + back).isdigit(), name
