"""Argument checks that all operators share."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

XLA = "xla"
REFERENCE = "reference"

# Names that operators reserve, with the reason why they cannot run yet.
UNAVAILABLE: Mapping[str, str] = {
  "pallas_tpu": "no TPU kernel has been written for it",
  "pallas_gpu": "no GPU kernel has been written for it",
}

# Smallest log decay of one step. e^-30 is 1e-13, so in float32 nothing is left
# of the state, and a decay of exactly 0 (g = -inf) is welcome too.
DECAY_FLOOR = -30.0


def resolve_implementation(operator: str, implementation: str | None) -> str:
  """Returns the implementation to run; None chooses the chunked XLA form.

  Raises:
    NotImplementedError: if the name is reserved but has no code yet.
    ValueError: if the name is unknown.
  """
  if implementation is None:
    return XLA
  if implementation in (XLA, REFERENCE):
    return implementation
  if implementation in UNAVAILABLE:
    raise NotImplementedError(
      f"{operator} has no implementation {implementation!r}: "
      f"{UNAVAILABLE[implementation]}. Use {XLA!r} or {REFERENCE!r}."
    )
  raise ValueError(
    f"{operator}: unknown implementation {implementation!r}. "
    f"Use {XLA!r}, {REFERENCE!r} or None."
  )


def check_recurrence(
  operator: str,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  g: jax.Array | None,
  p: jax.Array | None,
  initial_state: jax.Array | None,
  segment_ids: jax.Array | None,
  chunk_size: int,
) -> None:
  """Checks the shapes and dtypes of a linear recurrence's arguments.

  Raises:
    NotImplementedError: if segment_ids are given.
    TypeError: if an array is not of a floating dtype.
    ValueError: if shapes do not fit together or the chunk size is unusable.
  """
  if segment_ids is not None:
    raise NotImplementedError(
      f"{operator} does not support segment_ids: pass one sequence a row."
    )
  if chunk_size < 1 or chunk_size & (chunk_size - 1):
    raise ValueError(
      f"{operator}: chunk_size must be a power of two, got {chunk_size}."
    )
  if q.ndim != 4:
    raise ValueError(
      f"{operator}: q must be [batch, time, heads, key_dim], got {q.shape}."
    )
  batch, time, heads, key_dim = q.shape
  if time < 1:
    raise ValueError(f"{operator}: needs at least one token, got {q.shape}.")
  named = {"q": q, "k": k, "v": v}
  expected: dict[str, tuple[int, ...]] = {"k": q.shape}
  if v.ndim != 4 or v.shape[:3] != q.shape[:3]:
    raise ValueError(
      f"{operator}: v must be [batch, time, heads, value_dim] with the first "
      f"three as in q {q.shape}, got {v.shape}."
    )
  if p is not None:
    named["p"] = p
    expected["p"] = q.shape
  if initial_state is not None:
    named["initial_state"] = initial_state
    expected["initial_state"] = (batch, heads, key_dim, v.shape[3])
  for name, shape in expected.items():
    if named[name].shape != shape:
      raise ValueError(
        f"{operator}: {name} must have shape {shape}, got {named[name].shape}."
      )
  if g is not None:
    named["g"] = g
    if g.shape not in (q.shape[:3], q.shape):
      raise ValueError(
        f"{operator}: g must be [batch, time, heads] {q.shape[:3]} or "
        f"[batch, time, heads, key_dim] {q.shape}, got {g.shape}."
      )
  for name, array in named.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise TypeError(
        f"{operator}: {name} must be floating, got {array.dtype}."
      )


def accumulation_dtype(*arrays: jax.Array | None) -> np.dtype:
  """Returns float64 if any array is, else float32."""
  wide = any(a is not None and a.dtype == jnp.float64 for a in arrays)
  return np.dtype(np.float64 if wide else np.float32)


def floored(g: jax.Array | None) -> jax.Array | None:
  """Returns g with no entry below DECAY_FLOOR."""
  return None if g is None else jnp.maximum(g, DECAY_FLOOR)


def default_scale(scale: float | None, key_dim: int) -> float:
  """Returns `scale`, or key_dim ** -0.5 for None."""
  return key_dim**-0.5 if scale is None else scale


def start_state(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  g: jax.Array | None,
  p: jax.Array | None,
  initial_state: jax.Array | None,
) -> jax.Array:
  """Returns the first state, [batch, heads, K, V], to accumulate in."""
  dtype = accumulation_dtype(q, k, v, g, p, initial_state)
  if initial_state is not None:
    return initial_state.astype(dtype)
  batch, _, heads, key_dim = q.shape
  return jnp.zeros((batch, heads, key_dim, v.shape[-1]), dtype)
