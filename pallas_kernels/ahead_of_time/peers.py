"""Public kernels for TPUs, to compile beside ours; none is a dependency.

Softmax attention, what linear time is compared with, is here too: as XLA has
it, and JAX's own flash attention.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

# Name, module, and its function for an operator of ours and a decay.
PEERS: dict[str, tuple[str, dict[tuple[str, str], str]]] = {
  "deltanet-tpu": (
    "deltanet_tpu",
    {
      ("gated_delta_rule", "scalar"): "chunk_gdn",
      ("gated_delta_rule", "vector"): "chunk_kda",
    },
  ),
}

FLASH_BLOCK = 512


def load(peer: str, operator: str, decay: str) -> Callable[..., jax.Array]:
  """Returns the peer's function of (q, k, v, beta, g), for a TPU.

  Raises:
    LookupError: if it is not installed, or has no such function.
  """
  module, functions = PEERS[peer]
  if (operator, decay) not in functions:
    raise LookupError(f"{peer} has no {operator} with {decay} decay.")
  try:
    found = importlib.import_module(module)
  except ImportError as error:
    raise LookupError(f"{peer} is not installed.") from error
  function = getattr(found, functions[operator, decay])
  return lambda q, k, v, beta, g: function(q, k, v, g, beta)


def dense_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Causal softmax attention as XLA forms it, [batch, time, heads, dim]."""
  return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def flash_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """The same by the Pallas kernel that comes with JAX, blocks of FLASH_BLOCK.

  Its grid steps over blocks above the diagonal too, but does nothing there.
  """
  from jax.experimental.pallas.ops.tpu import flash_attention as flash

  names = [f.name for f in dataclasses.fields(flash.BlockSizes)]
  block = min(FLASH_BLOCK, q.shape[1])
  sizes = dict.fromkeys(names, block) | {"block_b": 1}
  out = flash.flash_attention(
    *(x.swapaxes(1, 2) for x in (q, k, v)),
    causal=True,
    sm_scale=q.shape[-1] ** -0.5,
    block_sizes=flash.BlockSizes(**sizes),
  )
  return jnp.swapaxes(out, 1, 2)


@contextlib.contextmanager
def on_a_tpu() -> Iterator[None]:
  """Peers take the backend of this process for what they compile for."""
  own = jax.default_backend
  jax.default_backend = lambda: "tpu"
  try:
    yield
  finally:
    jax.default_backend = own
