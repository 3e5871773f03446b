"""Configs of models: what is wrong is said with the remedy."""

import dataclasses

import pytest

from asi_evolve_jax.llm import connect, prices, retry
from asi_evolve_jax.llm.port import Usage
from asi_evolve_jax.llm.redact import Redactor
from asi_evolve_jax.proposers import registry
from asi_evolve_jax.settings import (
  CognitionSettings,
  ModelSettings,
  ResearcherSettings,
  RunSettings,
  SettingsError,
)


def _run(llm="gemini", proposer="llm", **models):
  return RunSettings(
    name="test",
    track="toy",
    llm=llm,
    researcher=ResearcherSettings(proposer=proposer),
    models=ModelSettings(**models),
  )


@pytest.mark.parametrize(
  ("run", "why"),
  [
    (lambda: _run("gpt"), "give gemini, vertex, openai:"),
    (
      lambda: dataclasses.replace(
        _run("openai:http://x"),
        cognition=CognitionSettings(embeddings="gemini-embedding-001"),
      ),
      "which gemini or vertex can give",
    ),
    (
      lambda: dataclasses.replace(
        _run("none"), cognition=CognitionSettings(embeddings="vec-1")
      ),
      "what vec-1 costs is not known",
    ),
    (lambda: _run("replay:"), "give gemini, vertex, openai:"),
    (lambda: _run("openai:localhost"), "give gemini, vertex, openai:"),
    (lambda: _run(names=("my-model",)), "what my-model costs is not known"),
    (
      lambda: _run(names=("m",), prices={"m": {"input": -1, "output": 1}}),
      "needs 'input', a number of at least 0",
    ),
    (
      lambda: _run(names=("m",), prices={"m": {"input": 1, "out": 1}}),
      "needs 'output'",
    ),
    (lambda: _run(weights=(1.0, 2.0)), "one weight a name"),
    (lambda: _run(choice="best"), "weights or bandit"),
    (lambda: _run(tries=0), "tries must be positive"),
    (lambda: _run(proposer="lml"), "proposers here: auto, llm, mixed"),
  ],
)
def test_what_is_wrong_is_refused_before_the_run(run, why):
  with pytest.raises(SettingsError, match=why):
    registry.check(run())


def test_prices_of_the_file_the_config_and_long_prompts():
  pro = prices.find("gemini-2.5-pro", {})
  assert pro.money(Usage(prompt=200_000, output=1000)) == pytest.approx(0.26)
  assert pro.money(Usage(200_001, 0, 1000)) == pytest.approx(0.515, abs=1e-4)
  own = prices.find(
    "gemini-2.5-pro", {"gemini-2.5-pro": {"input": 1, "output": 2}}
  )
  assert own.money(Usage(10**6, 10**6)) == pytest.approx(3.0)
  connect.check(_run(proposer="symbolic", names=("unknown",)))  # nobody asks


def test_a_replay_of_nothing_is_refused(tmp_path):
  with pytest.raises(SettingsError, match="nothing was proposed"):
    registry.make_team(_run(f"replay:file://{tmp_path}/records/"), None)


def test_waits_that_servers_ask_for():
  assert retry.from_header("7") == 7
  assert retry.from_header("Thu, 01 Jan 1970 00:01:00 GMT", now=50.0) == 10
  assert retry.from_header("Thu, 01 Jan 1970 00:01:00 GMT", now=90.0) == 0
  for nonsense in ("", "soon", "nan", "inf", None):
    assert retry.from_header(nonsense) is None
  for nonsense in (None, [], {"error": 3}, {"error": {"details": [None, {}]}}):
    assert retry.from_details(nonsense) is None


def test_credentials_are_blanked_by_value_and_by_shape():
  redact = Redactor(["sk-1234", "sk-1234-longer"])
  google = "AIza" + "x" * 35
  text = f"a sk-1234-longer b sk-1234 c {google} d Bearer abcdefghijklmn"
  blank = "[redacted]"
  assert redact(text) == f"a {blank} b {blank} c {blank} d {blank}"
  assert redact("half \ud800") == "half ?"
  local = Redactor(["EMPTY", "1"])  # what local servers take for a key
  assert local("EMPTY = 1") == "EMPTY = 1"
