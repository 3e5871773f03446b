"""Batches of byte windows: seeded, resumable, the same for every candidate.

The order depends on the seed alone, so that two candidates trained with one
seed see the same bytes in the same order.
"""

from __future__ import annotations

import grain
import numpy as np

from asi_evolve_jax.training.wheels import CorpusError


class Windows(grain.sources.RandomAccessDataSource):
  """Consecutive windows of `time` + 1 bytes; each target occurs in one."""

  def __init__(self, data: np.ndarray, time: int, offset: int):
    """Cuts `data`, uint8 [bytes], from `offset` on.

    Raises:
      CorpusError: if not a single window fits.
    """
    self._data = data
    self._time = time
    self._offset = offset
    self._length = (data.size - offset - 1) // time
    if self._length < 1:
      raise CorpusError(
        f"{data.size} bytes hold no window of {time + 1}: use more text or "
        "a smaller `time`."
      )

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> np.ndarray:
    """Returns window `index`, uint8 [time + 1]."""
    start = self._offset + int(index) * self._time
    return np.asarray(self._data[start : start + self._time + 1])


def train_batches(
  data: np.ndarray,
  *,
  batch: int,
  time: int,
  seed: int,
  process: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator:
  """Returns an endless iterator of training batches.

  Args:
    data: uint8 [bytes], kept by reference (a memory map is read as needed).
    batch: windows a batch, over all processes.
    time: tokens a window.
    seed: of the order, and of where the first window begins.
    process: (index, count) of this process; each reads its own share.

  Returns:
    Iterator of uint8 [batch / count, time + 1]: inputs are all but the last
    byte of a window, targets all but the first. It has `get_state` and
    `set_state`, and orbax saves it: it continues with the very next batch.
  """
  index, count = process
  if batch % count:
    raise ValueError(f"batch {batch} does not divide by {count} processes.")
  # Another seed also cuts the text at other places.
  room = min(time, max(data.size - time - 1, 1))
  offset = int(np.random.default_rng(seed).integers(room))
  windows = grain.MapDataset.source(Windows(data, time, offset))
  shuffled = windows.seed(seed).shuffle().repeat()[index::count]
  # No threads: the text is in memory, and a worker has one core.
  options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  batches = shuffled.batch(batch // count, drop_remainder=True)
  return iter(batches.to_iter_dataset(options))


def evaluation_windows(
  data: np.ndarray, *, count: int, time: int
) -> np.ndarray:
  """Returns windows at even distances, always the same.

  Args:
    data: uint8 [bytes].
    count: windows wanted; fewer come back where the text has no more.
    time: tokens a window.

  Returns:
    uint8 [count, time + 1]; no target byte occurs in two of them.
  """
  most = (data.size - 1) // time
  if most < 1:
    raise CorpusError(
      f"{data.size} bytes hold no window of {time + 1}: use more text or a "
      "smaller `time`."
    )
  count = min(count, most)
  starts = np.linspace(0, data.size - time - 1, count).astype(np.int64)
  return np.stack([np.asarray(data[s : s + time + 1]) for s in starts])
