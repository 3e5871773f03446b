"""A gated linear recurrence with a Pallas kernel of its own.

h_t = a_t h_{t-1} + sqrt(1 - a_t^2) x_t for each channel, with a_t from the
input (RG-LRU, Griffin, arXiv:2402.19427), between projections. The operators
of pallas_kernels have matrix states; this has a vector, so it brings its own
kernel for TPUs, with a derivative, and another form for other machines.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels import target

ROWS = 64  # tokens a block
LANES = 128  # channels a block


def scan_xla(a, b):
  """Returns h_t = a_t h_{t-1} + b_t, all [batch, time, dim]."""

  def combine(early, late):
    return early[0] * late[0], early[1] * late[0] + late[1]

  return jax.lax.associative_scan(combine, (a, b), axis=1)[1]


def scan_kernel(a_ref, b_ref, h_ref, carry):
  """One block of tokens; blocks of a row come in order, `carry` between."""

  @pl.when(pl.program_id(2) == 0)
  def _():
    carry[...] = jnp.zeros(carry.shape, carry.dtype)

  h = carry[...]
  for t in range(a_ref.shape[0]):
    h = a_ref[t : t + 1] * h + b_ref[t : t + 1]
    h_ref[t : t + 1] = h
  carry[...] = h


def scan_tpu(a, b, *, interpret=False):
  """`scan_xla` as a TPU kernel; time and dim are padded to whole blocks."""
  batch, time, dim = a.shape
  padding = ((0, 0), (0, -time % ROWS), (0, -dim % LANES))
  a, b = jnp.pad(a, padding), jnp.pad(b, padding)
  block = pl.BlockSpec((None, ROWS, LANES), lambda i, j, n: (i, n, j))
  h = pl.pallas_call(
    scan_kernel,
    grid=(batch, a.shape[2] // LANES, a.shape[1] // ROWS),
    in_specs=[block, block],
    out_specs=block,
    out_shape=jax.ShapeDtypeStruct(a.shape, jnp.float32),
    scratch_shapes=[pltpu.VMEM((1, LANES), jnp.float32)],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * a.size, bytes_accessed=12 * a.size, transcendentals=0
    ),
    interpret=interpret,
    name="gated_scan",
  )(a, b)
  return h[:, :time, :dim]


@jax.custom_vjp
def scan(a, b):
  return scan_tpu(a, b) if target() == "tpu" else scan_xla(a, b)


def scan_forward(a, b):
  h = scan(a, b)
  return h, (a, h)


def scan_backward(saved, dh):
  """The same scan backwards: db_t = dh_t + a_{t+1} db_{t+1}."""
  a, h = saved
  later = jnp.concatenate([a[:, 1:], jnp.zeros_like(a[:, :1])], axis=1)
  db = jnp.flip(scan(jnp.flip(later, 1), jnp.flip(dh, 1)), 1)
  before = jnp.concatenate([jnp.zeros_like(h[:, :1]), h[:, :-1]], axis=1)
  return db * before, db


scan.defvjp(scan_forward, scan_backward)


class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    dim = config.dim
    init = nnx.initializers.lecun_normal()

    def weight():
      return nnx.Param(init(rngs.params(), (dim, dim), jnp.float32))

    self.value, self.gate, self.forget, self.out = (weight() for _ in range(4))
    # Memories of 2 to 1,000 tokens, spread over the channels.
    spread = jnp.linspace(0.7, 6.9, dim, dtype=jnp.float32)
    self.horizon = nnx.Param(spread)

  def __call__(self, x, ctx):
    def project(w):
      return x @ w[...].astype(x.dtype)

    raw = project(self.forget).astype(jnp.float32)
    log_a = -jax.nn.softplus(raw) * jnp.exp(-self.horizon[...])
    write = jnp.sqrt(-jnp.expm1(2 * log_a) + 1e-6)
    h = scan(jnp.exp(log_a), write * project(self.value).astype(jnp.float32))
    y = h.astype(x.dtype) * jax.nn.silu(project(self.gate))
    return y @ self.out[...].astype(x.dtype)
