"""Argument checks that the recurrences share."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels.shared.decay import LARGEST_EXPONENT

# Smallest log decay of one step. e^-30 is 1e-13, so in float32 nothing is left
# of the state, and a decay of exactly 0 (g = -inf) is welcome too.
DECAY_FLOOR = -30.0


def check_recurrence(
  operator: str,
  tokens: Mapping[str, jax.Array],
  g: jax.Array | None,
  initial_state: jax.Array | None,
  segment_ids: jax.Array | None,
  chunk_size: int | None,
) -> None:
  """Checks the shapes and dtypes of a linear recurrence's arguments.

  Args:
    operator: name for messages.
    tokens: q, k, v and what else the operator takes, by name.
    g, initial_state, segment_ids, chunk_size: as in the operators' api.py.

  Raises:
    TypeError: if an array is not of a floating dtype.
    ValueError: if shapes do not fit together or the chunk size is unusable.
  """
  if chunk_size is not None and not _is_power_of_two(chunk_size):
    raise ValueError(
      f"{operator}: chunk_size must be a power of two, got {chunk_size}."
    )
  q, v = tokens["q"], tokens["v"]
  if q.ndim != 4:
    raise ValueError(
      f"{operator}: q must be [batch, time, heads, key_dim], got {q.shape}."
    )
  batch, time, _, key_dim = q.shape
  if time < 1:
    raise ValueError(f"{operator}: needs at least one token, got {q.shape}.")
  if v.ndim != 4 or v.shape[:2] != q.shape[:2]:
    raise ValueError(
      f"{operator}: v must be [batch, time, heads, value_dim] with the first "
      f"two as in q {q.shape}, got {v.shape}."
    )
  heads = v.shape[2]
  for name, x in tokens.items():
    if name == "v":
      continue
    if (
      x.ndim != 4
      or (*x.shape[:2], x.shape[3]) != (batch, time, key_dim)
      or heads % x.shape[2]
    ):
      raise ValueError(
        f"{operator}: {name} must have shape {(batch, time, heads, key_dim)} "
        f"or a number of heads that divides v's {heads}, got {x.shape}."
      )
  expected: dict[str, tuple[jax.Array | None, tuple[int, ...]]] = {
    "initial_state": (initial_state, (batch, heads, key_dim, v.shape[3])),
    "segment_ids": (segment_ids, (batch, time)),
  }
  for name, (array, shape) in expected.items():
    if array is not None and array.shape != shape:
      raise ValueError(
        f"{operator}: {name} must have shape {shape}, got {array.shape}."
      )
  if g is not None:
    shape = (batch, time, heads)
    if g.shape not in (shape, (*shape, key_dim)):
      raise ValueError(
        f"{operator}: g must be [batch, time, heads] {shape} or "
        f"[batch, time, heads, key_dim] {(*shape, key_dim)}, got {g.shape}."
      )
  named = {**tokens, "g": g, "initial_state": initial_state}
  for name, array in named.items():
    if array is not None and not jnp.issubdtype(array.dtype, jnp.floating):
      raise TypeError(
        f"{operator}: {name} must be floating, got {array.dtype}."
      )


def largest_sub_chunk(min_log_decay: float) -> int:
  """Returns the most tokens, a power of two, that one reference serves.

  With the reference in their middle an exponent spans half of them. At most
  128, the largest chunk that forms take by default.
  """
  size = 2
  while size < 128 and size * -min_log_decay <= LARGEST_EXPONENT:
    size *= 2
  return size


def check_schedule(
  operator: str,
  block_heads: int | None,
  sub_chunk: int | None,
  min_log_decay: float,
) -> int:
  """Checks the choices of a schedule; see dispatch.recurrence.

  Returns:
    The sub_chunk to use.

  Raises:
    ValueError: if one of them is no number that means anything.
  """
  if not DECAY_FLOOR <= min_log_decay < 0:
    raise ValueError(
      f"{operator}: min_log_decay must be in [{DECAY_FLOOR}, 0), got "
      f"{min_log_decay}."
    )
  largest = largest_sub_chunk(min_log_decay)
  if block_heads is not None and block_heads < 1:
    raise ValueError(
      f"{operator}: block_heads must be at least 1, got {block_heads}."
    )
  if sub_chunk is not None and (
    sub_chunk > largest or not _is_power_of_two(sub_chunk)
  ):
    raise ValueError(
      f"{operator}: sub_chunk must be a power of two up to {largest}, got "
      f"{sub_chunk}: with more tokens the factors of a decay of "
      f"min_log_decay={min_log_decay} a step overflow."
    )
  return largest if sub_chunk is None else sub_chunk


def _is_power_of_two(number: int) -> bool:
  return number >= 1 and not number & (number - 1)


def accumulation_dtype(*arrays: jax.Array | None) -> np.dtype:
  """Returns float64 if any array is, else float32."""
  wide = any(a is not None and a.dtype == jnp.float64 for a in arrays)
  return np.dtype(np.float64 if wide else np.float32)


def floored(
  g: jax.Array | None, least: float = DECAY_FLOOR
) -> jax.Array | None:
  """Returns g with no entry below `least`."""
  return None if g is None else jnp.maximum(g, least)


def default_scale(scale: float | None, key_dim: int) -> float:
  """Returns `scale`, or key_dim ** -0.5 for None."""
  return key_dim**-0.5 if scale is None else scale


def shared_heads(x: jax.Array, heads: int) -> jax.Array:
  """Repeats the heads of x [..., heads, dim], each for a group."""
  few = x.shape[-2]
  return x if few == heads else jnp.repeat(x, heads // few, -2)
