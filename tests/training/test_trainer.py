"""Compiled steps against AdamW written out in float64."""

import jax
import numpy as np
import pytest
from small_models import Bigram, text

from asi_evolve_jax.training import batches
from asi_evolve_jax.training.examples import Examples, text_examples
from asi_evolve_jax.training.train import Diverged, Run, train
from asi_evolve_jax.training.trainer import Optimizer, Trainer

OPTIMIZER = Optimizer(learning_rate=3e-2, warmup=3, clip=0.05)


@pytest.fixture(scope="module")
def trainer():
  return Trainer(Bigram(), OPTIMIZER, batch=4, time=16)


def _loss_and_gradients(table, scale, windows):
  """Mean cross-entropy of the bigram model and its derivatives, float64."""
  tokens, targets = windows[:, :-1].ravel(), windows[:, 1:].ravel()
  raw = table[tokens]
  logits = raw * scale
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  rows = np.arange(tokens.size)
  loss = -np.log(p[rows, targets]).mean()
  p[rows, targets] -= 1
  p /= tokens.size
  d_table = np.zeros_like(table)
  np.add.at(d_table, tokens, p * scale)
  return loss, d_table, (p * raw).sum(0)


def test_steps_are_adamw_with_clipping_and_decay_of_matrices(trainer):
  state = trainer.init(0)
  ends = state["params"]["ends"]
  # Copies: the step takes the buffers over.
  table, scale = (np.array(ends[k], np.float64) for k in ("table", "scale"))
  moments = [np.zeros_like(table), np.zeros_like(scale)]
  squares = [np.zeros_like(table), np.zeros_like(scale)]
  rates = OPTIMIZER.schedule(6)
  rng = np.random.default_rng(0)
  b1, b2 = OPTIMIZER.beta1, OPTIMIZER.beta2
  for step in range(6):
    windows = rng.integers(0, 256, (4, 17)).astype(np.uint8)
    loss, *gradients = _loss_and_gradients(table, scale, windows)
    norm = np.sqrt(sum((g * g).sum() for g in gradients))
    shrink = min(1.0, OPTIMIZER.clip / norm)
    updates = []
    for i, g in enumerate(gradients):
      g = g * shrink
      moments[i] = b1 * moments[i] + (1 - b1) * g
      squares[i] = b2 * squares[i] + (1 - b2) * g * g
      m = moments[i] / (1 - b1 ** (step + 1))
      v = squares[i] / (1 - b2 ** (step + 1))
      updates.append(m / (np.sqrt(v) + 1e-8))
    table = table - rates[step] * (updates[0] + OPTIMIZER.weight_decay * table)
    scale = scale - rates[step] * updates[1]
    state, metrics = trainer.step(state, windows, rates[step])
    np.testing.assert_allclose(float(metrics["loss"]), loss, rtol=1e-5)
    np.testing.assert_allclose(float(metrics["norm"]), norm, rtol=1e-4)
  assert shrink < 1.0  # or clipping was not tested
  found = state["params"]["ends"]
  # Adam divides by the root of tiny numbers: float32 leaves a few 1e-4 of a
  # step of 3e-2.
  np.testing.assert_allclose(found["table"], table, atol=2e-5)
  np.testing.assert_allclose(found["scale"], scale, atol=2e-5)


def test_schedule_warms_up_and_ends_where_it_says():
  rates = Optimizer(learning_rate=1.0, warmup=10).schedule(101)
  assert 0 < rates[0] < rates[5] < rates[10] == rates.max() == 1.0
  assert (np.diff(rates[10:]) < 0).all()
  np.testing.assert_allclose(rates[-1], 0.1, atol=1e-3)
  assert Optimizer(warmup=50).schedule(3).shape == (3,)
  assert Optimizer().schedule(1)[0] > 0
  np.testing.assert_allclose(
    Optimizer(warmup=10).schedule(101, peak=0.5), rates / 2, rtol=1e-6
  )


def test_evaluation_does_not_depend_on_the_batch(trainer):
  params = trainer.init(1)["params"]
  rng = np.random.default_rng(0)
  windows = rng.integers(0, 256, (11, 17)).astype(np.uint8)
  weights = rng.integers(0, 2, (11, 16)).astype(np.float32)
  examples = text_examples(windows)._replace(weights=weights)
  bits, share = trainer.evaluate(params, examples)
  logits = np.asarray(params["ends"]["table"], np.float64)[windows[:, :-1]]
  p = np.exp(logits)
  p /= p.sum(-1, keepdims=True)
  hit = np.take_along_axis(p, windows[:, 1:, None].astype(int), -1)[..., 0]
  want = -(np.log2(hit) * weights).sum() / weights.sum()
  np.testing.assert_allclose(bits, want, rtol=1e-6)
  right = (p.argmax(-1) == windows[:, 1:]) * weights
  np.testing.assert_allclose(share, right.sum() / weights.sum())


def test_a_run_learns_and_a_seed_decides_it(trainer):
  data = text(30_000)
  dev = batches.evaluation_windows(text(40_000)[30_000:], count=16, time=16)
  first = train(trainer, data, dev, Run(steps=60, seed=0, eval_every=20))
  again = train(trainer, data, dev, Run(steps=60, seed=0))
  other = train(trainer, data, dev, Run(steps=60, seed=1))
  np.testing.assert_array_equal(first.train, again.train)
  assert first.bits_per_byte == again.bits_per_byte
  assert (first.train != other.train).any()
  assert first.train.shape == (60,)
  assert first.dev[:, 0].tolist() == [20, 40, 60]
  assert first.dev[-1, 1] == np.float32(first.bits_per_byte)
  assert first.bits_per_byte < first.dev[0, 1] < 8.1
  assert first.step_s > 0
  assert first.resumed_from == 0


def test_nothing_is_compiled_for_another_seed_or_task(trainer, caplog):
  data = text(5_000)
  dev = batches.evaluation_windows(data, count=4, time=16)
  train(trainer, data, dev, Run(steps=4, seed=0))  # puts and conversions
  with jax.log_compiles(), caplog.at_level("WARNING"):
    train(trainer, data, dev, Run(steps=4, seed=5))
    zeros, ones = np.zeros((4, 16), np.uint8), np.ones((4, 16), np.float32)
    trainer.step(trainer.init(3), Examples(zeros, zeros, ones), 0.1)
  compiled = [r.message for r in caplog.records if "ompiling" in r.message]
  assert not [m for m in compiled if "update" in m or "measure" in m]


def test_divergence_says_where_and_is_no_score():
  wild = Trainer(
    Bigram(), Optimizer(learning_rate=1e38, warmup=0), batch=4, time=16
  )
  data = text(5_000)
  dev = batches.evaluation_windows(data, count=4, time=16)
  with pytest.raises(Diverged, match=r"diverged at step \d+ of 20: loss"):
    train(wild, data, dev, Run(steps=20))
