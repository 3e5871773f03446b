"""Checkpoints of a training run: everything that its next step depends on."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import grain
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint held; the iterator it was given has moved there too.

  Attributes:
    step: steps that were done.
    state: like the state that was saved, on its shardings.
    curves: arrays by name, as recorded up to `step`.
  """

  step: int
  state: Any
  curves: dict[str, np.ndarray]


class Checkpoints:
  """The latest checkpoint of one run, in a folder of its own.

  A checkpoint becomes visible by a rename, so a process killed while it
  writes leaves the one before.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    self._checkpointer = ocp.training.Checkpointer(
      os.fspath(directory),
      # pyrefly: ignore[bad-argument-type]  orbax's own types disagree
      preservation_policy=ocp.training.preservation_policies.LatestN(1),
      cleanup_tmp_directories=True,
    )

  def save(
    self,
    step: int,
    state: Any,
    batches: grain.DatasetIterator,
    curves: dict[str, np.ndarray],
  ) -> None:
    """Writes what is needed to go on after `step` steps.

    Args:
      step: steps done.
      state: pytree of arrays.
      batches: the iterator that gave the batches of these steps, and no more.
      curves: arrays by name; empty ones are not kept.
    """
    kept = {name: values for name, values in curves.items() if values.size}
    self._checkpointer.save_checkpointables(
      step,
      {"state": state, "curves": kept, "batches": batches},
      # A policy may otherwise find that it is too early to save.
      force=True,
    )

  def restore(
    self, like: Any, batches: grain.DatasetIterator
  ) -> Restored | None:
    """Returns the latest checkpoint, or None if there is none.

    Args:
      like: pytree of arrays or ShapeDtypeStructs with the shardings wanted.
      batches: a fresh iterator; it is moved to where the saved one was.
    """
    latest = self._checkpointer.latest
    if latest is None:
      return None
    abstract = jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding),
      like,
    )
    found = self._checkpointer.load_checkpointables(
      latest, {"state": abstract, "curves": None, "batches": batches}
    )
    curves = {k: np.asarray(v) for k, v in (found["curves"] or {}).items()}
    return Restored(latest.step, found["state"], curves)

  def close(self) -> None:
    """Waits for what is being written."""
    self._checkpointer.close()
