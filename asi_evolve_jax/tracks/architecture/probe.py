"""Runs an exported mixer on small inputs, for the gates that need numbers.

Compiling is most of what a check costs, so everything goes through one
function a length, compiled with XLA's optimisations off: six times faster to
make and some three times slower to run, for a handful of runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from asi_evolve_jax.evaluation.derivative_gates import GRADIENT
from asi_evolve_jax.programs.artifact import LoadedMixer

# Not promised by XLA, so a compiler that does not know one does without it.
_KEPT: dict[str, bool | str] = {
  "xla_backend_optimization_level": "0",
  "xla_llvm_disable_expensive_passes": True,
}
_FAST_COMPILE = ({**_KEPT, "xla_cpu_use_fusion_emitters": False}, _KEPT)
# Zero initialisation would hide what a path does, so tests of what depends on
# what run at parameters moved by this share of their scale.
_JITTER = 0.1
# Over what the normalised residual stream brings.
_LARGE = 10.0
# Different tokens in an input: as in training, the same vectors come again.
_TOKENS = 64
INPUT = "the input"


class Probe:
  """A mixer at its own initialisation and at parameters moved a little.

  Attributes:
    x, other: [batch, time, dim] independent inputs of unit variance, each of
      few different vectors, as normalised embeddings are.
    point: the moved parameters and x, by name, for checks of derivatives.

  Args:
    mixer: to run.
    seed: of all random numbers, below 2^32.
  """

  def __init__(self, mixer: LoadedMixer, seed: int = 0):
    self._mixer = mixer
    self._dtype = jnp.dtype(mixer.header.dtype)
    self.rng = np.random.default_rng(seed)
    self.x = self.input(mixer.header.time)
    self.other = self.input(mixer.header.time)
    key = jax.random.key_data(jax.random.key(seed))
    start = _compile(mixer.init, key)(key)
    self._start = jax.tree.map(np.asarray, start)
    self._moved = jax.tree.map(lambda p: _jitter(p, self.rng), self._start)
    leaves, self._tree = jax.tree_util.tree_flatten_with_path(self._moved)
    self._names = [".".join(e.key for e in path) for path, _ in leaves]
    self.point = {
      **dict(zip(self._names, [leaf for _, leaf in leaves], strict=True)),
      INPUT: self.x,
    }

  def input(self, time: int) -> np.ndarray:
    """Returns a new x [batch, time, dim]."""
    header = self._mixer.header
    table = self.rng.standard_normal((_TOKENS, header.dim))
    tokens = self.rng.integers(0, _TOKENS, (header.batch, time))
    return table[tokens].astype(self._dtype)

  def normal(self) -> np.ndarray:
    """Returns new normal numbers of the shape of x."""
    return self.rng.standard_normal(self.x.shape).astype(self._dtype)

  def results(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns y and all gradients at initialisation, in the first layer.

    Args:
      x: [batch, time, dim] at any length of the Artifact.
    """
    dy = np.resize(self.other, x.shape)
    y, params, dx = self._run(x.shape[1])(self._start, x, np.float32(0), dy)
    start = jax.tree.leaves(self._start)
    return {
      **{
        f"the initial {name}": leaf
        for name, leaf in zip(self._names, start, strict=True)
      },
      **self._named(y, params, dx),
    }

  def at(self, depth: np.float32) -> Layer:
    """Returns the mixer at its moved parameters, as the layer at `depth`."""
    return Layer(self, depth)

  def run(
    self, point: Mapping[str, np.ndarray], depth: np.float32, dy: np.ndarray
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns y at any point, and the cotangents of all that it holds."""
    x = point[INPUT]
    y, params, dx = self._run(x.shape[1])(
      self._nested(point), x, depth, dy.astype(self._dtype)
    )
    leaves = map(np.asarray, jax.tree.leaves(params))
    gradients = dict(zip(self._names, leaves, strict=True))
    return np.asarray(y), {**gradients, INPUT: np.asarray(dx)}

  def value(
    self, point: Mapping[str, np.ndarray], depth: np.float32
  ) -> np.ndarray:
    """Returns y at any point with x of the length that trains."""
    return np.asarray(self._apply(self._nested(point), point[INPUT], depth))

  @functools.cached_property
  def _apply(self) -> Any:
    return _compile(self._mixer.apply, self._moved, self.x, np.float32(0))

  def recurrent(self, depth: np.float32) -> np.ndarray:
    """Returns y for x [batch, time, dim], computed token by token."""
    return np.asarray(self._recurrent(self._moved, self.x, depth))

  @functools.cached_property
  def _recurrent(self) -> Any:
    mixer = self._mixer

    def run(params: Any, x: jax.Array, depth: jax.Array) -> jax.Array:
      def step(state: Any, token: jax.Array) -> Any:
        y, state = mixer.step(params, token, depth, state)
        return state, y

      _, y = jax.lax.scan(step, mixer.init_state(params), x.swapaxes(0, 1))
      return y.swapaxes(0, 1)

    return _compile(run, self._moved, self.x, np.float32(0))

  def moved_results(self, depth: np.float32) -> dict[str, np.ndarray]:
    """Returns y and all gradients at the moved parameters."""
    run = self._run(self.x.shape[1])
    return self._named(*run(self._moved, self.x, depth, self.other))

  def sharded(self, depth: np.float32) -> tuple[int, dict[str, np.ndarray]]:
    """Returns the number of devices, and `moved_results` spread over them.

    The batch is split, and of every parameter its largest axis that divides,
    as fully sharded training does. One device: there are no more, or the batch
    does not divide.
    """
    count = math.gcd(jax.device_count(), self.x.shape[0])
    mesh = Mesh(
      np.array(jax.devices()[:count]), ("fsdp",), axis_types=(AxisType.Auto,)
    )

    def split(shape: tuple[int, ...]) -> NamedSharding:
      spec: list[str | None] = [None] * len(shape)
      fitting = [i for i, n in enumerate(shape) if n % count == 0]
      if fitting:
        spec[max(fitting, key=lambda i: shape[i])] = "fsdp"
      return NamedSharding(mesh, PartitionSpec(*spec))

    params = jax.tree.map(
      lambda p: jax.device_put(p, split(p.shape)), self._moved
    )
    batch = NamedSharding(mesh, PartitionSpec("fsdp"))
    x, dy = (jax.device_put(a, batch) for a in (self.x, self.other))
    place = jax.device_put(depth, NamedSharding(mesh, PartitionSpec()))
    run = _compile(self._value_and_pullback, params, x, place, dy)
    return count, self._named(*run(params, x, place, dy))

  def inputs(self) -> dict[str, np.ndarray]:
    """Returns inputs that a mixer must survive, by what they are."""
    repeated = np.broadcast_to(self.x[:, :1], self.x.shape).copy()
    return {
      "ordinary inputs": self.x,
      f"inputs {_LARGE:g} times as large": (_LARGE * self.x).astype(
        self._dtype
      ),
      "a sequence of equal tokens": repeated,
      "inputs that are all zero": np.zeros_like(self.x),
    }

  def _value_and_pullback(
    self, params: Any, x: jax.Array, depth: jax.Array, dy: jax.Array
  ) -> tuple[jax.Array, Any, jax.Array]:
    y, pull = jax.vjp(lambda p, x: self._mixer.apply(p, x, depth), params, x)
    return y, *pull(dy)

  @functools.cache  # noqa: B019  (a Probe lives as long as its process)
  def _run(self, time: int) -> Any:
    header = self._mixer.header
    x = jax.ShapeDtypeStruct((header.batch, time, header.dim), self._dtype)
    depth = jax.ShapeDtypeStruct((), jnp.float32)
    return _compile(self._value_and_pullback, self._mixer.params, x, depth, x)

  def _nested(self, point: Mapping[str, np.ndarray]) -> Any:
    return jax.tree.unflatten(self._tree, [point[name] for name in self._names])

  def _named(self, y: Any, params: Any, dx: Any) -> dict[str, np.ndarray]:
    leaves = zip(self._names, jax.tree.leaves(params), strict=True)
    return {
      "the result": np.asarray(y),
      **{f"{GRADIENT}{name}": np.asarray(leaf) for name, leaf in leaves},
      f"{GRADIENT}{INPUT}": np.asarray(dx),
    }


class Layer:
  """A Probe's mixer at one depth, as gates take it; made by `Probe.at`.

  Attributes:
    depth: that it is asked at.
  """

  def __init__(self, probe: Probe, depth: np.float32):
    self.depth = depth
    self._probe = probe

  def forward(self, x: np.ndarray) -> np.ndarray:
    """Returns y [batch, time, dim]."""
    return self.value({**self._probe.point, INPUT: x})

  def run(self, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns y and the cotangent of x."""
    point = {**self._probe.point, INPUT: x}
    y, gradients = self._probe.run(point, self.depth, dy)
    return y, gradients[INPUT]

  def parameter_gradients(
    self, x: np.ndarray, dy: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns the cotangents of the parameters by name."""
    found = self.gradients({**self._probe.point, INPUT: x}, dy)
    del found[INPUT]
    return found

  def value(self, point: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns y at any point."""
    return self._probe.value(point, self.depth)

  def gradients(
    self, point: Mapping[str, np.ndarray], dy: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns the cotangents of all that `point` holds."""
    return self._probe.run(point, self.depth, dy)[1]


def _jitter(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  scale = float(np.sqrt(np.mean(np.square(p, dtype=np.float64)))) or 1.0
  noise = rng.standard_normal(p.shape) * (_JITTER * scale)
  return (p + noise).astype(p.dtype)


def _compile(fn: Any, *args: Any) -> Any:
  lowered = jax.jit(fn).lower(*args)
  for options in _FAST_COMPILE:
    try:
      return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:
      continue
  return lowered.compile()
