"""Published mixers of the space compute the recurrences of their papers.

Each rendered Program, at parameters moved off their start, whole and step by
step, against its parameterisation in `models.mixers` token by token.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoding import decoded
from flax import nnx

from asi_evolve_jax.models.mixers import additive, delta, dplr, gates
from asi_evolve_jax.tracks.architecture.published import PUBLISHED
from asi_evolve_jax.tracks.architecture.space import ArchitectureSpace
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.short_conv import short_conv

SPACE = ArchitectureSpace()
TIME, DIM, HEADS, WIDTH, DEPTH = 13, 16, 2, 8, 0.25
CONFIG = types.SimpleNamespace(
  dim=DIM, heads=HEADS, head_dim=WIDTH, chunk_size=4
)
FAST_COMPILE = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}
silu, sigmoid, softplus = jax.nn.silu, jax.nn.sigmoid, jax.nn.softplus
TOKENS = {"implementation": "reference"}


def split(y):
  return y.reshape(*y.shape[:2], -1, WIDTH)


def convolved(p, name, x):
  return split(short_conv(x @ p[f"w_{name}"], p[f"taps_{name}"])[0])


def decay(p, z):
  """The gate of Mamba-2: -e^A softplus(z)."""
  return -jnp.exp(p["log_a"]) * softplus(z + p["decay_bias"])


def low_rank(p, name, x):
  return split(x @ p[f"{name}_in"] @ p[f"{name}_out"])


def linear(p, x, q, k, v):
  return additive.linear(q, k, v, **TOKENS)


def retnet(p, x, q, k, v):
  return additive.retention(q, k, v, **TOKENS)


def gla(p, x, q, k, v):
  z = low_rank(p, "decay", x) + p["decay_bias"]
  return additive.gla(q, k, v, z, **TOKENS)


def hgrn2(p, x, q, k, v):
  floor = 0.01 + 0.9 * DEPTH
  z = split(x @ p["w_decay"]) + p["decay_bias"]
  forget = floor + (1 - floor) * sigmoid(z)
  out, state = additive.hgrn2(silu(q), forget, v, **TOKENS)
  return out * WIDTH**-0.5, state  # which the norm takes out, but for epsilon


def mamba2(p, x, q, k, v):
  dt = softplus(x @ p["w_decay"] + p["decay_bias"])
  # The space scales the memory by K^-0.5 and weighs both paths.
  memory = p["mix"][:, 0] * WIDTH**-0.5
  out, state = additive.mamba2(
    silu(q),
    silu(k),
    v,
    dt,
    jnp.exp(p["log_a"]),
    p["mix"][:, 1] / memory,
    **TOKENS,
  )
  return out * memory[:, None], state


def deltanet(p, x, q, k, v, g=None):
  beta = sigmoid(x @ p["w_write"])
  return delta.deltanet(silu(q), silu(k), v, beta, g, **TOKENS)


def gated_deltanet(p, x, q, k, v):
  return deltanet(p, x, q, k, v, decay(p, x @ p["w_decay"]))


def kda(p, x, q, k, v):
  return deltanet(p, x, q, k, v, decay(p, low_rank(p, "decay", x)))


def comba(p, x, q, k, v):
  return dplr.comba(
    silu(q),
    silu(k),
    v,
    sigmoid(x @ p["w_write"]),
    decay(p, x @ p["w_decay"]),
    sigmoid(p["feedback"]),
    p["correction"][:, 0],
    **TOKENS,
  )


def removed_apart(p, x, q, k, v):
  """S <- diag(a) S - kappa (S^T (rate kappa))^T + k v^T."""
  kappa = gates.unit(split(x @ p["w_remove"]))
  rate = sigmoid(low_rank(p, "erase", x))
  g = -5 * sigmoid(low_rank(p, "decay", x) + p["decay_bias"])
  q, k = gates.unit(silu(q)), gates.unit(silu(k))
  return dplr_delta_rule(q, k, v, rate * kappa, -kappa, g, **TOKENS)


removed_apart.__name__ = "dplr"
RECURRENCES = (
  linear,
  retnet,
  gla,
  hgrn2,
  mamba2,
  deltanet,
  gated_deltanet,
  kda,
  comba,
  removed_apart,
)


def normed(genes, o):
  """The norm of the output: of all heads, of each, or of each and centred."""
  if genes.get("out_norm") == "full":
    o = o.reshape(*o.shape[:2], 1, -1)
  if genes.get("out_norm") == "layer":
    o = o - o.mean(-1, keepdims=True)
  o = o * jax.lax.rsqrt(jnp.mean(o * o, axis=-1, keepdims=True) + 1e-6)
  return o.reshape(*o.shape[:2], -1)


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=lambda f: f.__name__)
def test_it_is_the_recurrence_of_its_paper(recurrence):
  genes = PUBLISHED[recurrence.__name__].genes
  space = {}
  exec(SPACE.render(SPACE.genome(**genes)), space)
  mixer = space["TokenMixer"](CONFIG, rngs=nnx.Rngs(0))
  graph, start = nnx.split(mixer, nnx.Param)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda a: a + jnp.asarray(0.1 * rng.standard_normal(a.shape), a.dtype),
    start,
  )
  x = jnp.asarray(rng.standard_normal((2, TIME, DIM)), jnp.float32)

  @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
  def both(params, x):
    ctx = types.SimpleNamespace(depth=jnp.float32(DEPTH), segment_ids=None)
    mixer = nnx.merge(graph, params)
    got = mixer(x, ctx), decoded(mixer, x, ctx)
    p = {path[0]: leaf[...] for path, leaf in nnx.to_flat_state(params)}
    q, v = convolved(p, "q", x), silu(convolved(p, "v", x))
    k = convolved(p, "k", x) if "w_k" in p else None
    o = normed(genes, recurrence(p, x, q, k, v)[0])
    o = o * jnp.tile(p["gain"], o.shape[-1] // p["gain"].size)
    if "w_gate" in p:
      o = o * silu(x @ p["w_gate"])
    elif "gate_in" in p:
      o = o * sigmoid(x @ p["gate_in"] @ p["gate_out"])
    return got, o @ p["w_o"]

  got, want = both(params, x)
  # A chain of some dozen roundings of 6e-8; a wrong sign or index gives 0.1.
  atol = 1e-4 * np.abs(want).max()
  for form in got:
    np.testing.assert_allclose(form, want, atol=atol)
