"""An exported mixer: how it is made, kept, read and called.

A candidate's Python runs once, to be traced. What leaves is StableHLO for one
platform at static shapes with its first derivative: gates, trainer and scorer
run that and never import the candidate.

An exported function differentiates through its own exported derivative, which
computes the forward pass again from the inputs and so keeps nothing else. A
trainer that also checkpoints the layer should save the mixer's output, or the
mixer runs forward three times a step. There is no batching rule: map over
layers or seeds with `jax.lax.map` or a loop, never `jax.vmap`.

An Artifact runs at one or more lengths: `LoadedMixer.apply` picks the function
for the shape of x. The first length is the one it trains at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from asi_evolve_jax.programs import exported, fingerprint
from asi_evolve_jax.programs.exported import CUSTOM_CALLS, ArtifactError
from asi_evolve_jax.programs.header import (
  VERSION,
  Header,
  pack,
  read_header,
  unpack,
)
from asi_evolve_jax.programs.traceable import Traceable, parameters_of

__all__ = [
  "ArtifactError",
  "Header",
  "LoadedMixer",
  "keep",
  "load",
  "read_header",
  "trace",
]

_KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)  # of jax.random.key_data
_SCALAR = jax.ShapeDtypeStruct((), jnp.float32)


def trace(
  mixer: Callable[..., nnx.Module] | Traceable,
  config: Any = None,
  *,
  batch: int,
  time: int,
  more_times: Sequence[int] = (),
  dtype: Any = jnp.float32,
  platform: str = "cpu",
  recurrent: bool = False,
) -> bytes:
  """Exports a mixer for one platform at static shapes.

  Args:
    mixer: a TokenMixer class, or what `Traceable` made of it.
    config: what its constructor gets; has `dim`. Ignored with a Traceable.
    batch: sequences a call.
    time: tokens a sequence.
    more_times: further lengths that it must run at.
    dtype: of the activations [batch, time, dim].
    platform: "cpu", "tpu" or "cuda".
    recurrent: exports `init_state` and `step` too, where the mixer has them.

  Returns:
    The Artifact: a header and the serialised functions, for `load`.

  Raises:
    ArtifactError: if it keeps arrays that are no nnx.Param, or its result is
      not [batch, time, dim] of `dtype`, or it calls what is not allowed.
  """
  if platform not in CUSTOM_CALLS:
    raise ArtifactError(
      f"platform {platform!r} is none of {', '.join(CUSTOM_CALLS)}."
    )
  subject = mixer if isinstance(mixer, Traceable) else Traceable(mixer, config)
  if subject.others:
    raise ArtifactError(
      "a mixer's arrays must all be nnx.Param; it also holds "
      f"{', '.join(subject.others)}."
    )
  dtype = jnp.dtype(dtype)

  def serialized(fn: Callable[..., Any], *args: Any, order: int = 0) -> bytes:
    function = export.export(jax.jit(fn), platforms=[platform])(*args)
    _check_result(function, args, order)
    return bytes(function.serialize(vjp_order=order))

  def init(data: jax.Array) -> dict[str, Any]:
    return subject.init(jax.random.wrap_key_data(data))

  def apply(params: Any, x: jax.Array, depth: jax.Array) -> jax.Array:
    # Not subject.apply: jit would find it traced, perhaps for another platform.
    return subject.apply(params, x, depth)

  times = tuple(dict.fromkeys((time, *more_times)))
  sections = {}
  for t in times:
    x = jax.ShapeDtypeStruct((batch, t, subject.dim), dtype)
    # Order 1 is all that a first derivative through scan and checkpoint asks.
    sections[f"apply.{t}"] = serialized(
      apply, subject.params, x, _SCALAR, order=1
    )
  sections["init"] = serialized(init, _KEY)
  recurrent = recurrent and subject.recurrent
  if recurrent:

    def init_state(params: Any) -> list[Any]:
      return subject.init_state(params, batch)

    state = jax.eval_shape(init_state, subject.params)
    token = jax.ShapeDtypeStruct((batch, subject.dim), dtype)
    sections["init_state"] = serialized(init_state, subject.params)
    sections["step"] = serialized(
      lambda *args: subject.step(*args), subject.params, token, _SCALAR, state
    )
  header = Header(
    version=VERSION,
    platform=platform,
    batch=batch,
    times=times,
    dim=subject.dim,
    dtype=str(dtype),
    recurrent=recurrent,
    parameters=parameters_of(subject.params),
    sections={name: len(data) for name, data in sections.items()},
    artifact_hash="",
    jax=jax.__version__,
  )
  return _named(header, sections, _read(header, sections))


def _check_result(
  function: export.Exported, args: Sequence[Any], order: int
) -> None:
  """Says early what is wrong with the result of a mixer's own apply."""
  out = function.out_avals
  if order and (len(out), out[0].shape, out[0].dtype) != (
    1,
    args[1].shape,
    args[1].dtype,
  ):
    raise ArtifactError(
      f"the mixer must return {args[1].dtype}{list(args[1].shape)}, it returns "
      f"{', '.join(f'{a.dtype}{list(a.shape)}' for a in out)}."
    )


def _named(
  header: Header,
  sections: Mapping[str, bytes],
  functions: Mapping[str, exported.Function],
) -> bytes:
  """Returns the bytes of an Artifact, named by what its functions compute."""
  name = LoadedMixer(header, functions).name()
  return pack(dataclasses.replace(header, artifact_hash=name), sections)


class LoadedMixer:
  """An Artifact that can run; made by `load`.

  Attributes:
    header: what it was traced at.
    functions: the exported functions, by the names of their sections.
    params: nested dict of ShapeDtypeStruct, one layer's parameters.
    report: the header's facts as JSON types.
  """

  def __init__(
    self, header: Header, functions: Mapping[str, exported.Function]
  ):
    self.header = header
    self.functions = functions
    self.params = header.structs()
    self.report: dict[str, Any] = {
      "artifact_hash": header.artifact_hash,
      "mixer_parameters": header.parameter_count,
      "platform": header.platform,
      "shape": [header.batch, header.time, header.dim],
      "dtype": header.dtype,
    }

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns one layer's parameters from a key (typed or raw uint32)."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
      key = jax.random.key_data(key)
    return self._call("init", key)

  def apply(
    self, params: Mapping[str, Any], x: jax.Array, depth: jax.Array
  ) -> jax.Array:
    """Returns y [batch, time, dim]; x must have a traced shape and dtype.

    Args:
      params: nested dict like `self.params`.
      x: [batch, time, dim], time one of `header.times`.
      depth: scalar in [0, 1), of any real dtype.

    Raises:
      ArtifactError: if it was not traced at this length.
    """
    return self._call(f"apply.{x.shape[1]}", params, x, _depth(depth))

  def init_state(self, params: Mapping[str, Any]) -> list[jax.Array]:
    """Returns the arrays of the state before the first token."""
    return self._call("init_state", params)

  def step(
    self,
    params: Mapping[str, Any],
    x: jax.Array,
    depth: jax.Array,
    state: list[jax.Array],
  ) -> tuple[jax.Array, list[jax.Array]]:
    """Returns y [batch, dim] of one token x [batch, dim], and the next state.

    Raises:
      ArtifactError: if the mixer has no recurrent form.
    """
    return self._call("step", params, x, _depth(depth), state)

  def _call(self, section: str, *args: Any) -> Any:
    function = self.functions.get(section)
    if function is None:
      raise ArtifactError(
        f"the Artifact has no function {section}, only "
        f"{', '.join(self.functions)}."
      )
    return function.exported.call(*args)

  def name(self) -> str:
    """Returns 32 hex digits that name the computation.

    A parameter is known by the computation that initialises it, so renaming it
    changes nothing. The derivative counts: a stopped gradient is another mixer.
    """
    init = self.functions["init"]
    seen: dict[str, int] = {}
    params = []
    for name in exported.hashes(init.exported, init.module, ["key"]):
      # Parameters born alike (two vectors of ones) stay apart by their order.
      seen[name] = seen.get(name, 0) + 1
      params.append(f"{name}.{seen[name]}")
    parts = [self.header.platform]
    for time in self.header.times:
      function = self.functions[f"apply.{time}"]
      assert function.derivative is not None
      assert function.pullback is not None
      inputs = [*params, "x", "depth"]
      parts += exported.hashes(function.exported, function.module, inputs)
      backward = exported.hashes(
        function.pullback, function.derivative, [*inputs, "dy"]
      )
      gradients = sorted(zip(params, backward, strict=False))
      parts += backward[len(params) :]
      parts += (part for pair in gradients for part in pair)
    return fingerprint.combine(*parts)


def load(payload: bytes) -> LoadedMixer:
  """Returns the mixer in `payload`; nothing in it can reach outside.

  Raises:
    ArtifactError: if it is damaged, its signature is not what its header
      says, its hash is another, or it makes a custom call that is not allowed.
  """
  header, sections = unpack(payload)
  mixer = LoadedMixer(header, _read(header, sections))
  found = mixer.name()
  if found != header.artifact_hash:
    raise ArtifactError(
      f"the Artifact says its hash is {header.artifact_hash}, it is {found}."
    )
  return mixer


def keep(mixer: LoadedMixer, payload: bytes, times: Sequence[int]) -> bytes:
  """Returns the Artifact with the lengths `times` alone, its own first.

  What is left out: other lengths and the recurrent form.

  Args:
    mixer: what `load` made of `payload`.
    payload: the Artifact.
    times: tokens.

  Raises:
    ArtifactError: if the Artifact cannot be read, or lacks a length.
  """
  header, sections = unpack(payload)
  names = [*(f"apply.{t}" for t in times), "init"]
  missing = [name for name in names if name not in sections]
  if missing:
    raise ArtifactError(f"the Artifact has no {', '.join(missing)}.")
  kept = {name: sections[name] for name in names}
  header = dataclasses.replace(
    header,
    times=tuple(times),
    recurrent=False,
    sections={name: len(data) for name, data in kept.items()},
  )
  return _named(header, kept, {name: mixer.functions[name] for name in names})


def _read(
  header: Header, sections: Mapping[str, bytes]
) -> dict[str, exported.Function]:
  """Returns the functions, each checked against what the header says."""
  params = header.structs()
  dtype = jnp.dtype(header.dtype)

  def read(name: str, takes: Any, gives: Any, derivative: bool = False) -> None:
    functions[name] = exported.read(
      name,
      sections[name],
      header.platform,
      takes,
      gives,
      parameters=header.parameter_count,
      derivative=derivative,
    )

  functions: dict[str, exported.Function] = {}
  for time in header.times:
    x = jax.ShapeDtypeStruct((header.batch, time, header.dim), dtype)
    read(f"apply.{time}", (params, x, _SCALAR), x, derivative=True)
  read("init", (_KEY,), params)
  if header.recurrent:
    state = _state(sections["init_state"])
    token = jax.ShapeDtypeStruct((header.batch, header.dim), dtype)
    read("init_state", (params,), state)
    read("step", (params, token, _SCALAR, state), (token, state))
  return functions


def _state(data: bytes) -> list[jax.ShapeDtypeStruct]:
  """Returns what `init_state` says it returns, the header does not tell."""
  try:
    avals = export.deserialize(bytearray(data)).out_avals
  except Exception as error:
    raise ArtifactError(
      f"its function init_state is damaged: {error}"
    ) from error
  return [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]


def _depth(depth: jax.Array) -> jax.Array:
  return jnp.asarray(depth, jnp.float32)
