"""Causal depthwise convolution of a few taps: the public functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pallas_kernels.shared import arguments, chunks, dispatch
from pallas_kernels.short_conv import reference, xla


def short_conv(
  x: jax.Array,
  weight: jax.Array,
  *,
  initial_state: jax.Array | None = None,
  segment_ids: jax.Array | None = None,
  implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Computes y_t = sum_j weight_j x_{t-j} for each channel.

  Args:
    x: [batch, time, dim], floating.
    weight: [width, dim]; weight[0] belongs to the current token. An activation
      or bias, if wanted, comes after.
    initial_state: the width - 1 inputs before x, [batch, width - 1, dim],
      oldest first; None is zero.
    segment_ids: [batch, time], any dtype; a run of equal ids is a sequence of
      its own, packed into the row. The initial state belongs to the first.
    implementation: "xla", "reference" or None, the best.

  Returns:
    (y [batch, time, dim] in x's dtype, the last width - 1 inputs
    [batch, width - 1, dim] in float32, or float64 if any argument is; zero
    where they belong to an earlier sequence than the last).

  Raises:
    ValueError: on shapes or names that do not fit.
  """
  forms = {None: xla, dispatch.XLA: xla, dispatch.REFERENCE: reference}
  if implementation not in forms:
    raise ValueError(
      f"short_conv: unknown implementation {implementation!r}. Use one of "
      f"{[*forms]}: XLA fuses its few shifted products as a kernel would."
    )
  if x.ndim != 3 or weight.ndim != 2 or weight.shape[1] != x.shape[2]:
    raise ValueError(
      "short_conv: x must be [batch, time, dim] and weight [width, dim], "
      f"got {x.shape} and {weight.shape}."
    )
  dtype = arguments.accumulation_dtype(x, weight, initial_state)
  shape = (x.shape[0], weight.shape[0] - 1, x.shape[2])
  if initial_state is None:
    initial_state = jnp.zeros(shape, dtype)
  elif initial_state.shape != shape:
    raise ValueError(
      f"short_conv: initial_state must be {shape}, got {initial_state.shape}."
    )
  if segment_ids is not None and segment_ids.shape != x.shape[:2]:
    raise ValueError(
      f"short_conv: segment_ids must have shape {x.shape[:2]}, got "
      f"{segment_ids.shape}."
    )
  segments = None if segment_ids is None else chunks.numbered(segment_ids)
  state = initial_state.astype(dtype)
  out, state = forms[implementation].short_conv(x, weight, state, segments)
  return out.astype(x.dtype), state


def step(
  x: jax.Array, weight: jax.Array, *, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes one token of `short_conv`, for decoding.

  Args:
    x: [batch, dim].
    weight: [width, dim].
    state: [batch, width - 1, dim], as `short_conv` returns it.

  Returns:
    (y [batch, dim] in x's dtype, next state).
  """
  out, state = reference.step(
    x.astype(state.dtype), weight.astype(state.dtype), state
  )
  return out.astype(x.dtype), state
