"""From a config to a Model, or to the reason why there is none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from asi_evolve_jax.llm import gemini, prices
from asi_evolve_jax.llm.client import Book, Client
from asi_evolve_jax.llm.embeddings import Embedder, GeminiEmbeddings
from asi_evolve_jax.llm.openai_compatible import OpenAICompatible
from asi_evolve_jax.llm.port import Provider
from asi_evolve_jax.settings import MINILM, RunSettings, SettingsError

REPLAY = "replay:"
_OPENAI = "openai:"
_URLS = ("openai:http://", "openai:https://")
_GOOGLE = ("gemini", "vertex")
NONE = "none"
# Values of config.researcher.proposer that call a model if there is one.
WITH_MODEL = ("auto", "llm", "mixed")
# Roles that may call.
RESEARCHER = "researcher"
ANALYZER = "analyzer"
LLM = "llm"  # the value of config.analyzer.kind that calls


def check(settings: RunSettings) -> None:
  """Checks config.llm and what belongs to it, without any network.

  Raises:
    SettingsError: naming key and remedy.
  """
  llm = settings.llm
  replays = llm.startswith(REPLAY) and llm != REPLAY
  if llm not in (*_GOOGLE, NONE) and not llm.startswith(_URLS) and not replays:
    raise SettingsError(
      f"config.llm is {llm!r}: give gemini, vertex, openai:<base URL>, "
      "replay:<URL of records> or none."
    )
  models, embeddings = settings.models, settings.cognition.embeddings
  if embeddings == MINILM:
    embeddings = ""  # no model of a provider's
  if embeddings and llm.startswith(_OPENAI):
    raise SettingsError(
      f"config.cognition.embeddings is {embeddings!r}, which gemini or vertex "
      f"can give, and config.llm is {llm!r}: set either to another value."
    )
  if embeddings:
    prices.find(embeddings, models.prices)
  if not callers(settings):
    return
  for name in models.names:
    prices.find(name, models.prices)
  for key, own in (
    ("analyzer", settings.analyzer.model),
    ("judge", settings.judge.model),
  ):
    if own and own not in models.names:
      raise SettingsError(
        f"config.{key}.model is {own!r}: give one of config.models.names, "
        f"{', '.join(models.names)}."
      )


def callers(settings: RunSettings) -> tuple[str, ...]:
  """Returns the roles that would call a model if they could."""
  if settings.llm == NONE or settings.llm.startswith(REPLAY):
    return ()
  wanted = {
    RESEARCHER: settings.researcher.proposer in WITH_MODEL,
    ANALYZER: settings.analyzer.kind == LLM or settings.judge.ratio > 0,
  }
  return tuple(role for role, calls in wanted.items() if calls)


def unusable(
  settings: RunSettings, environ: Mapping[str, str] = os.environ
) -> str:
  """Returns why no model can be called, or ""."""
  if settings.llm == NONE:
    return "config.llm is none"
  if settings.llm in _GOOGLE:
    return gemini.unusable(settings.llm == "vertex", environ)
  return ""


def connect(
  settings: RunSettings,
  role: str,
  book: Book,
  secrets: Sequence[str],
  environ: Mapping[str, str] = os.environ,
) -> Client | None:
  """Returns the Model that the config names.

  None: the role calls nobody, or `unusable` says why it cannot.

  Args:
    settings: of the run.
    role: who is to call, RESEARCHER or ANALYZER.
    book: where its Calls are kept.
    secrets: what must be in no record, beside the key that is used.
    environ: where credentials are.
  """
  if role not in callers(settings) or unusable(settings, environ):
    return None
  models = settings.models
  if settings.llm in _GOOGLE:
    key = gemini.api_key(environ)
    provider: Provider = gemini.Gemini(
      vertex=settings.llm == "vertex",
      base_url=models.base_url,
      output_tokens=models.output_tokens,
      temperature=models.temperature,
      environ=environ,
    )
  else:
    key = environ.get(models.key_variable, "").strip()
    provider = OpenAICompatible(
      settings.llm.removeprefix(_OPENAI),
      key,
      output_tokens=models.output_tokens,
      temperature=models.temperature,
    )
  return Client(
    provider,
    models,
    {name: prices.find(name, models.prices) for name in models.names},
    book,
    secrets=[*secrets, key],
    exploration=settings.researcher.exploration,
  )


def embedder(
  settings: RunSettings,
  book: Book,
  secrets: Sequence[str],
  environ: Mapping[str, str] = os.environ,
) -> Embedder | None:
  """Returns the provider's model in config.cognition.embeddings, or None.

  None: none is named, or `unusable` says why it cannot be called.

  Args:
    settings: of the run.
    book: where its Calls are kept.
    secrets: what must be in no record, beside the key that is used.
    environ: where credentials are.
  """
  name = settings.cognition.embeddings
  if (
    name in ("", MINILM)
    or not settings.researcher.knowledge
    or settings.llm not in _GOOGLE
    or unusable(settings, environ)
  ):
    return None
  vertex = settings.llm == "vertex"
  models = dataclasses.replace(
    settings.models, names=(name,), weights=(), output_tokens=1
  )
  client = Client(
    GeminiEmbeddings(vertex=vertex, base_url=models.base_url, environ=environ),
    models,
    {name: prices.find(name, models.prices)},
    book,
    secrets=[*secrets, gemini.api_key(environ)],
    exploration=settings.researcher.exploration,
  )
  # Vertex AI takes one text a call of this model.
  return Embedder(client, name, **({"batch": 1} if vertex else {}))
