"""Models small enough to compile in a second."""

import jax
import jax.numpy as jnp
import numpy as np


class Bigram:
  """Logits are a row of a table, scaled: a matrix and a vector to train."""

  def init(self, key):
    return {
      "ends": {
        "table": 0.1 * jax.random.normal(key, (256, 256)),
        "scale": jnp.ones((256,)),
      },
      "blocks": {},
      "mixers": {},
    }

  def scores(self, params, tokens, targets):
    ends = params["ends"]
    logits = ends["table"][tokens] * ends["scale"]
    picked = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    nats = jax.nn.logsumexp(logits, -1) - picked
    return nats, picked >= logits.max(-1)

  def loss(self, params, tokens, targets, weights):
    nats, _ = self.scores(params, tokens, targets)
    return (nats * weights).sum() / weights.sum()


class Average:
  """A causal mixer: a learned matrix times the mean of the past."""

  def init(self, key):
    return {"w": 0.3 * jax.random.normal(key, (16, 16))}

  def apply(self, params, x, depth):
    del depth  # every layer does the same
    count = jnp.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    return jnp.cumsum(x, axis=1) / count @ params["w"]


def text(size, seed=0):
  """Bytes with something to learn: each follows from the one before."""
  rng = np.random.default_rng(seed)
  after = rng.integers(0, 256, (256, 4))
  data = np.zeros(size, np.uint8)
  choices = rng.integers(0, 4, size)
  for i in range(1, size):
    data[i] = after[data[i - 1], choices[i]]
  return data
