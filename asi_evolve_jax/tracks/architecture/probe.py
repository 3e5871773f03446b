"""Runs an exported mixer on small inputs, for the gates that need numbers.

Compiling is most of what a check costs, so everything goes through one
function, compiled with XLA's optimisations off: six times faster to make and
some three times slower to run, for a handful of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asi_evolve_jax.programs.artifact import LoadedMixer

# Not promised by XLA, so a compiler that does not know them compiles as usual.
_FAST_COMPILE: dict[str, bool | str] = {
  "xla_backend_optimization_level": "0",
  "xla_llvm_disable_expensive_passes": True,
  "xla_cpu_use_fusion_emitters": False,
}
# Zero initialisation would hide what a path does, so tests of what depends on
# what run at parameters moved by this share of their scale.
_JITTER = 0.1
# Over what the normalised residual stream brings.
_LARGE = 10.0


class Probe:
  """A mixer at its own initialisation and at one moved a little.

  Attributes:
    x, other: [batch, time, dim] independent inputs of unit variance.
  """

  def __init__(self, mixer: LoadedMixer, seed: int = 0):
    header = mixer.header
    key = jax.random.key_data(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    shape = (header.batch, header.time, header.dim)
    self._dtype = jnp.dtype(header.dtype)
    self.x = rng.standard_normal(shape).astype(self._dtype)
    self.other = rng.standard_normal(shape).astype(self._dtype)

    def value_and_pullback(
      params: Mapping[str, Any], x: jax.Array, depth: jax.Array, dy: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array]:
      y, pull = jax.vjp(lambda p, x: mixer.apply(p, x, depth), params, x)
      return y, *pull(dy)

    start = _compile(mixer.init, key)(key)
    self._start = jax.tree.map(np.asarray, start)
    self._moved = jax.tree.map(lambda p: _jitter(p, rng), self._start)
    self._run = _compile(
      value_and_pullback, mixer.params, self.x, np.float32(0), self.x
    )

  def results(
    self, x: np.ndarray, *, moved: bool = False
  ) -> dict[str, np.ndarray]:
    """Returns y and all gradients at initialisation, in the first layer.

    Or, `moved`, at the moved parameters in the middle.
    """
    start = self._moved if moved else self._start
    depth = np.float32(0.5 if moved else 0)
    y, params, dx = self._run(start, x, depth, self.other)
    leaves, _ = jax.tree_util.tree_flatten_with_path((self._start, params))
    names = [".".join(e.key for e in path[1:]) for path, _ in leaves]
    half = len(leaves) // 2
    values = {
      f"the initial {name}": np.asarray(leaf)
      for name, (_, leaf) in zip(names[:half], leaves[:half], strict=True)
    }
    values["the result"] = np.asarray(y)
    for name, (_, leaf) in zip(names[half:], leaves[half:], strict=True):
      values[f"the gradient of {name}"] = np.asarray(leaf)
    values["the gradient of the input"] = np.asarray(dx)
    return values

  def forward(self, x: np.ndarray) -> np.ndarray:
    """Returns y [batch, time, dim] at the moved parameters."""
    y, _, _ = self._run(self._moved, x, np.float32(0.5), np.zeros_like(x))
    return np.asarray(y)

  def pullback(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Returns the cotangent of x at the moved parameters."""
    _, _, dx = self._run(
      self._moved, x, np.float32(0.5), dy.astype(self._dtype)
    )
    return np.asarray(dx)

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


def _jitter(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  scale = float(np.sqrt(np.mean(np.square(p, dtype=np.float64)))) or 1.0
  noise = rng.standard_normal(p.shape) * (_JITTER * scale)
  return (p + noise).astype(p.dtype)


def _compile(fn: Any, *args: Any) -> Any:
  lowered = jax.jit(fn).lower(*args)
  try:
    return lowered.compile(compiler_options=_FAST_COMPILE)
  except jax.errors.JaxRuntimeError:
    return lowered.compile()
