"""`python -m launch.cognition` as a person meets it."""

import os
import subprocess
import sys

import pytest

# Each start costs seconds on a busy machine.
pytestmark = pytest.mark.slow


def command(*words, **env):
  return subprocess.run(
    [sys.executable, "-m", "launch.cognition", *words],
    capture_output=True,
    text=True,
    env={**os.environ, "COLUMNS": "200", **env},
  )


def test_the_items_that_ship_are_clean():
  done = command("lint")
  assert done.returncode == 0, done.stdout + done.stderr
  assert " 0 problems" in done.stdout


def test_query_and_stats():
  done = command("query", "near-duplicate", "keys", "break", "--k=1")
  assert done.returncode == 0
  assert "duplicate-keys" in done.stdout
  assert "not beta=negative" in done.stdout
  done = command("stats", "--track=circle_packing")
  assert "circle_packing" in done.stdout
  assert "rl_loss" not in done.stdout


def test_add_writes_a_candidate_that_lint_holds_back(tmp_path):
  paper = tmp_path / "paper.md"
  paper.write_text("# New gates\n\n## Abstract\nWe open gates.\n\n## Intro\n")
  out = tmp_path / "not" / "there"
  words = ("add", str(paper), "--track=architecture", f"--out={out}")
  done = command(*words, GEMINI_API_KEY="", GOOGLE_API_KEY="")
  assert done.returncode == 0
  assert "no GEMINI_API_KEY" in done.stdout
  assert "SAY ANEW: We open gates" in (out / "new-gates.md").read_text()
  assert "exists already" in command(*words, "--llm=none").stderr
  done = command("lint", f"--items={out}")
  assert done.returncode == 1
  assert "new-gates: is a candidate" in done.stdout


def test_wrong_usage_says_what_is_right(tmp_path):
  for words in (("sing",), ("query",), ("add", "x"), ("lint", "--no_such=1")):
    done = command(*words)
    assert done.returncode == 2
    assert "python -m launch.cognition" in done.stderr
  done = command("stats", f"--records={tmp_path}")
  assert done.returncode == 1
  assert "holds no run" in done.stderr
