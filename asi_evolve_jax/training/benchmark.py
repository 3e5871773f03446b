"""How fast training runs, against what the machine can do at that moment."""

from __future__ import annotations

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from asi_evolve_jax.training.trainer import Trainer

_MATRIX = 1024
_WARMUP = 2


@dataclasses.dataclass(frozen=True)
class Speed:
  """What was measured.

  Attributes:
    step_s: median seconds of a train step.
    tokens_per_second: of training.
    flops_per_second: of training, by the count that was given.
    matmul_flops_per_second: of large matrix products, between the steps.
    share: of the matmul rate that training reaches.
  """

  step_s: float
  tokens_per_second: float
  flops_per_second: float
  matmul_flops_per_second: float
  share: float


def bench_train(
  trainer: Trainer, train_flops_per_token: float, steps: int
) -> Speed:
  """Times train steps and matrix products in turn.

  In turn, because a shared machine's rate changes while one measures: the
  share is the median over pairs and holds better than either rate.

  Args:
    trainer: the compiled steps.
    train_flops_per_token: forward and backward, a multiply-add counts 2.
    steps: steps timed, at least 1.
  """
  rng = np.random.default_rng(0)
  shape = (trainer.batch, trainer.time + 1)
  windows = rng.integers(0, 256, shape).astype(np.uint8)
  state = trainer.init(0)
  product = jax.jit(lambda a: a @ a)
  matrix = jnp.asarray(rng.standard_normal((_MATRIX, _MATRIX)), jnp.float32)
  step_s, product_s = [], []
  for i in range(_WARMUP + steps):
    start = time.perf_counter()
    jax.block_until_ready(product(matrix))
    middle = time.perf_counter()
    state, metrics = trainer.step(state, windows, 1e-3)
    jax.block_until_ready((state, metrics))
    end = time.perf_counter()
    if i >= _WARMUP:
      product_s.append(middle - start)
      step_s.append(end - middle)
  tokens = trainer.batch * trainer.time
  ratios = [p / s for p, s in zip(product_s, step_s, strict=True)]
  product_flops = 2 * _MATRIX**3
  step_flops = train_flops_per_token * tokens
  median = statistics.median(step_s)
  return Speed(
    step_s=median,
    tokens_per_second=tokens / median,
    flops_per_second=step_flops / median,
    matmul_flops_per_second=product_flops / statistics.median(product_s),
    share=statistics.median(ratios) * step_flops / product_flops,
  )
