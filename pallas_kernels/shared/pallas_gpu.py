"""The pass over chunks as Pallas GPU kernels, one for all operators.

A program computes one block of values of one head and loops over the chunks,
with its part of the state in registers: blocks of programs share nothing on a
GPU, so the state cannot pass between steps of the grid as it does on a TPU.
Blocks of values keep the state small enough and give the device more programs.
What no state enters (weights between tokens, and the inverse of a delta rule, a
long chain of small products) is computed before, by a kernel with a program
for every chunk. Gradients of what all values share are sums over blocks, added
up outside.

This is Pallas' Triton form. JAX deprecates it from 0.11 on, but it is in all
versions this package takes; Mosaic GPU, its successor, still moves from one
to the next and needs the hardware to get right what Triton decides by itself:
layouts in registers, copies to shared memory and barriers. It drops a
`cost_estimate`, so none is given. Triton cannot cut rows out of values, so
those of the decay are loaded from where it lies, for which its running sum is
taken outside too.

No kernel here has run on a GPU. They are checked in the interpreter and lower
for CUDA. Triton 3.9 and ptxas also compiled those of the delta rule for Hopper
(bfloat16, dims 128 and 256; no GPU is needed), which set the sizes below: with
fewer than 64 rows warp-group products go unused and about as much spills a
token. Forward then spills at most 1.4 KB a thread; backward 1 to 9 KB, most
with a decay a channel and dim 256. Shared memory reaches 188 KB of 227, in the
backward pass of the diagonal-plus-rank-one rule.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.shared import decay as decays
from pallas_kernels.shared.chunk import Recurrence, saved_by_name
from pallas_kernels.shared.decay import Decay
from pallas_kernels.shared.products import SUB_CHUNK, KernelProducts

SMALLEST = 16  # rows and columns of a product of the matrix unit
_VALUES = 64  # columns of v in a block, at most
_ENTRIES = 8192  # of an array in a program: 32 registers of 256 threads


class Plan(NamedTuple):
  """The static part of a call.

  Attributes:
    chunk: tokens a chunk; a power of two and at least 16.
    scale: of the output.
    low: products of bfloat16 operands; see KernelProducts.
    interpret: whether this process has no GPU to run on.
    name: of the kernels, as compilers and profilers show it.
    sub_chunk: tokens that share a reference token; see decay.py.
  """

  chunk: int
  scale: float
  low: bool
  interpret: bool
  name: str
  sub_chunk: int = SUB_CHUNK

  @property
  def products(self) -> KernelProducts:
    """Float32 operands go as three TF32 each, which errs by about 2^-21."""
    exact = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    if self.interpret:  # CPUs do not take that
      return KernelProducts(self.low, cuts=False, sub_chunk=self.sub_chunk)
    return KernelProducts(
      self.low, cuts=False, precision=exact, sub_chunk=self.sub_chunk
    )


class Gates(NamedTuple):
  """What weights tokens: None for no decay, and for no packing.

  Attributes:
    total: running sums of the log decay inside each chunk, float32
      [batch, time, heads, 1 or K].
    segments: the number of each token's sequence, float32 [batch, time, 1].
  """

  total: Any
  segments: Any


def default_chunk(key_dim: int, low: bool) -> int:
  """Returns the tokens a chunk: 64, the rows of a warp group's product.

  Float32 (not `low`) takes fewer at large dims: it needs twice the room.
  """
  room = _ENTRIES // 2 // _power(key_dim)
  return 64 if low else max(SMALLEST, min(64, room))


def _block(state: jax.Array) -> int:
  """Returns the columns of v in a block, for a state [..., V, K]."""
  value_dim, key_dim = state.shape[2:]
  return max(SMALLEST, min(value_dim, _VALUES, _ENTRIES // key_dim))


def recur(
  recurrence: Recurrence,
  plan: Plan,
  tokens: tuple[jax.Array, ...],
  g: jax.Array | None,
  segments: jax.Array | None,
  state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Runs the recurrence by kernels that are differentiable once.

  Dims are padded with zeros to powers of two, and to 16 at least.

  Args:
    recurrence: the operator's mathematics.
    plan: sizes and choices.
    tokens: each [batch, time, heads, dim] or, one number a head,
      [batch, time, heads]; the third are the values.
    g: None, [batch, time, heads] or [batch, time, heads, K].
    segments: from chunks.numbered, [batch, time], or None; they need a g.
    state: [batch, heads, K, V].

  Returns:
    (out [batch, time, heads, V] in the dtype of the values, last state
    [batch, heads, K, V], float32).
  """
  time, (key_dim, value_dim) = tokens[0].shape[1], state.shape[2:]
  padding = -time % plan.chunk
  total = None
  if g is not None:
    g = _padded(g.astype(jnp.float32), padding)
    batch, _, heads, width = g.shape
    total = g.reshape(batch, -1, plan.chunk, heads, width)
    total = jnp.cumsum(total, axis=2).reshape(g.shape)
  if segments is not None:
    segments = jnp.pad(segments, ((0, 0), (0, padding)), mode="edge")
    segments = segments[..., None]
  out, last = _run(
    recurrence,
    plan,
    tuple(_padded(x, padding) for x in tokens),
    Gates(total, segments),
    _padded_state(state.astype(jnp.float32).mT),
  )
  return out[:, :time, :, :value_dim], last.mT[:, :, :key_dim, :value_dim]


def _power(size: int) -> int:
  return max(SMALLEST, 1 << (size - 1).bit_length())


def _padded(x: jax.Array, time: int) -> jax.Array:
  """Pads time and dims; one number a head becomes float32 of dim 1."""
  if x.ndim == 3:
    return jnp.pad(x.astype(jnp.float32), ((0, 0), (0, time), (0, 0)))[
      ..., None
    ]
  dim = x.shape[-1]
  return jnp.pad(x, ((0, 0), (0, time), (0, 0), (0, _power(dim) - dim)))


def _padded_state(state: jax.Array) -> jax.Array:
  more = [(0, _power(size) - size) for size in state.shape[2:]]
  return jnp.pad(state, ((0, 0), (0, 0), *more))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(recurrence, plan, tokens, gates, state):
  solved = _solve(recurrence, plan, tokens, gates)
  out, last = _forward(recurrence, plan, tokens, gates, solved, state)[:2]
  return out, last


def _run_forward(recurrence, plan, tokens, gates, state):
  solved = _solve(recurrence, plan, tokens, gates)
  out, last, *states = _forward(
    recurrence, plan, tokens, gates, solved, state, save=True
  )
  saved = saved_by_name(plan.name, (*states, solved))
  return (out, last), (tokens, gates, *saved)


def _run_backward(recurrence, plan, kept, cotangents):
  return _backward(recurrence, plan, *kept, *cotangents)


_run.defvjp(_run_forward, _run_backward)


def _solve(
  recurrence: Recurrence,
  plan: Plan,
  tokens: tuple[jax.Array, ...],
  gates: Gates,
) -> tuple[jax.Array, ...]:
  """Returns the operator's matrices, [batch, heads, chunks, chunk, chunk]."""
  batch, time, heads, _ = tokens[0].shape
  number = time // plan.chunk
  shape = (batch, heads, number, plan.chunk, plan.chunk)
  spec = pl.BlockSpec(
    (None, None, None, *shape[3:]), lambda n, h, b: (b, h, n, 0, 0)
  )
  return _call(
    functools.partial(_solve_kernel, recurrence, plan),
    plan,
    "solve",
    (number, heads, batch),
    (tokens, gates),
    (tuple(_tokens(x) for x in tokens), _gates(gates)),
    [(_kept_dtype(plan), shape, spec)] * recurrence.matrices,
  )


def _forward(
  recurrence: Recurrence,
  plan: Plan,
  tokens: tuple[jax.Array, ...],
  gates: Gates,
  solved: tuple[jax.Array, ...],
  state: jax.Array,
  *,
  save: bool = False,
) -> tuple[jax.Array, ...]:
  """Returns (out, last state) and, to `save`, the states before each chunk.

  States are [batch, heads, V, K], saved ones [batch, heads, chunks, V, K].
  """
  batch, heads, value_dim, key_dim = state.shape
  number = tokens[0].shape[1] // plan.chunk
  block = _block(state)
  v = tokens[2]
  outs = [
    (v.dtype, v.shape, _tokens(v, block)),
    (jnp.float32, state.shape, _state(state, block)),
  ]
  if save:
    shape = (batch, heads, number, value_dim, key_dim)
    outs.append((_kept_dtype(plan), shape, _chunks(shape, block)))
  return _call(
    functools.partial(_forward_kernel, recurrence, plan, number),
    plan,
    "forward",
    (value_dim // block, heads, batch),
    (tokens, gates, solved, state),
    (
      _blocks(tokens, block),
      _gates(gates),
      tuple(_chunks(x.shape) for x in solved),
      _state(state, block),
    ),
    outs,
  )


def _backward(recurrence, plan, tokens, gates, states, solved, dout, dlast):
  """Returns the gradients of tokens, gates and the first state."""
  batch, heads, value_dim, _ = dlast.shape
  number = tokens[0].shape[1] // plan.chunk
  block = _block(dlast)
  parts = value_dim // block

  def shared(x, dtype):
    dtype = dtype if parts == 1 else jnp.float32
    return dtype, (parts, *x.shape), _part(x)

  outs = [shared(x, x.dtype) for x in tokens]
  outs[2] = (tokens[2].dtype, tokens[2].shape, _tokens(tokens[2], block))
  outs.append((jnp.float32, dlast.shape, _state(dlast, block)))
  if gates.total is not None:
    outs += [shared(gates.total, jnp.float32)] * (1 + recurrence.early)
  grads = _call(
    functools.partial(_backward_kernel, recurrence, plan, number),
    plan,
    "backward",
    (parts, heads, batch),
    (tokens, gates, solved, states, dout, dlast),
    (
      _blocks(tokens, block),
      _gates(gates),
      tuple(_chunks(x.shape) for x in solved),
      _chunks(states.shape, block),
      _tokens(dout, block),
      _state(dlast, block),
    ),
    outs,
  )
  count = len(tokens)
  dtokens = tuple(
    x if n == 2 else jnp.sum(x, 0).astype(tokens[n].dtype)
    for n, x in enumerate(grads[:count])
  )
  dtotal = None
  if gates.total is not None:
    dtotal, *dearly = (jnp.sum(x, 0) for x in grads[count + 1 :])
    for x in dearly:
      dtotal = dtotal + _to_token_before(x, plan.chunk)
  dsegments = jax.tree.map(jnp.zeros_like, gates.segments)
  return dtokens, Gates(dtotal, dsegments), grads[count]


def _to_token_before(x: jax.Array, chunk: int) -> jax.Array:
  """Moves what tokens [batch, time, ...] have back by one in their chunk."""
  parts = x.reshape(x.shape[0], -1, chunk, *x.shape[2:])
  parts = jnp.pad(parts[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0), (0, 0)))
  return parts.reshape(x.shape)


def _kept_dtype(plan: Plan) -> Any:
  """What is kept only enters products, but for a term of the decay's."""
  return jnp.bfloat16 if plan.low else jnp.float32


def _call(body, plan, suffix, grid, args, specs, outs):
  """Calls a kernel whose references come in the trees of its arguments.

  Programs that differ in the grid's first axis run side by side: they share the
  keys of a head, or their decay, in the cache.
  """
  flat, tree = jax.tree.flatten(args)
  count = len(flat)

  def kernel(*refs):
    body(*jax.tree.unflatten(tree, refs[:count]), refs[count:])

  kernel.__name__ = f"{plan.name}_{suffix}"  # what the Triton form shows
  key_dim = args[0][0].shape[-1]
  return tuple(
    pl.pallas_call(
      kernel,
      grid=grid,
      in_specs=jax.tree.leaves(specs),
      out_specs=[spec for _, _, spec in outs],
      out_shape=[jax.ShapeDtypeStruct(shape, x) for x, shape, _ in outs],
      compiler_params=pltriton.CompilerParams(
        num_warps=4 if key_dim <= 64 else 8,
        num_stages=1,  # loads ahead would only add to what is live
      ),
      interpret=plan.interpret,
      name=kernel.__name__,
    )(*flat)
  )


# What a program sees of each array; the grid is (block, head, batch).


def _tokens(x: jax.Array, block: int | None = None) -> pl.BlockSpec:
  """All tokens [time, dim], or their block of values."""
  return pl.BlockSpec(
    (None, x.shape[1], None, block or x.shape[3]),
    lambda j, h, b: (b, 0, h, j if block else 0),
  )


def _blocks(
  tokens: tuple[jax.Array, ...], block: int
) -> tuple[pl.BlockSpec, ...]:
  """Values by blocks, other tokens whole."""
  return tuple(
    _tokens(x, block if n == 2 else None) for n, x in enumerate(tokens)
  )


def _part(x: jax.Array) -> pl.BlockSpec:
  """A block's part of a sum over blocks, [blocks, batch, time, heads, dim]."""
  return pl.BlockSpec(
    (None, None, x.shape[1], None, x.shape[3]),
    lambda j, h, b: (j, b, 0, h, 0),
  )


def _state(state: jax.Array, block: int) -> pl.BlockSpec:
  return pl.BlockSpec(
    (None, None, block, state.shape[3]), lambda j, h, b: (b, h, j, 0)
  )


def _chunks(shape: tuple[int, ...], block: int | None = None) -> pl.BlockSpec:
  """One matrix a chunk, or its block of rows."""
  _, _, number, rows, columns = shape
  return pl.BlockSpec(
    (None, None, number, block or rows, columns),
    lambda j, h, b: (b, h, 0, j if block else 0, 0),
  )


def _gates(gates: Gates) -> Gates:
  total = None if gates.total is None else _tokens(gates.total)
  if gates.segments is None:
    return Gates(total, None)
  size = (None, *gates.segments.shape[1:])
  return Gates(total, pl.BlockSpec(size, lambda j, h, b: (b, 0, 0)))


def _solve_kernel(recurrence, plan, tokens, gates, outs):
  n = pl.program_id(0)
  parts = tuple(ref[_rows(n, plan)] for ref in tokens)
  decay = _decay(gates, n, plan, recurrence.early)
  solved = recurrence.solve(parts, decay, plan.products)
  for ref, x in zip(outs, solved, strict=True):
    ref[...] = x.astype(ref.dtype)


def _forward_kernel(
  recurrence, plan, number, tokens, gates, solved, first, outs
):
  out_ref, last_ref, *state_refs = outs

  def visit(n, state):
    for ref in state_refs:
      ref[n] = state.astype(ref.dtype)
    out, after = recurrence.forward(
      tuple(ref[_rows(n, plan)] for ref in tokens),
      _decay(gates, n, plan, recurrence.early),
      tuple(ref[n] for ref in solved),
      state,
      plan.products,
    )
    out_ref[_rows(n, plan)] = (plan.scale * out).astype(out_ref.dtype)
    return after

  last_ref[...] = jax.lax.fori_loop(0, number, visit, first[...])


def _backward_kernel(
  recurrence, plan, number, tokens, gates, solved, states, dout_ref, dlast, outs
):
  count = len(tokens)
  dtoken_refs, dfirst, dgate_refs = outs[:count], outs[count], outs[count + 1 :]

  def visit(step, dstate):
    n = number - 1 - step
    rows = _rows(n, plan)
    dtokens, ddecay, before = recurrence.backward(
      tuple(ref[rows] for ref in tokens),
      _decay(gates, n, plan, recurrence.early),
      tuple(ref[n] for ref in solved),
      states[n].astype(jnp.float32),
      plan.scale * dout_ref[rows].astype(jnp.float32),
      dstate,
      plan.products,
    )
    grads = dtokens
    if dgate_refs:
      grads = (*grads, ddecay.total)
    if len(dgate_refs) == 2:
      grads = (*grads, ddecay.early)
    for ref, x in zip((*dtoken_refs, *dgate_refs), grads, strict=True):
      ref[rows] = x.astype(ref.dtype)
    return before

  dfirst[...] = jax.lax.fori_loop(0, number, visit, dlast[...])


def _rows(n: Any, plan: Plan) -> tuple[Any, Any]:
  return pl.ds(n * plan.chunk, plan.chunk), slice(None)


def _decay(gates: Gates, n: Any, plan: Plan, early: bool) -> Decay | None:
  """Loads the decay of chunk `n`; its rows are loaded where they are used."""
  if gates.total is None:
    return None
  start = n * plan.chunk
  last = pl.ds(start + plan.chunk - 1, 1), slice(None)
  token = decays.iota((plan.chunk,), 0)

  def picked(block: int, row: int) -> jax.Array:
    return gates.total[start + row + token - (token & (block - 1)), :]

  total = gates.total[_rows(n, plan)]
  own = None
  if early:  # the token before, in the chunk
    own = gates.total[start + jnp.maximum(token - 1, 0), :]
    own = jnp.where(decays.iota(own.shape, 0) > 0, own, 0)
  end = gates.total[last]
  if gates.segments is None:
    return Decay(total, own, rows=decays.Rows(end, None, picked))
  # No sequence but the first, number 0, continues what precedes the row.
  before = gates.segments[pl.ds(jnp.maximum(start - 1, 0), 1), :]
  return Decay(
    total,
    own,
    gates.segments[_rows(n, plan)],
    before,
    decays.Rows(end, gates.segments[last], picked),
  )
