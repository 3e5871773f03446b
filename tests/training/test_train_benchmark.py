"""The benchmark's figures agree with one another."""

import numpy as np
from small_models import Bigram

from asi_evolve_jax.training import benchmark
from asi_evolve_jax.training.trainer import Optimizer, Trainer


def test_rates_and_share_follow_from_the_times():
  trainer = Trainer(Bigram(), Optimizer(), batch=4, time=32)
  speed = benchmark.bench_train(trainer, train_flops_per_token=1e6, steps=5)
  assert speed.step_s > 0
  np.testing.assert_allclose(speed.tokens_per_second, 128 / speed.step_s)
  np.testing.assert_allclose(speed.flops_per_second, 1.28e8 / speed.step_s)
  # Any machine multiplies faster than 100 MFLOP/s and slower than 1 EFLOP/s.
  assert 1e8 < speed.matmul_flops_per_second < 1e18
  assert speed.share > 0
