import dataclasses
import json

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from asi_evolve_jax.programs import (
  artifact,
  exported,
  fingerprint,
  header,
  stablehlo,
  traceable,
)


@dataclasses.dataclass(frozen=True)
class Config:
  dim: int = 16
  heads: int = 2
  head_dim: int = 8
  chunk_size: int = 4


SHAPE = dict(batch=2, time=8)

BASE = """
class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    self.query = nnx.Linear(config.dim, config.dim, rngs=rngs)
    self.value = nnx.Linear(config.dim, config.dim, rngs=rngs)

  def __call__(self, x, ctx):
    left = jax.nn.sigmoid(self.query(x))
    right = self.value(x)
    y = left * jnp.cumsum(right, axis=1)
    return y * (1.0 + ctx.depth)
"""


def build(source):
  space = {"jax": jax, "jnp": jnp, "nnx": nnx, "__name__": "candidate"}
  exec(source, space)
  return space["TokenMixer"]


def hash_of(source):
  payload = artifact.trace(build(source), Config(), **SHAPE)
  return artifact.read_header(payload).artifact_hash


@pytest.fixture(scope="module")
def payload():
  return artifact.trace(build(BASE), Config(), **SHAPE)


@pytest.fixture(scope="module")
def base_hash(payload):
  return artifact.read_header(payload).artifact_hash


def direct(params, x, depth):
  def dense(p):
    return x @ p["kernel"] + p["bias"]

  y = jax.nn.sigmoid(dense(params["query"])) * jnp.cumsum(
    dense(params["value"]), axis=1
  )
  return y * (1.0 + depth)


def test_loaded_mixer_equals_the_module(payload):
  mixer = artifact.load(payload)
  mixer_class = build(BASE)

  @jax.jit
  def both(key, x):
    module = mixer_class(Config(), rngs=nnx.Rngs(key))
    own = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    expected = module(x, traceable.MixerContext(jnp.float32(0.25)))
    params = mixer.init(key)
    return params, own, mixer.apply(params, x, 0.25), expected

  x = np.random.default_rng(1).standard_normal((2, 8, 16), np.float32)
  params, own, y, expected = both(jax.random.key(3), x)
  jax.tree.map(np.testing.assert_array_equal, params, own)
  assert jax.tree.map(lambda p: p.shape, params) == jax.tree.map(
    lambda p: p.shape, mixer.params
  )
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  assert mixer.report["mixer_parameters"] == 2 * (16 * 16 + 16)
  assert mixer.report["shape"] == [2, 8, 16]


@pytest.mark.parametrize("remat", [False, True])
def test_trains_inside_scan_and_checkpoint(payload, remat):
  mixer = artifact.load(payload)
  layers = 3
  depths = np.arange(layers, dtype=np.float32) / layers
  x = np.random.default_rng(1).standard_normal((2, 8, 16), np.float32)

  def loss(stacked, apply):
    def layer(h, xs):
      params, depth = xs
      return h + jnp.tanh(apply(params, h, depth)), None

    if remat:
      layer = jax.checkpoint(layer)
    h, _ = jax.lax.scan(layer, jnp.asarray(x), (stacked, depths))
    return jnp.mean(h**2)

  @jax.jit
  def both(key):
    stacked = jax.lax.map(mixer.init, jax.random.split(key, layers))
    step = jax.value_and_grad(loss)
    return step(stacked, mixer.apply), step(stacked, direct)

  (value, gradient), (expected, expected_gradient) = both(jax.random.key(0))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    gradient,
    expected_gradient,
  )


def test_bfloat16_keeps_master_parameters():
  payload = artifact.trace(
    build(BASE.replace("y * (1.0 + ctx.depth)", "y.astype(x.dtype)")),
    Config(),
    **SHAPE,
    dtype=jnp.bfloat16,
  )
  mixer = artifact.load(payload)
  x = jax.ShapeDtypeStruct((2, 8, 16), jnp.bfloat16)

  def gradient(params, x):
    return jax.grad(lambda p: mixer.apply(p, x, 0.0).astype(jnp.float32).sum())(
      params
    )

  for tree in (mixer.params, jax.eval_shape(gradient, mixer.params, x)):
    assert {str(p.dtype) for p in jax.tree.leaves(tree)} == {"float32"}
  y = jax.eval_shape(lambda p, x: mixer.apply(p, x, 0.0), mixer.params, x)
  assert y.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  "source",
  [
    BASE.replace("query", "w_a").replace("value", "w_b"),
    BASE.replace("left", "gate").replace("right", "content"),
    BASE.replace(
      "    left = jax.nn.sigmoid(self.query(x))\n    right = self.value(x)\n",
      "    right = self.value(x)\n    left = jax.nn.sigmoid(self.query(x))\n",
    ),
    BASE.replace("y = left", "unused = jnp.sin(x)\n    y = left"),
  ],
  ids=["parameters", "variables", "order", "dead code"],
)
def test_equal_computations_have_equal_hashes(source, base_hash):
  assert source != BASE
  assert hash_of(source) == base_hash


@pytest.mark.parametrize(
  "source",
  [
    BASE.replace("1.0 + ctx.depth", "2.0 + ctx.depth"),
    BASE.replace("right = self.value(x)", "right = jnp.tanh(self.value(x))"),
    BASE.replace(
      "y = left *", "y = jax.lax.stop_gradient(left) *"
    ),  # only the derivative differs
    BASE.replace(
      "self.query = nnx.Linear(config.dim, config.dim, rngs=rngs)",
      "self.query = nnx.Linear(config.dim, config.dim, rngs=rngs,"
      " kernel_init=jax.nn.initializers.zeros)",
    ),  # only the initialisation differs
    BASE.replace("left * jnp", "right * jnp"),
  ],
  ids=["constant", "operation", "derivative", "init", "operand"],
)
def test_different_computations_have_different_hashes(source, base_hash):
  assert source != BASE
  assert hash_of(source) != base_hash


def test_parameters_born_alike_are_not_confused():
  source = """
class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    self.a = nnx.Param(jnp.ones((config.dim,)))
    self.b = nnx.Param(jnp.ones((config.dim,)))

  def __call__(self, x, ctx):
    return x * self.a[...] + jnp.tanh(x) * self.b[...]
"""
  assert hash_of(source) != hash_of(source.replace("* self.b", "* self.a"))


@pytest.mark.parametrize(
  ("line", "name"),
  [
    ("self.count = nnx.Variable(jnp.zeros(3))", "count"),
    ("self.rngs = rngs", r"rngs\.default"),
    ("self.slopes = jnp.ones(3)", "slopes"),
    ("self.slopes = [jnp.ones(3)]", r"slopes\[0\]"),
  ],
)
def test_rejects_arrays_outside_of_params(line, name):
  source = BASE.replace("rngs=rngs)\n\n", f"rngs=rngs)\n    {line}\n\n")
  assert source != BASE
  with pytest.raises(
    artifact.ArtifactError, match=rf"must all be nnx\.Param.* {name}"
  ):
    artifact.trace(build(source), Config(), **SHAPE)


def test_numbers_and_functions_are_no_arrays():
  source = BASE.replace(
    "rngs=rngs)\n\n",
    "rngs=rngs)\n    self.slopes = (0.5, 0.25)\n    self.act = jax.nn.silu\n\n",
  )
  artifact.trace(build(source), Config(), **SHAPE)


def test_rejects_a_wrong_result():
  source = BASE.replace("return y * ", "return y[:, 1:] * ")
  with pytest.raises(artifact.ArtifactError, match=r"must return .*2, 8, 16"):
    artifact.trace(build(source), Config(), **SHAPE)


def test_host_callback_never_becomes_an_artifact():
  source = BASE.replace(
    "y = left", "jax.debug.print('{}', x[0, 0, 0])\n    y = left"
  )
  # jax.export refuses what it cannot promise to run elsewhere.
  with pytest.raises(Exception, match=r"callback|effect|export"):
    artifact.trace(build(source), Config(), **SHAPE)


def _repack(payload, change):
  told, sections = header.unpack(payload)
  fields = dataclasses.asdict(told)
  change(fields)
  text = json.dumps(fields).encode()
  body = b"".join(sections.values())
  return header._HEAD.pack(header._MAGIC, len(text)) + text + body


def _twice(fields):
  fields["parameters"] = [*fields["parameters"], fields["parameters"][-1]]


def _nest(fields):
  last = fields["parameters"][-1]
  more = {**last, "path": [*last["path"], "more"]}
  fields["parameters"] = [*fields["parameters"], more]


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda p: b"", "too short"),
    (lambda p: b"x" + p[1:], "no Artifact"),
    (lambda p: p[:-10], "should have"),
    (lambda p: p[:20] + b"\xff" + p[21:], "header is damaged"),
    (lambda p: p[:-4000] + bytes(4000), "damaged|hash|module"),
    (lambda p: _repack(p, lambda f: f.update(version=99)), "trace the Program"),
    (lambda p: _repack(p, lambda f: f.update(batch=9)), r"apply\.8 takes"),
    (lambda p: _repack(p, lambda f: f.update(times=[8, 9])), "has sections"),
    (lambda p: _repack(p, lambda f: f.update(platform="tpu")), "for tpu"),
    (lambda p: _repack(p, lambda f: f.update(artifact_hash="0")), "hash is 0"),
    (lambda p: _repack(p, lambda f: f.pop("dim")), "header is damaged"),
    (lambda p: _repack(p, lambda f: f.update(parameters=[])), "takes|returns"),
    (lambda p: _repack(p, _twice), "names a parameter twice"),
    (lambda p: _repack(p, _nest), "do not nest"),
  ],
)
def test_load_refuses_damage(payload, damage, message):
  with pytest.raises(artifact.ArtifactError, match=message):
    artifact.load(damage(payload))


def test_load_refuses_calls_off_the_list(payload, monkeypatch):
  source = BASE.replace(
    "y = left",
    "right = jax.lax.linalg.triangular_solve(x[:, :8, :8], right,"
    " left_side=True, lower=True)\n    y = left",
  )
  allowed = artifact.trace(build(source), Config(), **SHAPE)
  artifact.load(allowed)
  monkeypatch.setitem(exported.CUSTOM_CALLS, "cpu", frozenset({"Sharding"}))
  with pytest.raises(artifact.ArtifactError, match="lapack_strsm_ffi"):
    artifact.load(allowed)
  artifact.load(payload)


def test_fingerprint_sees_through_calls_and_loops():
  def text(f):
    x = jax.ShapeDtypeStruct((4,), jnp.float32)
    return export.export(jax.jit(f))(x).mlir_module()

  def loop(step):
    return lambda x: jax.lax.scan(lambda c, _: (step(c), None), x, length=3)[0]

  def name(f):
    return fingerprint.outputs(stablehlo.Module(text(f)), ["x"])

  helper = jax.jit(lambda c: jnp.sin(c) * 2)
  other = jax.jit(lambda c: jnp.sin(c) * 3)
  assert name(loop(helper)) == name(loop(jax.jit(lambda z: jnp.sin(z) * 2)))
  assert name(loop(helper)) != name(loop(other))
  with pytest.raises(ValueError, match="arguments"):
    fingerprint.outputs(stablehlo.Module(text(jnp.sin)), [])
  with pytest.raises(ValueError, match="not a StableHLO module"):
    stablehlo.Module("nonsense")
