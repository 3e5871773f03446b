"""Vectors of texts from Gemini's embedding models, as calls like any other.

A call embeds a batch of texts: its prompt is their JSON list, its reply one
vector a text, float32 in hexadecimal digits (letters of base64 may look like a
key, and would be struck out). So it is tried again, paid for, kept from
overrunning a budget and written down by the same client as a conversation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asi_evolve_jax.llm import gemini, port
from asi_evolve_jax.llm.client import Client, most_tokens
from asi_evolve_jax.llm.port import Answer, Prompt, ProviderError, Usage

DIMENSIONS = 768  # of the sizes that Google recommends, the least
_BATCH = 50  # texts a call; the API takes 100, a reply is bounded
_ROLE = "cognition"


class NoVectors(ConnectionError):
  """The model gave none; the message says why."""


class GeminiEmbeddings:
  """A port.Provider whose prompts are lists of texts."""

  def __init__(
    self,
    *,
    vertex: bool,
    base_url: str,
    environ: Mapping[str, str] = os.environ,
  ):
    """
    Args:
      vertex: Vertex AI instead of the Gemini API.
      base_url: instead of Google's; "": Google's.
      environ: where credentials are.
    """
    from google.genai import types

    self._types = types
    self._client = gemini.make_client(
      vertex=vertex, base_url=base_url, environ=environ
    )

  def send(
    self,
    prompt: Prompt,
    model: str,
    *,
    thinking: int | None,
    timeout_s: float,
  ) -> Answer:
    """See port.Provider."""
    del thinking
    types, texts = self._types, json.loads(prompt.text)
    with gemini.told():
      response = self._client.models.embed_content(
        model=model,
        contents=texts,
        config=types.EmbedContentConfig(
          task_type="SEMANTIC_SIMILARITY",
          output_dimensionality=DIMENSIONS,
          http_options=gemini.http_options(timeout_s),
        ),
      )
      vectors = [found.values for found in response.embeddings or ()]
    # The API does not say what it counted.
    usage = Usage(prompt=most_tokens(prompt.text))
    return Answer(port.OK, json.dumps(_packed(vectors, len(texts))), usage)


class Embedder:
  """Texts to vectors by a Client over a GeminiEmbeddings."""

  def __init__(self, client: Client, model: str, batch: int = _BATCH):
    """
    Args:
      client: to call.
      model: its name.
      batch: most texts a call.
    """
    self._client = client
    self._model = model
    self._batch = batch

  @property
  def name(self) -> str:
    """Of the model and what it is asked for: vectors of it are comparable."""
    return f"{self._model}/{DIMENSIONS}"

  def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
    """Returns float32 [texts, DIMENSIONS].

    Raises:
      NoVectors: if a call failed, whatever for.
    """
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), self._batch):
      batch = list(texts[start : start + self._batch])
      done = self._client.complete(
        Prompt(
          role=_ROLE,
          purpose="embed",
          about=f"{len(batch)} texts",
          text=json.dumps(batch, ensure_ascii=False),
          model=self._model,
        )
      )
      if done.status != port.OK:
        raise NoVectors(f"{done.status}: {done.error}")
      try:
        rows.append(_unpacked(done.text, len(batch)))
      except (RecursionError, TypeError, ValueError) as error:
        raise NoVectors(f"the kept reply holds no vectors: {error}") from error
    return np.concatenate(rows)

  def close(self) -> None:
    """Nothing is held."""


def _packed(vectors: Sequence[Any], wanted: int) -> list[str]:
  """Returns vectors in hexadecimal digits.

  Raises:
    ProviderError: if they are not `wanted` finite vectors of DIMENSIONS.
  """
  try:
    with np.errstate(over="ignore"):  # what is too large is infinite
      rows = np.asarray(vectors, np.float32)
  except (TypeError, ValueError):
    rows = np.zeros(0)
  if rows.shape != (wanted, DIMENSIONS) or not np.isfinite(rows).all():
    raise ProviderError(
      f"the reply is not {wanted} vectors of {DIMENSIONS} finite numbers",
      status=port.INVALID,
      billed=True,
    )
  return [row.tobytes().hex() for row in rows]


def _unpacked(text: str, wanted: int) -> NDArray[np.float32]:
  """Returns what `_packed` has made: float32 [wanted, DIMENSIONS].

  Raises:
    RecursionError, TypeError, ValueError: if `text` is not that.
  """
  rows = [
    np.frombuffer(bytes.fromhex(row), np.float32) for row in json.loads(text)
  ]
  if len(rows) != wanted or {row.size for row in rows} != {DIMENSIONS}:
    raise ValueError(f"not {wanted} of {DIMENSIONS} numbers")
  return np.stack(rows)
