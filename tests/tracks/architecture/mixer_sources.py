"""Sources of small mixers for tests: one good one and ways to spoil it."""

GOOD = """\
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    self.chunk = config.chunk_size
    self.read = nnx.Linear(config.dim, config.dim, rngs=rngs)
    self.write = nnx.Linear(config.dim, config.dim, rngs=rngs)
    self.gain = nnx.Param(jnp.ones((config.dim,)))

  def __call__(self, x, ctx):
    b, t, d = x.shape
    v = self.write(x)
    # Inside a chunk, then what the chunks before have left.
    chunks = v.reshape(b, t // self.chunk, self.chunk, d)
    inside = jnp.cumsum(chunks, axis=2)

    def step(state, total):
      return 0.9 * state + total, state

    start = jnp.zeros((b, d), v.dtype)
    _, before = jax.lax.scan(step, start, inside[:, :, -1].swapaxes(0, 1))
    y = inside + before.swapaxes(0, 1)[:, :, None]
    y = y.reshape(b, t, d) * jax.nn.sigmoid(self.read(x))
    y = y * self.gain[...] * (1 + ctx.depth)
    return y.astype(x.dtype)
"""

SOFTMAX = """\
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    self.qkv = nnx.Linear(config.dim, 3 * config.dim, rngs=rngs)

  def __call__(self, x, ctx):
    q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
    scores = jnp.einsum("btd,bsd->bts", q, k)
    scores = jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ v
"""


def spoil(old: str, new: str, source: str = GOOD) -> str:
  """Returns `source` with its one `old` replaced by `new`."""
  assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
  return source.replace(old, new)
