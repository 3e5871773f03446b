"""Batches: coverage, seeds, exact resume, process shares."""

import numpy as np
import pytest

from asi_evolve_jax.training import batches
from asi_evolve_jax.training.wheels import CorpusError


def _take(iterator, count):
  return np.stack([next(iterator) for _ in range(count)])


@pytest.fixture
def data():
  return np.random.default_rng(0).integers(0, 256, 5_000).astype(np.uint8)


def test_windows_are_cut_from_the_text_and_each_target_occurs_once(data):
  source = batches.Windows(data, 16, 3)
  cut = np.stack([source[i] for i in range(len(source))])
  assert cut.shape == ((5_000 - 4) // 16, 17)
  targets = cut[:, 1:].reshape(-1)
  np.testing.assert_array_equal(targets, data[4 : 4 + targets.size])


def test_an_epoch_visits_every_window_once_and_the_next_reorders(data):
  loader = batches.train_batches(data[: 32 * 16 + 1], batch=1, time=32, seed=1)
  total = len(batches.Windows(data[: 32 * 16 + 1], 32, 0))
  rows = [next(loader).tobytes() for _ in range(2 * (total - 1))]
  first, second = rows[: total - 1], rows[total - 1 :]
  assert len(set(first)) == total - 1
  assert set(first) == set(second)
  assert first != second


def test_a_seed_decides_the_order_and_nothing_else_does(data):
  def rows(seed):
    return _take(batches.train_batches(data, batch=4, time=32, seed=seed), 6)

  np.testing.assert_array_equal(rows(3), rows(3))
  assert (rows(3) != rows(4)).any()


def test_state_resumes_with_the_very_next_batch(data):
  loader = batches.train_batches(data, batch=4, time=32, seed=0)
  _take(loader, 45)  # past the first epoch
  state = loader.get_state()
  expected = _take(loader, 10)
  fresh = batches.train_batches(data, batch=4, time=32, seed=0)
  fresh.set_state(state)
  np.testing.assert_array_equal(_take(fresh, 10), expected)


def test_processes_read_disjoint_shares_of_one_order(data):
  def share(index):
    return batches.train_batches(
      data, batch=4, time=32, seed=0, process=(index, 2)
    )

  whole = _take(batches.train_batches(data, batch=4, time=32, seed=0), 5)
  parts = [_take(share(i), 5) for i in range(2)]
  both = np.stack(parts, axis=2).reshape(5, 4, 33)
  np.testing.assert_array_equal(both, whole)


def test_evaluation_windows_are_spread_and_do_not_overlap():
  data = (np.arange(4_001) // 16 % 256).astype(np.uint8)
  windows = batches.evaluation_windows(data, count=10, time=32)
  assert windows.shape == (10, 33)
  np.testing.assert_array_equal(windows[0], data[:33])
  np.testing.assert_array_equal(windows[-1], data[-33:])
  most = batches.evaluation_windows(data, count=10_000, time=32)
  assert len(most) == 125
  np.testing.assert_array_equal(most[:, 1:].reshape(-1), data[1:])


def test_text_shorter_than_a_window_is_refused_with_the_remedy():
  short = np.zeros(20, np.uint8)
  with pytest.raises(CorpusError, match="smaller `time`"):
    batches.train_batches(short, batch=1, time=32, seed=0)
  with pytest.raises(CorpusError, match="smaller `time`"):
    batches.evaluation_windows(short, count=2, time=32)
