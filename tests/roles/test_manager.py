"""Drafts of a track: the real client, a loopback server."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from asi_evolve_jax.proposers import prompting, registry
from asi_evolve_jax.roles import manager
from asi_evolve_jax.roles.errands import ErrandError, Ledger
from asi_evolve_jax.settings import ModelSettings, SettingsError

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "llm"))

import llm_kit
from gemini_server import GeminiServer, error, reply

MODELS = ModelSettings(names=(llm_kit.MODEL,))
DRAFT = {
  "brief": "Sort faster.",
  "system": "You sort.",
  "analyst": "You watch who sorts.",
  "questions": "- On which data?",
}


def _draft(*script):
  with GeminiServer(*script) as server:
    model = llm_kit.client(server, tries=1)
    texts = manager.draft(model, MODELS, "Sort $5 notes.", "Example.")
  return texts, server


def test_a_draft_is_written_and_never_overwrites(tmp_path):
  bad = reply(json.dumps({**DRAFT, "questions": " "}))
  texts, server = _draft(bad, reply(json.dumps(DRAFT)))
  assert "Sort $5 notes." in server.text(0)
  assert "Example." in server.text(0)
  assert "`questions` is empty" in server.text(1)
  folder = tmp_path / "track"
  folder.mkdir()
  files = manager.write(texts, folder)
  assert [f.name for f in files] == [
    "brief.md",
    "system.md",
    "analyst.md",
    "questions.md",
  ]
  assert (folder / "brief.md").read_text() == "Sort faster.\n"
  (folder / "brief.md").write_text("Mine.")
  with pytest.raises(ErrandError, match="never overwritten"):
    manager.write(texts, folder)
  assert (folder / "brief.md").read_text() == "Mine."
  # A run can be told to use them.
  assert prompting.system("system", str(folder)) == "You sort."
  assert "researcher" in prompting.system("system", "")
  run = llm_kit.settings(server, prompts=str(folder))
  registry.check(run)
  with pytest.raises(SettingsError, match="holds none of"):
    registry.check(llm_kit.settings(server, prompts=str(tmp_path)))


@pytest.mark.parametrize(
  ("script", "why"),
  [
    ([error(503, "down")], "unavailable"),
    ([reply("prose")], "nothing usable"),
    ([reply(json.dumps({**DRAFT, "brief": "x" * 13_000}))], "at most 12000"),
  ],
)
def test_without_a_draft_it_says_why(script, why):
  with pytest.raises(ErrandError, match=why):
    _draft(*script)


def test_nothing_is_spent_beyond_the_limit(tmp_path):
  with GeminiServer(reply(json.dumps(DRAFT))) as server:
    ledger = Ledger(1e-6, tmp_path / "calls.jsonl")
    model = llm_kit.client(server, ledger, tries=1)
    with pytest.raises(ErrandError, match="over-budget"):
      manager.draft(model, MODELS, "Sort.", "Example.")
  assert not server.requests


def _from(path, folder, **models):
  settings = ModelSettings(**models)
  ledger = Ledger(0.5, folder / "calls.jsonl")
  return manager.draft_track(path, folder, "gemini", settings, ledger)


def test_without_a_key_it_says_what_to_set(tmp_path, monkeypatch):
  for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
    monkeypatch.delenv(name, raising=False)
  task = tmp_path / "task.md"
  task.write_text("Sort.")
  with pytest.raises(SettingsError, match=r"no GEMINI_API_KEY .* set it to a"):
    _from(task, tmp_path / "out")
  task.write_text(" \n")
  with pytest.raises(SettingsError, match="is empty"):
    _from(task, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_draft_that_is_there_is_not_paid_for_again(tmp_path, monkeypatch):
  monkeypatch.setenv("GEMINI_API_KEY", llm_kit.KEY)
  task = tmp_path / "task.md"
  task.write_text("Sort.")
  out = tmp_path / "new" / "track"
  with GeminiServer(reply(json.dumps(DRAFT))) as server:
    with pytest.raises(ErrandError, match="give another --out"):
      _from(task, task, base_url=server.url)  # a file
    assert not server.requests
    files = _from(task, out, base_url=server.url)
    with pytest.raises(ErrandError, match="never overwritten"):
      _from(task, out, base_url=server.url)
  assert len(server.requests) == 1
  assert len((out / "calls.jsonl").read_text().splitlines()) == 1
  assert "sum of" in server.text(0)  # the brief of circle packing
  assert all(llm_kit.KEY not in file.read_text() for file in files)


@pytest.mark.slow
def test_the_app_writes_what_the_model_drafts(tmp_path):
  task = tmp_path / "task.md"
  task.write_text("Sort.")
  with GeminiServer(reply(json.dumps(DRAFT))) as server:
    done = subprocess.run(
      [
        *(sys.executable, "-m", "launch.manager", str(task)),
        f"--out={tmp_path / 'out'}",
        f"--base_url={server.url}",
      ],
      capture_output=True,
      text=True,
      env={**os.environ, "GEMINI_API_KEY": llm_kit.KEY},
    )
  assert done.returncode == 0, done.stderr
  assert "questions.md" in done.stdout
  assert "125 tokens" in done.stdout
