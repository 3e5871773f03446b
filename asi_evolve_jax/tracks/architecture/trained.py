"""The gate that asks what training has made, on text.

judge.py has seen a mixer at made-up parameters and at the length that trains.
This sees the model: all layers together, the parameters that training gave,
each length that a score is read at. It goes through the compiled evaluation, so
it costs some batches of that and no compilation.
"""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asi_evolve_jax.evaluation import gates
from asi_evolve_jax.tracks.architecture.options import ModelOptions
from asi_evolve_jax.training.examples import Examples
from asi_evolve_jax.training.trainer import Trainer

GATE = "trained_causality"
_BATCHES = 4  # cuts, in batches of the evaluation


def check(
  trainer: Trainer,
  params: dict[str, Any],
  text: Examples,
  model: ModelOptions,
) -> None:
  """Rejects a trained model in which a position reads later ones.

  Where it is cut follows from the parameters: nobody knows before training, and
  a run that is measured again is cut there again.

  Args:
    trainer: of the model.
    params: that training gave.
    text: of any length that the model runs at.
    model: its sizes.

  Raises:
    Rejected: saying where it reads ahead, and what to change.
  """
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf).tobytes())
  rng = np.random.default_rng(int.from_bytes(digest.digest()))
  most = _BATCHES * trainer.batch
  cuts = gates.draw_cuts(text.tokens.shape[1], most, rng)

  def scores(tokens: np.ndarray) -> np.ndarray:
    # The targets stay: the last one before a cut is itself beyond it.
    targets = np.resize(text.targets, tokens.shape)
    return trainer.scores(params, tokens, targets)[0]

  eps = gates.eps_of(jnp.dtype(model.compute_dtype))
  gates.check_trained_causality(scores, text.tokens, cuts, eps)
