"""A trained model of bytes, as lm-evaluation-harness wants to ask it.

Import this where `lm_eval` is installed; see lm_eval_tasks.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from asi_evolve_jax.training.corpus import SEPARATOR
from asi_evolve_jax.training.lm_eval_tasks import LmEvalError
from asi_evolve_jax.training.trainer import Trainer

_BLOCK = 1024  # windows that are held at a time


class ByteLM(LM):
  """Log-likelihoods of UTF-8 text under a model of bytes.

  Everything goes through the trainer's compiled evaluation at [batch, time]:
  short text is filled up at its end, which a causal model does not see; of
  longer text each byte is predicted once, in windows of `time`, the last one
  with as much before it as fits. A text begins as documents do in training,
  with the separator of the corpus.
  """

  def __init__(self, trainer: Trainer, params: dict[str, Any]):
    """Wraps a model.

    Args:
      trainer: of the model, with a vocabulary of 256 bytes.
      params: that training gave.
    """
    super().__init__()
    self._trainer = trainer
    self._params = params

  def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
    """Returns (log-likelihood in nats, whether greedy decoding gives it).

    Args:
      requests: each with `args` (context, continuation).
    """
    texts = []
    for request in requests:
      context, continuation = map(_bytes, request.args)
      texts.append((SEPARATOR + context, continuation))
    return self._score(texts)

  def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
    """Returns the log-likelihood of whole texts, in nats.

    Args:
      requests: each with `args` (text,).
    """
    texts = [(SEPARATOR, _bytes(request.args[0])) for request in requests]
    return [nats for nats, _ in self._score(texts)]

  def generate_until(self, requests: list[Instance]) -> list[str]:
    """Refuses; `lm_eval_tasks.prepare` does so before anything is trained."""
    raise LmEvalError(
      f"{len(requests)} requests to write text: use tasks of the types "
      "multiple_choice, loglikelihood or loglikelihood_rolling."
    )

  def _score(
    self, texts: Sequence[tuple[bytes, bytes]]
  ) -> list[tuple[float, bool]]:
    """Returns what the second part of each text gets after the first."""
    parts: list[list[float]] = [[] for _ in texts]
    greedy = [True] * len(texts)
    block: list[tuple[int, np.ndarray, int]] = []

    def flush() -> None:
      time = self._trainer.time
      tokens = np.zeros((len(block), time), np.uint8)
      targets = np.zeros_like(tokens)
      for row, (_, window, _) in enumerate(block):
        tokens[row, : window.size - 1] = window[:-1]
        targets[row, : window.size - 1] = window[1:]
      nats, hit = self._trainer.scores(self._params, tokens, targets)
      for row, (text, window, count) in enumerate(block):
        new = slice(window.size - 1 - count, window.size - 1)
        parts[text].append(-math.fsum(nats[row, new].tolist()))
        greedy[text] &= bool(hit[row, new].all())
      block.clear()

    for text, (context, continuation) in enumerate(texts):
      whole = np.frombuffer(context + continuation, np.uint8)
      for window, count in windows(whole, len(context), self._trainer.time):
        block.append((text, window, count))
        if len(block) == _BLOCK:
          flush()
    if block:
      flush()
    return [(math.fsum(p), g) for p, g in zip(parts, greedy, strict=True)]


def windows(
  tokens: np.ndarray, start: int, time: int
) -> Iterator[tuple[np.ndarray, int]]:
  """Yields windows that predict every token from `start` on, once each.

  As the harness cuts long text for models with a longest length.

  Args:
    tokens: uint8 [n].
    start: at least 1: the first token is predicted by nothing.
    time: tokens that the model reads.

  Yields:
    (window, uint8 [at most time + 1]; how many of its last tokens are new).
  """
  done = start
  while done < tokens.size:
    end = min(done + time, tokens.size)
    yield tokens[max(0, end - time - 1) : end], end - done
    done = end


def _bytes(text: str) -> bytes:
  return text.encode("utf-8", "replace")
