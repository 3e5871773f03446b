"""The gate that asks what training has made, on text.

judge.py has seen a mixer at made-up parameters, in the middle of the depth and
at the length that trains. This sees the model: every layer, the parameters that
training gave, each length that a score is read at. It goes through the compiled
evaluation, so it costs some batches of that and no compilation.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from asi_evolve_jax.evaluation import gates
from asi_evolve_jax.tracks.architecture.options import ModelOptions
from asi_evolve_jax.training.examples import Examples
from asi_evolve_jax.training.trainer import Trainer

GATE = "trained_causality"


def check(
  trainer: Trainer,
  params: dict[str, Any],
  text: Examples,
  model: ModelOptions,
) -> None:
  """Rejects a trained model in which a position reads later ones.

  Args:
    trainer: of the model.
    params: that training gave.
    text: of any length that the model runs at.
    model: its sizes.

  Raises:
    Rejected: saying where it reads ahead, and what to change.
  """
  cuts = gates.cut_points(text.tokens.shape[1], model.chunk_size)

  def scores(tokens: np.ndarray) -> np.ndarray:
    # The targets stay: the last one before a cut is itself beyond it.
    targets = np.resize(text.targets, tokens.shape)
    return trainer.scores(params, tokens, targets)[0]

  eps = gates.eps_of(jnp.dtype(model.compute_dtype))
  gates.check_trained_causality(scores, text.tokens, cuts, eps)
