"""The language model around a mixer that is given as functions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asi_evolve_jax.models.language_model import LanguageModel, LMConfig
from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.short_conv import short_conv

CONFIG = LMConfig(vocab=32, dim=16, layers=3, heads=2, mlp_width=24)


class DeltaMixer:
  """A small Gated DeltaNet; its decay also depends on the layer's depth."""

  def init(self, key):
    keys = jax.random.split(key, 4)
    shapes = ((16, 48), (16, 4), (16, 16), (3, 48))
    qkv, gates, out, conv = (
      0.25 * jax.random.normal(k, shape)
      for k, shape in zip(keys, shapes, strict=True)
    )
    return {"qkv": qkv, "gates": gates, "out": out, "conv": {"weight": conv}}

  def apply(self, params, x, depth):
    batch, time, _ = x.shape
    cast = jax.tree.map(lambda w: w.astype(x.dtype), params)
    qkv, _ = short_conv(x @ cast["qkv"], cast["conv"]["weight"])
    q, k, v = jnp.split(qkv.reshape(batch, time, 2, 24), 3, axis=-1)
    k = k / jnp.sqrt(jnp.sum(k * k, axis=-1, keepdims=True) + 1e-6)
    beta, decay = jnp.split(x @ cast["gates"], 2, axis=-1)
    decay = jax.nn.softplus(decay.astype(jnp.float32)) * (1 - depth)
    out, _ = gated_delta_rule(q, k, v, jax.nn.sigmoid(beta), -decay)
    return out.reshape(x.shape) @ cast["out"]


class MeanMixer:
  """The mean of the past, projected: a mixer that compiles in no time."""

  def init(self, key):
    return {"w": 0.25 * jax.random.normal(key, (16, 16))}

  def apply(self, params, x, depth):
    count = jnp.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    mean = jnp.cumsum(x, axis=1) / count
    return mean @ params["w"].astype(x.dtype) * (1 - depth).astype(x.dtype)


@functools.cache
def build(mixer=None, **changes):
  mixer = mixer or MeanMixer()
  model = LanguageModel(dataclasses.replace(CONFIG, **changes), mixer)
  return model, model.init(jax.random.key(0))


def draw_tokens(seed=0, batch=2, time=21):
  tokens = np.random.default_rng(seed).integers(0, 32, (batch, time + 1))
  return tokens[:, :-1], tokens[:, 1:], np.ones((batch, time), np.float32)


def test_parameters_are_float32_stacked_over_layers():
  _, params = build()
  assert set(params) == {"ends", "blocks", "mixers"}
  for leaf in jax.tree.leaves(params):
    assert leaf.dtype == jnp.float32
  for leaf in jax.tree.leaves([params["blocks"], params["mixers"]]):
    assert leaf.shape[0] == CONFIG.layers
  gates = params["blocks"]["mlp"]["gate"]
  assert not np.array_equal(gates[0], gates[1])
  assert not np.array_equal(*params["mixers"]["w"][:2])


def test_initial_loss_is_that_of_logits_of_variance_one():
  model, params = build()
  loss = model.loss(params, *draw_tokens())
  # Normal logits of variance one cost half a nat more than uniform ones.
  assert abs(float(loss) - np.log(32) - 0.5) < 0.3


def test_weights_choose_the_targets_that_count():
  model, params = build()
  tokens, targets, weights = draw_tokens()
  logits = np.asarray(model.apply(params, tokens), np.float64)
  shifted = logits - logits.max(-1, keepdims=True)
  logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  picked = np.take_along_axis(logp, targets[..., None], -1)[..., 0]
  weights[:, 5:] = 0
  weights[1, 2] = 0.5
  loss = model.loss(params, tokens, targets, weights)
  want = -(picked * weights).sum() / weights.sum()
  np.testing.assert_allclose(loss, want, rtol=1e-5)
  assert float(model.loss(params, tokens, targets, 0 * weights)) == 0
  nats, hit = model.scores(params, tokens, targets)
  np.testing.assert_allclose(nats, -picked, rtol=1e-4)
  np.testing.assert_array_equal(hit, logits.argmax(-1) == targets)


def test_no_logit_sees_a_later_token():
  model, params = build(DeltaMixer())
  tokens, _, _ = draw_tokens(time=40)
  changed = tokens.copy()
  changed[:, 23:] = (changed[:, 23:] + 1) % 32
  apply = jax.jit(model.apply)
  before = np.asarray(apply(params, tokens))
  after = np.asarray(apply(params, changed))
  np.testing.assert_allclose(before[:, :23], after[:, :23], atol=1e-6)
  assert np.abs(before[:, 23] - after[:, 23]).max() > 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_scan_over_layers_equals_a_loop_in_float64(tied):
  mixer = MeanMixer()
  model, params = build(mixer, tie_embeddings=tied)
  tokens, _, _ = draw_tokens()
  wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  def norm(x, scale):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale

  h = norm(wide["ends"]["embedding"][tokens], 1.0)
  for i in range(CONFIG.layers):
    block, weights = jax.tree.map(
      lambda x, i=i: x[i], (wide["blocks"], wide["mixers"])
    )
    x = jnp.float32(norm(h, block["mixer_norm"]["scale"]))
    h = h + np.asarray(
      mixer.apply(weights, x, jnp.float32(i / CONFIG.layers)), np.float64
    )
    x = norm(h, block["mlp_norm"]["scale"])
    gate = x @ block["mlp"]["gate"]
    hidden = gate / (1 + np.exp(-gate)) * (x @ block["mlp"]["up"])
    h = h + hidden @ block["mlp"]["out"]
  table = wide["ends"]["embedding" if tied else "head"]
  want = norm(h, wide["ends"]["norm"]["scale"]) @ table.T
  got = model.apply(params, tokens)
  np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.slow
def test_bfloat16_activations_stay_near_float32():
  wide, params = build()
  low, _ = build(compute_dtype="bfloat16")
  batch = draw_tokens()
  loss, grads = jax.jit(jax.value_and_grad(low.loss))(params, *batch)
  logits = jax.eval_shape(low.apply, params, batch[0])
  assert logits.dtype == jnp.float32
  assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))
  # Logits are of order 0.1 here, so a rounding of 2^-8 moves them by 1e-3.
  np.testing.assert_allclose(loss, wide.loss(params, *batch), atol=5e-3)


def test_loss_falls_on_repeated_text():
  model, params = build()
  text = np.frombuffer(b"linear attention is a recurrence. " * 8, np.uint8) % 32
  tokens = np.stack([text[i : i + 65] for i in range(0, 64, 8)])
  batch = tokens[:, :-1], tokens[:, 1:], np.ones((8, 64), np.float32)
  optimizer = optax.adam(1e-2)

  @jax.jit
  def update(params, state):
    loss, grads = jax.value_and_grad(model.loss)(params, *batch)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, loss

  state, losses = optimizer.init(params), []
  for _ in range(20):
    params, state, loss = update(params, state)
    losses.append(float(loss))
  assert losses[-1] < 0.7 * losses[0]


def test_a_mixer_of_wrong_shape_is_refused():
  class Short(DeltaMixer):
    def apply(self, params, x, depth):
      return x[:, :-1]

  model = LanguageModel(CONFIG, Short())
  params = jax.eval_shape(model.init, jax.random.key(0))
  with pytest.raises(ValueError, match="mixer must return"):
    jax.eval_shape(model.apply, params, draw_tokens()[0])


def test_config_refuses_what_it_does_not_know():
  with pytest.raises(ValueError, match="compute_dtype"):
    dataclasses.replace(CONFIG, compute_dtype="float16")
  with pytest.raises(ValueError, match="remat"):
    dataclasses.replace(CONFIG, remat="layer")
  with pytest.raises(ValueError, match="layers must be"):
    dataclasses.replace(CONFIG, layers=0)


class Exported:
  """A mixer as the trainer sees it: two deserialised functions."""

  def __init__(self, mixer, batch, time, dim):
    float32 = jnp.float32
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(mixer.init, key)
    x = jax.ShapeDtypeStruct((batch, time, dim), float32)
    depth = jax.ShapeDtypeStruct((), float32)
    init = jax.export.export(jax.jit(mixer.init))(key)
    apply = jax.export.export(jax.jit(mixer.apply))(params, x, depth)
    self.init = jax.export.deserialize(init.serialize()).call
    self.apply = jax.export.deserialize(apply.serialize(vjp_order=2)).call


@pytest.mark.slow
def test_an_exported_mixer_in_recomputed_blocks_trains_like_the_mixer():
  mixer = DeltaMixer()
  config = dataclasses.replace(CONFIG, remat="block")
  batch = draw_tokens()
  model = LanguageModel(dataclasses.replace(CONFIG, remat="none"), mixer)
  copy = LanguageModel(config, Exported(mixer, 2, 21, 16))
  params = model.init(jax.random.key(1))
  for a, b in zip(
    jax.tree.leaves(params),
    jax.tree.leaves(copy.init(jax.random.key(1))),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  want = jax.jit(jax.value_and_grad(model.loss))(params, *batch)
  got = jax.jit(jax.value_and_grad(copy.loss))(params, *batch)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
