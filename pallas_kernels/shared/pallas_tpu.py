"""The pass over chunks as Pallas TPU kernels, one for all operators.

The grid is (batch, groups of heads, chunks). Its last axis runs in order on one
core, so the state of a group stays in VMEM from chunk to chunk; the backward
kernel visits the chunks last to first. Arguments stay [batch, time, heads *
dim], as projections make them: a block of them is [chunk, heads of the group *
dim] and nothing is transposed in HBM. The heads of a group are independent
chains of products that the compiler interleaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.chunk import Recurrence, saved_by_name
from pallas_kernels.shared.decay import Decay
from pallas_kernels.shared.products import FULL, SUB_CHUNK, KernelProducts

LANES = 128  # columns of a TPU tile
SMALLEST_CHUNK = 16  # rows of a TPU tile of bfloat16
_WIDEST = 8 * LANES  # columns of a program's block of one array


class Plan(NamedTuple):
  """The static part of a call.

  Attributes:
    heads: that are computed, at least those of the arguments.
    chunk: tokens a chunk; a power of two and at least 8.
    group: heads a program computes side by side; divides `heads`.
    scale: of the output.
    low: products of bfloat16 operands; see Products.
    interpret: False for a TPU, True or pltpu.InterpretParams() elsewhere.
    name: of the kernels, as compilers and profilers show it.
    sub_chunk: tokens that share a reference token; see decay.py.
  """

  heads: int
  chunk: int
  group: int
  scale: float
  low: bool
  interpret: Any
  name: str
  sub_chunk: int = SUB_CHUNK

  @property
  def products(self) -> KernelProducts:
    return KernelProducts(self.low, sub_chunk=self.sub_chunk)


class Costs(NamedTuple):
  """What the kernels cost, for the compiler's scheduler."""

  forward: pl.CostEstimate
  backward: pl.CostEstimate


class Gates(NamedTuple):
  """What weights tokens: None for no decay, and for no packing.

  Attributes:
    g: log decay, rows [batch, heads, chunks, 1, chunk] or
      [batch, time, heads * K].
    marks: [batch, chunks, 2, chunk], float32: each token's sequence, and that
      of the token before the chunk.
  """

  g: Any
  marks: Any


def fits(group: int, heads: int, dims: Sequence[int]) -> bool:
  """Returns whether a block of `group` heads is one that TPUs take."""
  if group < 1 or heads % group:
    return False
  return group == heads or all(group * d % LANES == 0 for d in dims)


def default_chunk(dims: Sequence[int], low: bool = True) -> int:
  """Returns the tokens a chunk, by docs/results/kernels_tpu.md.

  Float32 (not `low`) takes fewer above dim 128: with a decay a channel 128 of
  256 have no room in VMEM.
  """
  widest = 2 * LANES if low else LANES
  return 128 if max(dims) <= widest else 64


def padded_heads(heads: int, dims: Sequence[int]) -> int:
  """Returns the heads to compute: `heads`, or more where no group fits VMEM.

  25 heads of 64, say, are cut by no block but one of all: a program of them has
  no room for its chunk. 26 are cut in pairs; what the last computes is dropped.
  Where twice the heads would not help they stay as they are.
  """
  more = range(heads, 2 * heads)
  return next((n for n in more if _groups(n, dims)), heads)


def _groups(heads: int, dims: Sequence[int]) -> list[int]:
  """Returns the groups that TPUs take and that leave VMEM for a chunk."""
  groups = [n for n in range(1, heads + 1) if fits(n, heads, dims)]
  return [n for n in groups if n * max(dims) <= max(_WIDEST, max(dims))]


def fit_group(group: int, heads: int, dims: Sequence[int]) -> int:
  """Returns the most heads up to `group` that TPUs take, or the fewest."""
  groups = [n for n in range(1, heads + 1) if fits(n, heads, dims)]
  return max((n for n in groups if n <= group), default=groups[0])


def default_group(heads: int, dims: Sequence[int], low: bool = True) -> int:
  """Returns the heads a program computes side by side, by the same table.

  `heads` are `padded_heads`. Above dim 128 float32 (not `low`) has room in VMEM
  for half as many, which costs it nothing.
  """
  groups = _groups(heads, dims) or [fit_group(1, heads, dims)]
  columns = 4 * LANES if low or max(dims) <= LANES else 2 * LANES
  return next((n for n in groups if n * max(dims) >= columns), groups[-1])


def recur(
  recurrence: Recurrence,
  plan: Plan,
  tokens: tuple[jax.Array, ...],
  g: jax.Array | None,
  segments: jax.Array | None,
  state: jax.Array,
  costs: Costs,
) -> tuple[jax.Array, jax.Array]:
  """Runs the recurrence by kernels that are differentiable once.

  Args:
    recurrence: the operator's mathematics.
    plan: sizes and choices.
    tokens: each [batch, time, heads, dim] or, one number a head,
      [batch, time, heads]; the third are the values.
    g: None, [batch, time, heads] or [batch, time, heads, K].
    segments: from chunks.numbered, [batch, time], or None; they need a g.
    state: [batch, heads, K, V].
    costs: of the kernels.

  Returns:
    (out [batch, time, heads, V] in the dtype of the values, last state
    [batch, heads, K, V], float32).
  """
  batch, time, heads = tokens[0].shape[:3]
  more = ((0, 0), (0, plan.heads - heads), (0, 0), (0, 0))
  padding = -time % plan.chunk
  marks = None
  if segments is not None:
    marks = _marks(segments, padding, plan.chunk)
  out, last = _run(
    recurrence,
    plan,
    costs,
    tuple(_laid_out(x, padding, plan) for x in tokens),
    Gates(None if g is None else _laid_out(g, padding, plan), marks),
    jnp.pad(state.astype(jnp.float32), more).mT,
  )
  out = out[:, :time].reshape(batch, time, plan.heads, -1)
  return out[:, :, :heads], last[:, :heads].mT


def _laid_out(x: jax.Array, padding: int, plan: Plan) -> jax.Array:
  """Pads time and heads, and lays heads out as blocks take them.

  Vectors [batch, time, heads, dim] become [batch, time, heads * dim]; scalars
  [batch, time, heads] become rows [batch, heads, chunks, 1, chunk], float32.
  """
  batch, more = x.shape[0], plan.heads - x.shape[2]
  if x.ndim == 4:
    x = jnp.pad(x, ((0, 0), (0, padding), (0, more), (0, 0)))
    return x.reshape(*x.shape[:2], -1)
  x = jnp.pad(x.astype(jnp.float32), ((0, 0), (0, padding), (0, more)))
  x = x.reshape(batch, -1, 1, plan.chunk, plan.heads)
  return x.transpose(0, 4, 1, 2, 3)


def _marks(segments: jax.Array, padding: int, chunk: int) -> jax.Array:
  own = jnp.pad(segments, ((0, 0), (0, padding)), mode="edge")
  own = own.reshape(own.shape[0], -1, chunk)
  before = jnp.pad(own[:, :-1, -1:], ((0, 0), (1, 0), (0, 0)))
  return jnp.stack([own, jnp.broadcast_to(before, own.shape)], axis=2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(recurrence, plan, costs, tokens, gates, state):
  return _forward(recurrence, plan, costs, tokens, gates, state, save=False)[:2]


def _run_forward(recurrence, plan, costs, tokens, gates, state):
  out, last, saved = _forward(
    recurrence, plan, costs, tokens, gates, state, save=True
  )
  return (out, last), (tokens, gates, saved_by_name(plan.name, saved))


def _run_backward(recurrence, plan, costs, kept, cotangents):
  return _backward(recurrence, plan, costs, *kept, *cotangents)


_run.defvjp(_run_forward, _run_backward)


def _forward(
  recurrence: Recurrence,
  plan: Plan,
  costs: Costs,
  tokens: tuple[jax.Array, ...],
  gates: Gates,
  state: jax.Array,
  *,
  save: bool,
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]:
  """Returns (out, last state, saved).

  Tokens are [batch, time, heads * dim], states [batch, heads, V, K]; saved are
  the states before each chunk [batch, heads, chunks, V, K] and the operator's
  own arrays.
  """
  batch, heads, value_dim, key_dim = state.shape
  number = tokens[0].shape[1] // plan.chunk
  blocks = _Blocks(plan, lambda n: n)
  outs = [
    (tokens[2].dtype, tokens[2].shape, blocks.tokens(tokens[2])),
    (jnp.float32, state.shape, blocks.whole(state)),
  ]
  if save:
    sizes = [(value_dim, key_dim)]
    sizes += [(plan.chunk, plan.chunk)] * recurrence.inverses
    for size in sizes:
      shape = (batch, heads, number, *size)
      outs.append((jnp.float32, shape, blocks.chunks(size)))
  out, last, *saved = _call(
    functools.partial(_forward_kernel, recurrence, plan),
    plan,
    "forward",
    costs.forward,
    (batch, number),
    (tokens, gates, state),
    (
      tuple(blocks.tokens(x) for x in tokens),
      blocks.gates(gates),
      blocks.whole(state),
    ),
    outs,
    state.shape[2:],
  )
  return out, last, tuple(saved)


def _backward(recurrence, plan, costs, tokens, gates, saved, dout, dlast):
  """Returns the gradients of tokens, gates and the first state."""
  number = tokens[0].shape[1] // plan.chunk
  blocks = _Blocks(plan, lambda n: number - 1 - n)
  outs = [(x.dtype, x.shape, blocks.tokens(x)) for x in tokens]
  outs.append((jnp.float32, dlast.shape, blocks.whole(dlast)))
  if gates.g is not None:
    outs.append((jnp.float32, gates.g.shape, blocks.gates(gates).g))
  grads = _call(
    functools.partial(_backward_kernel, recurrence, plan),
    plan,
    "backward",
    costs.backward,
    (tokens[0].shape[0], number),
    (tokens, gates, saved, dout, dlast),
    (
      tuple(blocks.tokens(x) for x in tokens),
      blocks.gates(gates),
      tuple(blocks.chunks(x.shape[3:]) for x in saved),
      blocks.tokens(tokens[2]),
      blocks.whole(dlast),
    ),
    outs,
    dlast.shape[2:],
  )
  count = len(tokens)
  dg = None if gates.g is None else grads[count + 1].astype(gates.g.dtype)
  dmarks = None if gates.marks is None else jnp.zeros_like(gates.marks)
  return tuple(grads[:count]), Gates(dg, dmarks), grads[count]


def _call(body, plan, suffix, cost, size, args, specs, outs, state_shape):
  """Calls a kernel whose references come in the trees of its arguments."""
  flat, tree = jax.tree.flatten(args)
  count = len(flat)

  def kernel(*refs):
    *out_refs, scratch = refs[count:]
    body(*jax.tree.unflatten(tree, refs[:count]), out_refs, scratch)

  batch, number = size
  return pl.pallas_call(
    kernel,
    grid=(batch, plan.heads // plan.group, number),
    in_specs=jax.tree.leaves(specs),
    out_specs=[spec for _, _, spec in outs],
    out_shape=[jax.ShapeDtypeStruct(shape, dtype) for dtype, shape, _ in outs],
    scratch_shapes=[pltpu.VMEM((plan.group, *state_shape), jnp.float32)],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "arbitrary")
    ),
    cost_estimate=cost,
    interpret=plan.interpret,
    name=f"{plan.name}_{suffix}",
  )(*flat)


class _Blocks(NamedTuple):
  """The block that a program sees of each array; `at` orders the chunks."""

  plan: Plan
  at: Callable[[int], int]

  def tokens(self, x: jax.Array) -> pl.BlockSpec:
    if x.ndim == 5:
      return self.chunks((1, self.plan.chunk))
    width = self.plan.group * (x.shape[2] // self.plan.heads)
    return pl.BlockSpec(
      (None, self.plan.chunk, width), lambda b, h, n: (b, self.at(n), h)
    )

  def chunks(self, size: tuple[int, ...]) -> pl.BlockSpec:
    return pl.BlockSpec(
      (None, self.plan.group, None, *size),
      lambda b, h, n: (b, h, self.at(n), 0, 0),
    )

  def whole(self, state: jax.Array) -> pl.BlockSpec:
    return pl.BlockSpec(
      (None, self.plan.group, *state.shape[2:]), lambda b, h, n: (b, h, 0, 0)
    )

  def gates(self, gates: Gates) -> Any:
    g = marks = None
    if gates.g is not None:
      g = self.tokens(gates.g)
    if gates.marks is not None:
      marks = pl.BlockSpec(
        (None, None, 2, self.plan.chunk), lambda b, h, n: (b, self.at(n), 0, 0)
      )
    return Gates(g, marks)


def _forward_kernel(recurrence, plan, tokens, gates, first, outs, scratch):
  out_ref, last_ref, *saved_refs = outs
  step = pl.program_id(2)

  @pl.when(step == 0)
  def _():
    scratch[...] = first[...]

  for index in range(plan.group):
    state, products = scratch[index], plan.products
    parts = tuple(_head(ref, index, plan) for ref in tokens)
    decay = _decay(gates, index, plan, recurrence.early)
    solved = recurrence.solve(parts, decay, products)
    kept = solved[: recurrence.inverses]
    out, after = recurrence.forward(parts, decay, solved, state, products)
    _put(out_ref, index, plan, plan.scale * out)
    scratch[index] = after
    if saved_refs:
      for ref, x in zip(saved_refs, (state, *kept), strict=True):
        ref[index] = x

  @pl.when(step == pl.num_programs(2) - 1)
  def _():
    last_ref[...] = scratch[...]


def _backward_kernel(
  recurrence, plan, tokens, gates, saved, dout_ref, dlast, outs, scratch
):
  dtoken_refs, (dfirst, *dg_refs) = outs[: len(tokens)], outs[len(tokens) :]
  states, *inverses = saved
  step = pl.program_id(2)

  @pl.when(step == 0)
  def _():
    scratch[...] = dlast[...]

  for index in range(plan.group):
    products = plan.products
    parts = tuple(_head(ref, index, plan) for ref in tokens)
    decay = _decay(gates, index, plan, recurrence.early)
    kept = tuple(ref[index] for ref in inverses)
    dtokens, ddecay, before = recurrence.backward(
      parts,
      decay,
      recurrence.solve(parts, decay, products, kept),
      states[index],
      plan.scale * _head(dout_ref, index, plan).astype(jnp.float32),
      scratch[index],
      products,
    )
    for ref, x in zip(dtoken_refs, dtokens, strict=True):
      _put(ref, index, plan, x)
    scratch[index] = before
    for ref in dg_refs:
      _put(ref, index, plan, _decay_vjp(ddecay))

  @pl.when(step == pl.num_programs(2) - 1)
  def _():
    dfirst[...] = scratch[...]


def _head(ref: Any, index: int, plan: Plan) -> jax.Array:
  """Loads one head, [chunk, dim]; scalars lie as rows [group, 1, chunk]."""
  if len(ref.shape) == 3:
    return ref[index].mT
  dim = ref.shape[1] // plan.group
  return ref[:, index * dim : (index + 1) * dim]


def _put(ref: Any, index: int, plan: Plan, x: jax.Array) -> None:
  if len(ref.shape) == 3:
    ref[index] = x.mT.astype(ref.dtype)
    return
  dim = ref.shape[1] // plan.group
  ref[:, index * dim : (index + 1) * dim] = x.astype(ref.dtype)


def _decay(gates: Any, index: int, plan: Plan, early: bool) -> Decay | None:
  """Sums g of one head up, as a product with ones: cumsum does not lower."""
  if gates.g is None:
    return None
  g = _head(gates.g, index, plan).astype(jnp.float32)
  if g.shape[1] == 1:
    total = jnp.where(decays.lower(plan.chunk), g.mT, 0)
    total = jnp.sum(total, axis=1, keepdims=True)
  else:
    total = FULL.nn(decays.lower(plan.chunk).astype(jnp.float32), g)
  own = total - g if early else None
  if gates.marks is None:
    return Decay(total, own)
  return Decay(total, own, gates.marks[:1].mT, gates.marks[1:, :1])


def _decay_vjp(ddecay: Decay) -> jax.Array:
  """Returns the gradient of g, [chunk, 1 or K]."""
  chunk, width = ddecay.total.shape
  both = ddecay.total if ddecay.early is None else ddecay.total + ddecay.early
  if width == 1:
    later = jnp.where(decays.lower(chunk), both, 0)
    out = jnp.sum(later, axis=0, keepdims=True).mT
  else:
    out = FULL.tn(decays.lower(chunk).astype(jnp.float32), both)
  return out if ddecay.early is None else out - ddecay.early
