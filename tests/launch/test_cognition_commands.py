"""`python -m launch.cognition` as a person meets it."""

import os
import re
import subprocess
import sys

import pytest

from asi_evolve_jax.records import Records, schema
from asi_evolve_jax.settings import RungSettings, RunSettings, plain

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


# Wider than what 80 columns leave it.
LONG = "an-insight-of-this-run-that-has-many-words-in-its-slug"


def _write_run(url):
  """Writes five packings, two of which used LONG."""
  settings = RunSettings(
    name="test",
    track="circle_packing",
    ladder=(RungSettings(name="quick", seeds=(0,)),),
  )
  run = schema.Run(
    name="test",
    track=settings.track,
    config=plain(settings),
    commit="",
    machine={},
    versions={},
    manifest={},
  )
  records = [run]
  used = {"a": (f"{LONG}.1",), "b": (f"{LONG}.2", "once"), "broken": (LONG,)}
  scores = {"base": 2.0, "a": 2.3, "b": 2.4, "c": 2.1, "d": 2.1, "broken": None}
  for number, (program, score) in enumerate(scores.items()):
    task = schema.Task(program=program, rung="quick", seeds=(0,))
    records += [
      schema.Proposal(
        program=program,
        track=settings.track,
        name=program,
        author="symbolic",
        round=number,
        operator="mutate" if number else "baseline",
        motivation="try it",
        parents=("base",) if number else (),
        knowledge=used.get(program, ()),
      ),
      task,
      schema.Result(
        task=task.id,
        program=program,
        rung="quick",
        seeds=(0,),
        purpose=schema.SEARCH,
        status=schema.FAILED if score is None else schema.OK,
        metrics=() if score is None else ({"sum_of_radii": score},),
      ),
    ]
  Records.open(url).put(*records)


def _rows(text):
  """Returns the cells of each line of a table."""
  lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
  return [
    [cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines
  ]


def test_what_each_item_was_worth_is_told_whole(tmp_path):
  url = f"file://{tmp_path / 'records'}/"
  _write_run(url)
  words = ("stats", f"--records={url}", "--track=circle_packing")
  done = command(*words, COLUMNS="80")
  assert done.returncode == 0, done.stderr
  rows = _rows(done.stdout)
  (lift,) = [row for row in rows if row and row[0] == LONG]
  # 0.35, the mean gain of those that used it, less 0.1.
  assert lift[:5] == [LONG, "2", "2", "1", "+0.25"]
  low, high = map(float, lift[5].split(" to "))
  assert low < 0.25 < high
  assert ["once", "1", "3", "0", "-", "-"] in rows
  assert "gain in sum_of_radii over the parent" in done.stdout

  # Where there is less room, an id goes on in the next line.
  done = command(*words, COLUMNS="50", FORCE_COLOR="1")
  assert done.returncode == 0, done.stderr
  assert "…" not in done.stdout
  rows = _rows(done.stdout)
  assert LONG in "".join(row[0] for row in rows if row)
  assert not [row for row in rows if row and row[0] == LONG]


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
