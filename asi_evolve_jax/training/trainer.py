"""The compiled steps that all training here is made of.

One program for training and one for evaluation, at one shape: text and the
synthetic tasks run through both, since tokens, targets, weights and learning
rate are arguments. A seed costs no compilation either.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from asi_evolve_jax.training import allocator, sharding
from asi_evolve_jax.training.examples import Examples, text_examples

State = dict[str, Any]  # {"params", "optimizer"}
Placed = tuple[jax.Array, jax.Array, jax.Array]  # tokens, targets, weights

_STACKED = ("blocks", "mixers")  # their leaves have an axis of layers

# Short runs on CPU wait for LLVM more than for arithmetic. Measured on a small
# model: the train step compiles in half the time and runs as fast, since its
# products are library calls either way.
_QUICK = {
  "xla_backend_optimization_level": 1,
  "xla_cpu_use_fusion_emitters": False,
}
_ONCE = {**_QUICK, "xla_backend_optimization_level": 0}


class Model(Protocol):
  """What is trained; models.language_model.LanguageModel is one."""

  def init(self, key: jax.Array) -> dict[str, Any]: ...

  def loss(
    self,
    params: dict[str, Any],
    tokens: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
  ) -> jax.Array: ...

  def scores(
    self, params: dict[str, Any], tokens: jax.Array, targets: jax.Array
  ) -> tuple[jax.Array, jax.Array]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """AdamW (Loshchilov and Hutter 2019) with warm-up and cosine decay.

  Attributes:
    learning_rate: at the peak.
    warmup: steps of linear warm-up.
    final_ratio: the last learning rate over the peak.
    beta1: decay of the first moment.
    beta2: decay of the second moment.
    weight_decay: of matrices; vectors and norms are left alone.
    clip: largest global norm of the gradient.
  """

  learning_rate: float = 3e-3
  warmup: int = 20
  final_ratio: float = 0.1
  beta1: float = 0.9
  beta2: float = 0.95
  weight_decay: float = 0.1
  clip: float = 1.0

  def schedule(self, steps: int, peak: float | None = None) -> np.ndarray:
    """Returns the learning rate of each step, float32 [steps].

    Args:
      steps: of the whole run.
      peak: instead of `learning_rate`.
    """
    shape = _schedule(steps, min(self.warmup, steps - 1), self.final_ratio)
    return shape * np.float32(self.learning_rate if peak is None else peak)


@functools.lru_cache(maxsize=32)
def _schedule(steps: int, warmup: int, final_ratio: float) -> np.ndarray:
  """Returns the learning rate over its peak, float32 [steps]."""
  rate = optax.warmup_cosine_decay_schedule(
    # The first step should move something.
    init_value=1 / (warmup + 1),
    peak_value=1.0,
    warmup_steps=warmup,
    decay_steps=steps,
    end_value=final_ratio,
  )
  # One small program instead of one for each of its operations.
  return np.asarray(jax.jit(rate)(jnp.arange(steps)), np.float32)


class Trainer:
  """Compiled init, train step and evaluation of one model at one shape.

  Attributes:
    batch: windows a step.
    time: tokens a window.
    parameters: number of parameters.
    compile_s: seconds that compilation took.
    memory_bytes: what the train step needs by XLA's account: arguments, results
      and temporaries, a device.
  """

  def __init__(
    self,
    model: Model,
    optimizer: Optimizer,
    *,
    batch: int,
    time: int,
    mesh: Mesh | None = None,
  ):
    """Compiles for sequences [batch, time].

    Args:
      model: with parameters {"ends", "blocks", "mixers"}.
      optimizer: its settings.
      batch: windows a step, over all devices.
      time: tokens a window.
      mesh: from `sharding.make_mesh`; by default one over all devices.
    """
    allocator.keep_freed_memory()
    self.batch = batch
    self.time = time
    self.optimizer = optimizer
    self.mesh = mesh or sharding.make_mesh()
    self._model = model
    self._transform = optax.chain(
      optax.clip_by_global_norm(optimizer.clip),
      optax.scale_by_adam(optimizer.beta1, optimizer.beta2),
      optax.add_decayed_weights(optimizer.weight_decay, mask=_matrices),
    )
    self._compile()

  def _compile(self) -> None:
    start = time.monotonic()
    key = jax.eval_shape(lambda: jax.random.key(0))
    with jax.set_mesh(self.mesh):
      shapes = jax.eval_shape(self._fresh, key)
      placed = sharding.infer(shapes, self.mesh)
      self._data = sharding.batch_sharding(self.mesh)
      state = jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
        shapes,
        placed,
      )
      rate = jax.ShapeDtypeStruct((), jnp.float32)
      init = jax.jit(self._fresh, out_shardings=placed)
      self._init = _compiled(init.lower(key), _ONCE)
      step = jax.jit(
        self._update, donate_argnums=0, out_shardings=(placed, None)
      )
      lowered = step.lower(state, self._placed(self.time), rate)
      self._step = _compiled(lowered, _QUICK)
    rows = self.batch // jax.process_count()
    self._ones = self.put(np.ones((rows, self.time), np.float32))
    self._params = state["params"]
    self._evaluators: dict[int, jax.stages.Compiled] = {}
    self._evaluator(self.time)
    self.parameters = sum(a.size for a in jax.tree.leaves(shapes["params"]))
    self.compile_s = time.monotonic() - start
    self.memory_bytes = _needed(self._step)

  def _placed(self, time: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(
      jax.ShapeDtypeStruct((self.batch, time), dtype, sharding=self._data)
      for dtype in (jnp.uint8, jnp.uint8, jnp.float32)
    )

  def _evaluator(self, time: int) -> jax.stages.Compiled:
    """Returns the evaluation at a length, compiled at its first use."""
    if time not in self._evaluators:
      with jax.set_mesh(self.mesh):
        measure = jax.jit(self._measure)
        tokens, targets, _ = self._placed(time)
        lowered = measure.lower(self._params, tokens, targets)
        self._evaluators[time] = _compiled(lowered, _QUICK)
    return self._evaluators[time]

  def _fresh(self, key: jax.Array) -> State:
    params = self._model.init(key)
    return {"params": params, "optimizer": self._transform.init(params)}

  def _update(
    self,
    state: State,
    data: Placed,
    rate: jax.Array,
  ) -> tuple[State, dict[str, jax.Array]]:
    loss, gradients = jax.value_and_grad(self._model.loss)(
      state["params"], *_wide(data)
    )
    updates, optimizer = self._transform.update(
      gradients, state["optimizer"], state["params"]
    )
    params = jax.tree.map(lambda p, u: p - rate * u, state["params"], updates)
    metrics = {"loss": loss, "norm": optax.tree.norm(gradients)}
    return {"params": params, "optimizer": optimizer}, metrics

  def _measure(
    self, params: dict[str, Any], tokens: jax.Array, targets: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    tokens, targets = tokens.astype(jnp.int32), targets.astype(jnp.int32)
    return self._model.scores(params, tokens, targets)

  def put(self, rows: np.ndarray) -> jax.Array:
    """Returns this process's rows of a batch as one global array."""
    return jax.make_array_from_process_local_data(self._data, rows)

  def init(self, seed: int) -> State:
    """Returns fresh parameters and optimiser state, on their shardings."""
    return self._init(jax.random.key(seed))

  def step(
    self, state: State, data: np.ndarray | Examples, rate: float
  ) -> tuple[State, dict[str, jax.Array]]:
    """Makes one optimiser step; `state` is donated.

    Args:
      state: from `init` or the step before.
      data: windows of text, uint8 [batch, time + 1], or examples.
      rate: learning rate.

    Returns:
      (state, {"loss": nats a target, "norm": of the gradient}), not waited for.
    """
    if isinstance(data, Examples):
      placed = tuple(self.put(a) for a in data)
    else:
      # Text in every step: what counts is everything, and is there already.
      placed = (self.put(data[:, :-1]), self.put(data[:, 1:]), self._ones)
    return self._step(state, placed, np.float32(rate))

  def evaluate(
    self, params: dict[str, Any], data: np.ndarray | Examples
  ) -> tuple[float, float]:
    """Returns (bits a target, share of targets ranked first).

    Args:
      params: to evaluate.
      data: windows of text, uint8 [count, length + 1], or examples of that
        length; any count, and any length that the model runs at.
    """
    tokens, targets, weights = _examples(data)
    nats, hit = self.scores(params, tokens, targets)
    # Float64 on the host: a sum over a corpus loses digits in float32.
    wide = weights.astype(np.float64)
    weight = wide.sum()
    nats, correct = (nats * wide).sum(), (hit * wide).sum()
    return float(nats / math.log(2) / weight), float(correct / weight)

  def window_bits(
    self, params: dict[str, Any], windows: np.ndarray
  ) -> np.ndarray:
    """Returns bits a target of each window of text, float64 [count].

    Args:
      params: to evaluate.
      windows: uint8 [count, length + 1], as `evaluate` takes them; it returns
        the mean over them.
    """
    tokens, targets, _ = text_examples(windows)
    nats, _ = self.scores(params, tokens, targets)
    return nats.astype(np.float64).mean(axis=1) / math.log(2)

  def scores(
    self, params: dict[str, Any], tokens: np.ndarray, targets: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each target costs, and whether it is ranked first.

    Args:
      params: to evaluate.
      tokens: uint8 [count, length], any count, and any length that the model
        runs at.
      targets: uint8 [count, length], what follows each token.

    Returns:
      (nats, float32 [count, length]; hit, bool [count, length]).
    """
    count, length = tokens.shape
    evaluator = self._evaluator(length)
    nats = np.empty((count, length), np.float32)
    hit = np.empty((count, length), bool)
    for start in range(0, count, self.batch):
      rows = slice(start, start + self.batch)
      # Rows that fill the last batch up are dropped again.
      fill = ((0, max(0, start + self.batch - count)), (0, 0))
      placed = [self.put(np.pad(a[rows], fill)) for a in (tokens, targets)]
      found = evaluator(params, *placed)
      for kept, a in zip((nats, hit), found, strict=True):
        kept[rows] = np.asarray(a)[: count - start]
    return nats, hit


def _examples(data: np.ndarray | Examples) -> Examples:
  return data if isinstance(data, Examples) else text_examples(data)


def _compiled(
  lowered: jax.stages.Lowered, options: dict[str, Any]
) -> jax.stages.Compiled:
  if jax.default_backend() != "cpu":
    return lowered.compile()
  try:
    return lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    # Options come and go with versions of XLA; they only save time.
    if "compile option" not in str(error):
      raise
    return lowered.compile()


def _needed(program: jax.stages.Compiled) -> int:
  memory = program.memory_analysis()
  if memory is None:  # this backend does not say
    return 0
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )


def _wide(data: Placed) -> Placed:
  tokens, targets, weights = data
  return tokens.astype(jnp.int32), targets.astype(jnp.int32), weights


def _matrices(params: dict[str, Any]) -> dict[str, Any]:
  """Marks the arrays that weight decay applies to."""
  return {
    name: jax.tree.map(lambda a, n=name: a.ndim - (n in _STACKED) >= 2, part)
    for name, part in params.items()
  }
