"""Texts of rendered mixers that are looked up by a gene's value.

A comment names the source of what it stands over, by arXiv number.
"""

from __future__ import annotations

# Functions of the module, in the order in which they appear.
HELPERS: dict[str, str] = {
  "rates_even": '''
def decay_rates(heads):
  """Returns the log decay a token, sign changed: 32 tokens for every head."""
  return jnp.full((heads,), 1 / 32)
''',
  "rates_retnet": '''
def decay_rates(heads):
  """Returns the log decay a token, sign changed: RetNet's 1 - 2^(-5-h)."""
  return -jnp.log1p(-(2.0 ** -(5.0 + jnp.arange(heads))))
''',
  "rates_spread": '''
def decay_rates(heads):
  """Returns the log decay a token, sign changed: from 2 to 500 tokens."""
  return jnp.geomspace(0.5, 0.002, heads)
''',
  "l2": '''
def normalise(y):
  """Scales vectors along the last axis to an L2 norm of 1."""
  wide = y.astype(jnp.float32)
  square = jnp.sum(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(square + 1e-6)).astype(y.dtype)
''',
  "l1": '''
def normalise(y):
  """Scales vectors along the last axis to an L1 norm of 1."""
  wide = y.astype(jnp.float32)
  total = jnp.sum(jnp.abs(wide), axis=-1, keepdims=True)
  return (wide / (total + 1e-6)).astype(y.dtype)
''',
  "clip": '''
def normalise(y):
  """Scales vectors along the last axis that are longer than 1 to 1."""
  wide = y.astype(jnp.float32)
  square = jnp.sum(wide * wide, axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(jnp.maximum(square, 1.0))).astype(y.dtype)
''',
  "rms": '''
def rms_norm(y):
  """Scales vectors along the last axis to a mean square of 1, in float32."""
  y = y.astype(jnp.float32)
  return y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-6)
''',
  "layer": '''
def layer_norm(y):
  """Centres and scales vectors along the last axis, in float32."""
  y = y.astype(jnp.float32)
  y = y - jnp.mean(y, axis=-1, keepdims=True)
  return y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + 1e-6)
''',
  "rotate": '''
def rotate(y, angle):
  """Rotates pairs of channels by angle [..., time, 1, channels / 2]."""
  a, b = jnp.split(y.astype(jnp.float32), 2, axis=-1)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turned = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return turned.astype(y.dtype)
''',
}

HEADS: dict[str, str] = {
  "config": """
    heads, key_dim = config.heads, config.head_dim
    """,
  "double": """
    # Twice the heads of half the width.
    heads, key_dim = 2 * config.heads, config.head_dim // 2
    """,
  "half": """
    # Half the heads of twice the width.
    heads = max(1, config.heads // 2)
    key_dim = config.heads * config.head_dim // heads
    """,
}

CHUNKS: dict[str, str] = {
  "half": "max(1, config.chunk_size // 2)",
  "config": "config.chunk_size",
  "double": "2 * config.chunk_size",
  "quadruple": "4 * config.chunk_size",
}

FEATURE_MAPS: dict[str, str] = {
  "identity": "{}",
  "silu": "jax.nn.silu({})",
  "relu": "jax.nn.relu({})",
  "relu2": "jnp.square(jax.nn.relu({}))",
  "elu1": "jax.nn.elu({}) + 1",
  "softmax": "jax.nn.softmax({}, axis=-1)",
}

# Comment and constructor of a decay, by its parameterisation. At the start a
# logit of zero gives the rate that `decay_rates` wants.
DECAY_START: dict[str, str] = {
  "exp": "start = jnp.log(jnp.expm1(decay_rates(heads)))",
  "sigmoid": "start = -jnp.log(jnp.expm1(16 * decay_rates(heads)))",
  "bounded": "start = -jnp.log(5 / decay_rates(heads) - 1)",
  "floored": "start = -jnp.log(jnp.expm1(decay_rates(heads)))",
}

DECAY_COMMENT: dict[str, str] = {
  "exp": "exp(-e^A softplus(.)), as in Mamba-2 (2405.21060)",
  "sigmoid": "sigmoid(.)^(1/16), as in GLA (2312.06635)",
  "bounded": "log decay -5 sigmoid(.), bounded as in KDA (2510.26692)",
  "floored": "a sigmoid over a floor that rises with depth, as in HGRN2 "
  "(2404.07904)",
}

# Log decays that never fall below -5: the operator may count on it, which
# takes a part of the products of a decay a channel.
BOUNDED = ("bounded", "floored")

SECOND_RATES: dict[str, int] = {"fast": 4, "slow": 64}  # tokens

FILTER_TAPS: dict[str, int] = {"short": 4, "long": 16}

# Paths past the memory, by the value of local_path.
LOCAL_PATHS: dict[str, tuple[str, ...]] = {
  "none": (),
  "identity": ("identity",),
  "short": ("short",),
  "long": ("long",),
  "multi": ("identity", "short", "long"),
}
