"""Turns a mixer class into an exported computation and back.

A candidate's Python runs once, here, to be traced. What leaves is StableHLO
for one platform at static shapes with its first derivative: the trainer and
the scorer run that and never import the candidate.

An exported function differentiates through its own exported derivative, which
computes the forward pass again from the inputs and so keeps nothing else. A
trainer that also checkpoints the layer should save the mixer's output, or the
mixer runs forward three times a step. There is no batching rule: map over
layers or seeds with `jax.lax.map` or a loop, never `jax.vmap`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from asi_evolve_jax.programs import fingerprint

VERSION = 1
_MAGIC = b"ASIMIXER"
_HEAD = struct.Struct("<8sI")

# Targets that compute and nothing else. Host callbacks and everything unknown
# stay out: an Artifact comes from a process that ran a stranger's code.
_LAPACK = frozenset(
  f"lapack_{kind}{name}_ffi"
  for kind in "sd"
  for name in ("trsm", "getrf", "geqrf", "orgqr", "potrf")
)
_ANYWHERE = frozenset(
  {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
)
CUSTOM_CALLS: dict[str, frozenset[str]] = {
  "cpu": _ANYWHERE | _LAPACK | {"AllocateBuffer"},
  "tpu": _ANYWHERE | {"tpu_custom_call", "AllocateBuffer"},
  "cuda": _ANYWHERE
  | {"cu_threefry2x32_ffi", "mosaic_gpu_v2", "AllocateBuffer"},
}


class ArtifactError(ValueError):
  """An Artifact that cannot be made or must not be run."""


@dataclasses.dataclass(frozen=True)
class MixerContext:
  """What a mixer is told besides its input.

  Attributes:
    depth: place of the layer in the stack, in [0, 1), scalar float32, traced.
    segment_ids: [batch, time] int32 of packed documents, or None: one each.
  """

  depth: jax.Array
  segment_ids: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Parameter:
  """One parameter array: its path in the nested dict, shape and dtype."""

  path: tuple[str, ...]
  shape: tuple[int, ...]
  dtype: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
  """What an Artifact says about itself; the first part of its bytes."""

  version: int
  platform: str
  batch: int
  time: int
  dim: int
  dtype: str  # of x and y; parameters have their own
  parameters: tuple[Parameter, ...]
  sections: dict[str, int]  # name -> bytes, in order
  artifact_hash: str
  jax: str

  @property
  def parameter_count(self) -> int:
    return sum(math.prod(p.shape) for p in self.parameters)


class Traceable:
  """A mixer class at a config, as pure functions of nested dicts.

  Attributes:
    init: key -> params, a nested dict of arrays named by text.
    apply: (params, x [batch, time, dim], depth []) -> y. Parameters come as
      they are kept, float32; the mixer casts what it multiplies x with.
    dim: width of x.
    params: nested dict of ShapeDtypeStruct.
    others: names of arrays that the constructor keeps outside of nnx.Param.
    leftovers: names of what a call left in the module (sow, state), known once
      `apply` has been traced.
  """

  def __init__(self, mixer_class: Callable[..., nnx.Module], config: Any):
    def build(key: jax.Array) -> nnx.Module:
      return mixer_class(config, rngs=nnx.Rngs(key))

    self._build = build
    self.dim = int(config.dim)
    self.leftovers: tuple[str, ...] = ()
    key = jax.eval_shape(lambda: jax.random.key(0))
    module = nnx.eval_shape(build, key)
    self._graph, state, rest = nnx.split(module, nnx.Param, ...)
    variables = [".".join(map(str, p)) for p, _ in nnx.to_flat_state(rest)]
    self.others = tuple(dict.fromkeys([*variables, *_stray(module)]))
    leaves, self._tree = jax.tree_util.tree_flatten_with_path(state)
    self._paths = [_path(entries) for entries, _ in leaves]
    self.params = self._nested([leaf for _, leaf in leaves])

  def init(self, key: jax.Array) -> dict[str, Any]:
    state = nnx.state(self._build(key), nnx.Param)
    return self._nested(jax.tree.leaves(state))

  def apply(
    self, params: Mapping[str, Any], x: jax.Array, depth: jax.Array
  ) -> jax.Array:
    leaves = [_lookup(params, path) for path in self._paths]
    state = jax.tree.unflatten(self._tree, leaves)
    module = nnx.merge(self._graph, state)
    y = module(x, MixerContext(depth))
    others = nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.Param)))
    self.leftovers = tuple(".".join(map(str, path)) for path, _ in others)
    return y

  def _nested(self, leaves: list[Any]) -> dict[str, Any]:
    return nested(dict(zip(self._paths, leaves, strict=True)))


def trace(
  mixer: Callable[..., nnx.Module] | Traceable,
  config: Any = None,
  *,
  batch: int,
  time: int,
  dtype: Any = jnp.float32,
  platform: str = "cpu",
) -> bytes:
  """Exports a mixer for one platform at static shapes.

  Args:
    mixer: a TokenMixer class, or what `Traceable` made of it.
    config: what its constructor gets; has `dim`. Ignored with a Traceable.
    batch: sequences a call.
    time: tokens a sequence.
    dtype: of the activations [batch, time, dim].
    platform: "cpu", "tpu" or "cuda".

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
  x = jax.ShapeDtypeStruct((batch, time, subject.dim), jnp.dtype(dtype))
  depth = jax.ShapeDtypeStruct((), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))

  def init(data: jax.Array) -> dict[str, Any]:
    return subject.init(jax.random.wrap_key_data(data))

  exporter = [platform]
  init_export = export.export(jax.jit(init), platforms=exporter)(key)

  def apply(params: Any, x: jax.Array, depth: jax.Array) -> jax.Array:
    # Not subject.apply: jit would find it traced, perhaps for another platform.
    return subject.apply(params, x, depth)

  apply_export = export.export(jax.jit(apply), platforms=exporter)(
    subject.params, x, depth
  )
  out = apply_export.out_avals
  if len(out) != 1 or out[0].shape != x.shape or out[0].dtype != x.dtype:
    raise ArtifactError(
      f"the mixer must return {x.dtype}{list(x.shape)}, it returns "
      f"{', '.join(f'{a.dtype}{list(a.shape)}' for a in out)}."
    )
  parameters = parameters_of(subject.params)
  sections = {
    # Order 1 is all that a first derivative through scan and checkpoint asks.
    "apply": bytes(apply_export.serialize(vjp_order=1)),
    "init": bytes(init_export.serialize()),
  }
  # Read back, it has its derivative at hand, which is traced anew otherwise.
  apply_export = export.deserialize(bytearray(sections["apply"]))
  header = Header(
    version=VERSION,
    platform=platform,
    batch=batch,
    time=time,
    dim=subject.dim,
    dtype=str(x.dtype),
    parameters=parameters,
    sections={name: len(data) for name, data in sections.items()},
    artifact_hash=_fingerprint(init_export, apply_export, platform),
    jax=jax.__version__,
  )
  text = json.dumps(dataclasses.asdict(header), sort_keys=True).encode()
  return _HEAD.pack(_MAGIC, len(text)) + text + b"".join(sections.values())


class LoadedMixer:
  """An Artifact that can run; made by `load`.

  Attributes:
    header: what it was traced at.
    params: nested dict of ShapeDtypeStruct, one layer's parameters.
    report: the header's facts as JSON types.
  """

  def __init__(
    self, header: Header, init: export.Exported, apply: export.Exported
  ):
    self.header = header
    self._init = init
    self._apply = apply
    self.params = nested(
      {
        p.path: jax.ShapeDtypeStruct(p.shape, jnp.dtype(p.dtype))
        for p in header.parameters
      }
    )
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
    params: dict[str, Any] = self._init.call(key)  # pyrefly: ignore
    return params

  def apply(
    self, params: Mapping[str, Any], x: jax.Array, depth: jax.Array
  ) -> jax.Array:
    """Returns y [batch, time, dim]; x must have the traced shape and dtype.

    Args:
      params: nested dict like `self.params`.
      x: [batch, time, dim].
      depth: scalar in [0, 1), of any real dtype.
    """
    return self._apply.call(params, x, jnp.asarray(depth, jnp.float32))


def read_header(payload: bytes) -> Header:
  """Returns the header of an Artifact without touching its functions.

  Raises:
    ArtifactError: if the bytes are no Artifact of this version.
  """
  try:
    magic, length = _HEAD.unpack_from(payload)
  except struct.error as error:
    raise ArtifactError("too short to be an Artifact.") from error
  if magic != _MAGIC:
    raise ArtifactError("these bytes are no Artifact: wrong first bytes.")
  text = payload[_HEAD.size : _HEAD.size + length]
  try:
    fields = json.loads(text)
    if fields["version"] != VERSION:
      raise ArtifactError(
        f"Artifact of version {fields['version']!r}, this code reads "
        f"{VERSION}: trace the Program again."
      )
    parameters = tuple(
      Parameter(
        tuple(str(n) for n in p["path"]),
        tuple(int(n) for n in p["shape"]),
        str(p["dtype"]),
      )
      for p in fields.pop("parameters")
    )
    sections = {str(k): int(v) for k, v in fields.pop("sections").items()}
    header = Header(parameters=parameters, sections=sections, **fields)
  except ArtifactError:
    raise
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ArtifactError(f"the Artifact's header is damaged: {error}") from error
  if list(sections) != ["apply", "init"] or min(sections.values()) < 0:
    raise ArtifactError(f"the Artifact has sections {sorted(sections)}.")
  size = _HEAD.size + length + sum(sections.values())
  if size != len(payload):
    raise ArtifactError(
      f"the Artifact should have {size} bytes, it has {len(payload)}."
    )
  return header


def load(payload: bytes) -> LoadedMixer:
  """Returns the mixer in `payload`; nothing in it can reach outside.

  Raises:
    ArtifactError: if it is damaged, its signature is not what its header
      says, its hash is another, or it makes a custom call that is not allowed.
  """
  header = read_header(payload)
  at = len(payload) - sum(header.sections.values())
  functions: dict[str, export.Exported] = {}
  for name, size in header.sections.items():
    try:
      functions[name] = export.deserialize(bytearray(payload[at : at + size]))
    except Exception as error:
      # The decoder raises whatever a damaged table makes it stumble over.
      raise ArtifactError(f"its function {name} is damaged: {error}") from error
    at += size
  mixer = LoadedMixer(header, functions["init"], functions["apply"])
  _check_signatures(mixer, functions)
  found = _fingerprint(functions["init"], functions["apply"], header.platform)
  if found != header.artifact_hash:
    raise ArtifactError(
      f"the Artifact says its hash is {header.artifact_hash}, it is {found}."
    )
  return mixer


def _check_signatures(
  mixer: LoadedMixer, functions: Mapping[str, export.Exported]
) -> None:
  header = mixer.header
  try:
    x = jax.ShapeDtypeStruct(
      (header.batch, header.time, header.dim), jnp.dtype(header.dtype)
    )
  except TypeError as error:
    raise ArtifactError(f"bad dtype {header.dtype!r}.") from error
  scalar = jax.ShapeDtypeStruct((), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
  expected = {
    "init": (((key,), {}), mixer.params),
    "apply": (((mixer.params, x, scalar), {}), x),
  }
  for name, function in functions.items():
    if tuple(function.platforms) != (header.platform,):
      raise ArtifactError(
        f"its function {name} is for {function.platforms}, not for "
        f"{header.platform}."
      )
    if function.nr_devices != 1:
      raise ArtifactError(
        f"its function {name} wants {function.nr_devices} devices, not 1."
      )
    takes, gives = expected[name]
    for what, tree, avals, wanted in (
      ("takes", function.in_tree, function.in_avals, takes),
      ("returns", function.out_tree, function.out_avals, gives),
    ):
      leaves, structure = jax.tree.flatten(wanted)
      same = tree == structure and [(a.shape, a.dtype) for a in avals] == [
        (b.shape, b.dtype) for b in leaves
      ]
      if not same:
        raise ArtifactError(
          f"its function {name} {what} {[str(a) for a in avals]}, the header "
          f"says {[f'{b.dtype}{list(b.shape)}' for b in leaves]}."
        )


def _fingerprint(
  init: export.Exported, apply: export.Exported, platform: str
) -> str:
  """Returns 32 hex digits that name a mixer's computation.

  A parameter is known by the computation that initialises it, so renaming it
  changes nothing. The derivative counts: a stopped gradient is another mixer.
  """
  seen: dict[str, int] = {}
  params = []
  for name in _outputs(init, platform, ["key"]):
    # Parameters born alike (two vectors of ones) stay apart by their order.
    seen[name] = seen.get(name, 0) + 1
    params.append(f"{name}.{seen[name]}")
  inputs = [*params, "x", "depth"]
  forward = _outputs(apply, platform, inputs)
  if not apply.has_vjp():
    raise ArtifactError("the Artifact lacks its derivative.")
  backward = _outputs(apply.vjp(), platform, [*inputs, "dy"])
  gradients = sorted(zip(params, backward, strict=False))
  return fingerprint.combine(
    platform,
    *forward,
    *backward[len(params) :],
    *(part for pair in gradients for part in pair),
  )


def _outputs(
  exported: export.Exported, platform: str, inputs: list[str]
) -> list[str]:
  try:
    module = fingerprint.Module(exported.mlir_module())
  except ValueError as error:
    raise ArtifactError(str(error)) from error
  unknown = sorted(module.custom_calls - CUSTOM_CALLS[platform])
  if unknown or module.effects or exported.ordered_effects:
    raise ArtifactError(
      "the mixer calls out of the computation: "
      f"{', '.join([*unknown, *sorted(module.effects)])}. Only "
      f"{', '.join(sorted(CUSTOM_CALLS[platform]))} are allowed on {platform}."
    )
  # Inputs that nothing reads are no parameters of the exported module.
  kept = exported.module_kept_var_idx
  if any(not 0 <= i < len(inputs) for i in kept):
    raise ArtifactError(f"an exported function reads inputs {kept}.")
  return module.outputs([inputs[i] for i in kept])


def parameters_of(params: Mapping[str, Any]) -> tuple[Parameter, ...]:
  """Returns the parameters in a nested dict of arrays or their shapes."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return tuple(
    Parameter(tuple(e.key for e in path), tuple(leaf.shape), str(leaf.dtype))
    for path, leaf in leaves
  )


def parameter_total(params: Mapping[str, Any]) -> int:
  """Returns the number of scalars in a nested dict of arrays."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def nested(leaves: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
  """Returns the nested dict with `leaves` at their paths."""
  tree: dict[str, Any] = {}
  for path, leaf in leaves.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
    node[path[-1]] = leaf
  return tree


def _stray(node: Any, name: str = "") -> Iterator[str]:
  """Yields the names of arrays in plain attributes, which NNX takes as static.

  Made in the constructor they are tracers of a trace that is over.
  """
  if isinstance(node, jax.Array):
    yield name
  elif isinstance(node, nnx.Module):
    for key, value in vars(node).items():
      yield from _stray(value, f"{name}.{key}".lstrip("."))
  elif isinstance(node, (list, tuple)):
    for i, value in enumerate(node):
      yield from _stray(value, f"{name}[{i}]")
  elif isinstance(node, dict):
    for key, value in node.items():
      yield from _stray(value, f"{name}[{key!r}]")


def _path(entries: Any) -> tuple[str, ...]:
  # The last entry is the field of the Variable that holds the array.
  return tuple(str(e.key) for e in entries[:-1])


def _lookup(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
  for name in path:
    tree = tree[name]
  return tree
