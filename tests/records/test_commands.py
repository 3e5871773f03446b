"""launch.records: what it prints, refuses and returns."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from records_kit import fast, program, program_id, proposal, result, task
from rich.console import Console

from asi_evolve_jax.records import RecordError, commands
from asi_evolve_jax.records.archive import ArchiveError

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def url(tmp_path):
  records = fast(tmp_path / "run")
  for n in range(3):
    records.put(program(n, source="[red]x"), proposal(n), task(n))
  records.put(result(task(0), 0.25))
  return str(tmp_path / "run")


def _run(*arguments, url, **options) -> str:
  out = io.StringIO()
  commands.run(arguments, url, Console(file=out, width=200), **options)
  return out.getvalue()


def _row(text: str, name: str) -> list[str]:
  (line,) = [x for x in text.splitlines() if f" {name} " in x]
  return [cell.strip() for cell in line.strip("│").split("│")]


def test_ls_counts_kinds(url):
  text = _run("ls", url=url)
  assert _row(text, "proposal")[1] == "3"
  assert _row(text, "result")[1] == "1"
  assert _row(text, "insight")[1] == "0"
  assert _row(text, "log entries")[1] == "4"


def test_ls_of_a_kind_shows_the_newest(url):
  text = _run("ls", "proposal", url=url, limit=2)
  assert "p2" in text
  assert "p1" in text
  assert "p0" not in text
  assert "2 of 3" in text
  assert "p0" in _run("ls", "proposal", url=url, limit=0)
  assert "'loss': 0.25" in _run("ls", "result", url=url)


def test_show_prints_a_record_by_the_start_of_its_key(url):
  shown = json.loads(_run("show", f"program/{program_id(1)[:8]}", url=url))
  assert shown["hash"] == program_id(1)
  assert shown["source"] == "[red]x"
  with pytest.raises(ArchiveError, match="begins 3 keys"):
    _run("show", "program/0000", url=url)
  with pytest.raises(ArchiveError, match="nothing at task/zz"):
    _run("show", "task/zz", url=url)


def test_show_says_what_is_wrong_with_a_damaged_record(url):
  fast(url).store.create("task/ff", b'{"schema":1,"kind":"task"}')
  with pytest.raises(RecordError, match="task/ff lacks the field program"):
    _run("show", "task/ff", url=url)
  assert "set aside, cannot be parsed: task/ff" in _run("ls", "task", url=url)


def test_export_and_import(url, tmp_path):
  text = _run("export", str(tmp_path / "a.zip"), url=url)
  seal = text.split("seal ")[1].split()[0]
  other = str(tmp_path / "other")
  said = _run("import", str(tmp_path / "a.zip"), url=other, seal=seal)
  assert "10 of 10 records are new" in said
  with pytest.raises(ArchiveError, match="seal"):
    _run("import", str(tmp_path / "a.zip"), url=other, seal="00")


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "unknown command ''"),
    (["sl"], "unknown command 'sl'"),
    (["show"], "show has 0 arguments"),
    (["compact", "x"], "compact has 1 arguments"),
    (["ls", "tasks"], "'tasks' is no kind"),
    (["show", "run"], "is no key"),
  ],
)
def test_wrong_usage_says_what_is_right(url, arguments, said):
  with pytest.raises(commands.UsageError, match=said):
    _run(*arguments, url=url)


def test_a_wrong_place_is_not_made(tmp_path):
  with pytest.raises(ArchiveError, match="holds no records"):
    _run("ls", url=str(tmp_path / "typo"))
  assert not (tmp_path / "typo").exists()
  with pytest.raises(commands.UsageError, match="--records=URL is missing"):
    _run("ls", url="")


@pytest.mark.parametrize(
  ("arguments", "code", "said"),
  [
    (["ls", "--records={url}"], 0, "proposal"),
    (["ls", "--records={url}/nothing"], 1, "holds no records"),
    (["ls", "--records=s3://bucket/x"], 1, "gs://"),
    (["ls", "--colour=red"], 2, "Unknown command line flag"),
    (["ls"], 2, "--records=URL is missing"),
  ],
)
def test_exit_codes(url, arguments, code, said):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "launch.records",
      *(a.format(url=url) for a in arguments),
    ],
    cwd=_REPOSITORY,
    capture_output=True,
    text=True,
  )
  assert done.returncode == code, done.stderr
  assert said in (done.stderr if code else done.stdout)
  assert "Traceback" not in done.stderr
