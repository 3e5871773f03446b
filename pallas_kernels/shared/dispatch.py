"""From the arguments of a recurrence to the code that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from pallas_kernels.shared import arguments, chunks, pallas_gpu, pallas_tpu
from pallas_kernels.shared import target as targets
from pallas_kernels.shared.chunk import Recurrence
from pallas_kernels.shared.cost import Cost
from pallas_kernels.shared.products import XlaProducts

XLA = "xla"
REFERENCE = "reference"
PALLAS_TPU = "pallas_tpu"
PALLAS_GPU = "pallas_gpu"
IMPLEMENTATIONS = (XLA, PALLAS_TPU, PALLAS_GPU, REFERENCE)

# Tokens a chunk of the XLA form. Matrix units want long rows, so it is 64, the
# rows of a warp group's product, where nobody has timed it yet. On CPU 32 is
# the fastest by `launch.bench kernels`, and 16 where a system is solved for
# each chunk, whose cost the products with a narrow state do not hide.
_XLA_CHUNK, _CPU_CHUNK, _CPU_NARROW_CHUNK, _NARROW = 64, 32, 16, 64
_BACKWARD = 2.5  # cost of a backward pass, in forward passes


class Operator(NamedTuple):
  """One operator's forms.

  Attributes:
    name: for messages and kernels.
    reference, xla: take the tokens, the rates, g, the state, segments, the
      scale and (xla) the chunk size, how products are taken and the name.
    step: takes one token, its rates, g, the state and the scale.
    chunk: its `chunk.py`, for the kernels.
    cost: its `forward_cost`.
  """

  name: str
  reference: Callable[..., tuple[jax.Array, jax.Array]]
  step: Callable[..., tuple[jax.Array, jax.Array]]
  xla: Callable[..., tuple[jax.Array, jax.Array]]
  chunk: Recurrence
  cost: Callable[..., Cost]


def resolve(
  operator: str,
  implementation: str | None,
  target: str | None,
  kernel: bool,
) -> tuple[str, str]:
  """Returns the implementation to run and the platform to compile for.

  Args:
    operator: name for messages.
    implementation: one of IMPLEMENTATIONS or None, the best for the target.
    target: "cpu", "gpu" or "tpu"; None for what target.target() says. A
      process that compiles for another platform ahead of time must say so.
    kernel: whether the kernel takes the arguments.

  Raises:
    ValueError: if a name is unknown.
  """
  if target is None:
    target = targets.target()
  if target not in targets.TARGETS:
    raise ValueError(
      f"{operator}: target {target!r} is not one of {targets.TARGETS}."
    )
  if implementation is None:
    # The GPU kernels stay a choice until they are measured on a GPU.
    return (PALLAS_TPU if target == "tpu" and kernel else XLA), target
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f"{operator}: unknown implementation {implementation!r}. Use one of "
      f"{IMPLEMENTATIONS}, or None for the best on the target."
    )
  return implementation, target


def recurrence(
  operator: Operator,
  tokens: Mapping[str, jax.Array],
  g: jax.Array | None,
  *,
  rates: Mapping[str, jax.Array] | None = None,
  initial_state: jax.Array | None = None,
  segment_ids: jax.Array | None = None,
  scale: float | None = None,
  chunk_size: int | None = None,
  block_heads: int | None = None,
  sub_chunk: int | None = None,
  min_log_decay: float = arguments.DECAY_FLOOR,
  implementation: str | None = None,
  target: str | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Checks the arguments of an operator and runs one of its forms.

  chunk_size, block_heads and sub_chunk choose a schedule: they change how fast
  it is, and nothing but roundings in what is computed.

  Args:
    operator: what to compute.
    tokens: its arguments by name, [batch, time, heads, dim].
    rates: those of one number a head, [batch, time, heads of v].
    g: natural log of the decay, at most 0: None, [batch, time, heads] or
      [batch, time, heads, K].
    initial_state: [batch, heads, K, V]; None is zero.
    segment_ids: [batch, time], any dtype; a run of equal ids is a sequence of
      its own, packed into the row. The initial state belongs to the first
      and the final state to the last.
    scale: factor of the output; None is K ** -0.5.
    chunk_size: tokens a chunk, a power of two; None is what suits the form,
      and the XLA form on the target. Longer than the sequence counts as the
      sequence.
    block_heads: heads that one program of a TPU kernel computes side by side,
      at least 1; None is what suits it. As many as TPUs take: the most that
      divide the heads and fill whole tiles, or the fewest beyond. Programs of
      GPU kernels compute one, and the XLA form has none.
    sub_chunk: tokens of a chunk that share one reference token where a decay
      a channel weighs pairs, a power of two: many take few products, few keep
      factors near to 1. None is the most that min_log_decay allows; the XLA
      form then takes all of a chunk where no decay over half of one, of any
      in the batch, is stronger than e^-60. Nothing but a decay a channel
      looks at it.
    min_log_decay: the smallest g that counts, in [-30, 0): what is below is
      raised to it, and has no gradient. A promise that decays are weak makes
      a decay a channel cheaper: -30 allows a sub_chunk of 4 tokens, -5 (as
      public KDA kernels bound it) 16, and RWKV-7's -0.61 all of a chunk.
    implementation: "xla"; "pallas_tpu", "pallas_gpu" (not yet run on a GPU);
      "reference" (token by token); or None, the best for the target, which is
      "xla" on a GPU, and "reference" for a single token. A kernel for another
      target than the given one runs in the interpreter: right and slow.
    target: "cpu", "gpu" or "tpu", what is compiled for; None is what
      `pallas_kernels.compiling_for` says, else the default backend.

  Returns:
    (out [batch, time, heads, V] in v's dtype, final state
    [batch, heads, K, V] in float32, or float64 if any argument is).

  Raises:
    ValueError, TypeError: on shapes, dtypes or names that do not fit.
  """
  name = operator.name
  rates = dict(rates or {})
  _check(name, tokens, g, rates, initial_state, segment_ids, chunk_size)
  looks = sub_chunk is None
  sub_chunk = arguments.check_schedule(
    name, block_heads, sub_chunk, min_log_decay
  )
  heads = tokens["v"].shape[2]
  tokens = {n: arguments.shared_heads(x, heads) for n, x in tokens.items()}
  q, v = tokens["q"], tokens["v"]
  batch, time, _, key_dim = q.shape
  dtype = arguments.accumulation_dtype(
    *tokens.values(), *rates.values(), g, initial_state
  )
  if implementation is None and time == 1:
    implementation = REFERENCE  # decoding: there is nothing to chunk
  chosen, target = resolve(
    name, implementation, target, kernel=dtype == jnp.float32
  )
  if initial_state is None:
    shape = (batch, heads, key_dim, v.shape[-1])
    initial_state = jnp.zeros(shape, dtype)
  state = initial_state.astype(dtype)
  g = arguments.floored(g, min_log_decay)
  scale = arguments.default_scale(scale, key_dim)
  segments = None
  if segment_ids is not None:
    segments = chunks.numbered(segment_ids)
    if g is None:  # the forms see where sequences begin in the decay
      g = jnp.zeros(v.shape[:3], dtype)
  args = (*tokens.values(), *rates.values())
  if chosen == REFERENCE:
    return operator.reference(*args, g, state, segments, scale)
  if chosen == XLA:
    chunk = chunk_size or _xla_chunk(operator, target, key_dim)
    products = XlaProducts(sub_chunk, looks)
    return operator.xla(*args, g, state, segments, scale, chunk, products, name)
  if dtype != jnp.float32:
    raise TypeError(
      f"{name}: kernels compute in float32; use implementation={XLA!r} for "
      f"float64."
    )
  if chosen == PALLAS_GPU:
    plan = _gpu_plan(name, args, scale, chunk_size, sub_chunk, target)
    return pallas_gpu.recur(operator.chunk, plan, args, g, segments, state)
  plan = _tpu_plan(
    name, args, scale, chunk_size, block_heads, sub_chunk, target
  )
  return pallas_tpu.recur(
    operator.chunk,
    plan,
    args,
    g,
    segments,
    state,
    _costs(operator, plan, args, g),
  )


def one_token(
  operator: Operator,
  tokens: Mapping[str, jax.Array],
  g: jax.Array | None,
  state: jax.Array,
  scale: float | None,
  min_log_decay: float,
  *,
  rates: Mapping[str, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Computes what `recurrence` does of one token, for decoding.

  Args:
    operator: what to compute.
    tokens: its arguments by name, [batch, heads, dim].
    g: None, [batch, heads] or [batch, heads, K].
    state: [batch, heads, K, V].
    scale, min_log_decay: as in `recurrence`.
    rates: [batch, heads of v].

  Returns:
    (out [batch, heads, V] in v's dtype, next state in float32, or float64 if
    any argument is).

  Raises:
    ValueError, TypeError: on shapes or dtypes that do not fit.
  """
  if any(x.ndim != 3 for x in tokens.values()):
    shapes = {name: x.shape for name, x in tokens.items()}
    raise ValueError(
      f"{operator.name}: a step takes tokens [batch, heads, dim], got {shapes}."
    )
  alone = {name: x[:, None] for name, x in tokens.items()}
  _check(
    operator.name,
    alone,
    None if g is None else g[:, None],
    {name: x[:, None] for name, x in (rates or {}).items()},
    state,
  )
  arguments.check_schedule(operator.name, None, None, min_log_decay)
  heads, out_dtype = tokens["v"].shape[1], tokens["v"].dtype
  tokens = {n: arguments.shared_heads(x, heads) for n, x in tokens.items()}
  given = (*tokens.values(), *(rates or {}).values())
  dtype = arguments.accumulation_dtype(*given, g, state)
  g = arguments.floored(g, min_log_decay)
  scale = arguments.default_scale(scale, tokens["q"].shape[-1])
  out, state = operator.step(*given, g, state.astype(dtype), scale)
  return out.astype(out_dtype), state


def _xla_chunk(operator: Operator, target: str, key_dim: int) -> int:
  if target != "cpu":
    return _XLA_CHUNK
  solves = operator.chunk.inverses > 0
  return _CPU_NARROW_CHUNK if solves and key_dim < _NARROW else _CPU_CHUNK


def _check(
  name: str,
  tokens: Mapping[str, jax.Array],
  g: jax.Array | None,
  rates: Mapping[str, jax.Array],
  initial_state: jax.Array | None,
  segment_ids: jax.Array | None = None,
  chunk_size: int | None = None,
) -> None:
  """Raises ValueError or TypeError where arrays do not fit together."""
  arguments.check_recurrence(
    name, tokens, g, initial_state, segment_ids, chunk_size
  )
  for rate, x in rates.items():
    shape = tokens["v"].shape[:3]
    if x.shape != shape:
      raise ValueError(
        f"{name}: {rate} must have shape {shape}, got {x.shape}."
      )


def _gpu_plan(
  name: str,
  tokens: tuple[jax.Array, ...],
  scale: float,
  chunk_size: int | None,
  sub_chunk: int,
  target: str,
) -> pallas_gpu.Plan:
  _, time, _, key_dim = tokens[0].shape
  low = all(x.dtype == jnp.bfloat16 for x in tokens if x.ndim == 4)
  if chunk_size is None:
    chunk_size = pallas_gpu.default_chunk(key_dim, low)
  return pallas_gpu.Plan(
    chunk=max(pallas_gpu.SMALLEST, chunks.fit_chunk(chunk_size, time)),
    scale=scale,
    low=low,
    interpret=target != "gpu" or targets.interpreted(),
    name=name,
    sub_chunk=sub_chunk,
  )


def _tpu_plan(
  name: str,
  tokens: tuple[jax.Array, ...],
  scale: float,
  chunk_size: int | None,
  block_heads: int | None,
  sub_chunk: int,
  target: str,
) -> pallas_tpu.Plan:
  _, time, heads, _ = tokens[0].shape
  dims = sorted({x.shape[-1] for x in tokens if x.ndim == 4})
  low = all(x.dtype == jnp.bfloat16 for x in tokens if x.ndim == 4)
  if chunk_size is None:
    chunk_size = pallas_tpu.default_chunk(dims, low)
  chunk = max(pallas_tpu.SMALLEST_CHUNK, chunks.fit_chunk(chunk_size, time))
  heads = pallas_tpu.padded_heads(heads, dims)
  if block_heads is None:
    block_heads = pallas_tpu.default_group(heads, dims, low)
  return pallas_tpu.Plan(
    heads=heads,
    chunk=chunk,
    group=pallas_tpu.fit_group(block_heads, heads, dims),
    scale=scale,
    low=low,
    interpret=target != "tpu" or targets.interpreted(),
    name=name,
    sub_chunk=sub_chunk,
  )


def _costs(
  operator: Operator,
  plan: pallas_tpu.Plan,
  tokens: tuple[jax.Array, ...],
  g: jax.Array | None,
) -> pallas_tpu.Costs:
  batch, time, heads, key_dim = tokens[0].shape
  kind = "none" if g is None else "scalar" if g.ndim == 3 else "vector"
  cost = operator.cost(
    batch,
    time,
    heads,
    key_dim,
    tokens[2].shape[-1],
    decay_kind=kind,
    chunk_size=plan.chunk,
    sub_chunk=plan.sub_chunk,
    itemsize=tokens[0].dtype.itemsize,
  )
  exps = 0 if g is None else g.size * 4

  def estimate(times: float) -> Any:
    return pl.CostEstimate(
      flops=int(times * cost.flops),
      bytes_accessed=int(times * cost.bytes),
      transcendentals=int(times * exps),
    )

  return pallas_tpu.Costs(estimate(1), estimate(_BACKWARD))
