"""Public kernels for TPUs, to compile beside ours; none is a dependency."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator

import jax

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


@contextlib.contextmanager
def on_a_tpu() -> Iterator[None]:
  """Peers take the backend of this process for what they compile for."""
  own = jax.default_backend
  jax.default_backend = lambda: "tpu"
  try:
    yield
  finally:
    jax.default_backend = own
