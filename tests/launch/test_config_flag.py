"""A wrong config ends with one line that says what and where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from launch import _config

ROOT = Path(__file__).parents[2]
_QUICK = "--config=configs/quickstart.py"


@pytest.fixture
def parsed(monkeypatch, capsys):
  """Returns a function that parses flags; (exit code, what was said)."""

  def parse(*argv):
    fresh = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=fresh)
    monkeypatch.setattr(flags, "FLAGS", fresh)
    monkeypatch.setattr(sys, "argv", ["evolve", *argv])
    monkeypatch.delitem(sys.modules, "config_config", raising=False)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
      _config.parser("evolve")(["evolve", *argv])
    return end.value.code, capsys.readouterr().err

  return parse


def test_the_command_says_it_and_no_more():
  done = subprocess.run(
    [sys.executable, "-m", "launch.evolve", _QUICK, "--config.rouns=3"],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == 2
  assert done.stderr == (
    "evolve: no such setting: 'rouns' Did you mean \"rounds\" instead of "
    '"rouns"?\n'
  )


@pytest.mark.parametrize(
  ("argv", "says"),
  [
    (["--config=configs/nope.py"], "cannot be read: "),
    (["--config=configs/nope.py", "--config.rounds=3"], "configs/nope.py"),
    ([f"{_QUICK}:nope"], "ValueError: no variant 'nope' here: use quickstart"),
    ([_QUICK, "--config.rouns=3"], "no such setting: 'rouns' Did you mean"),
    ([_QUICK, "--config.verify.finalist=3"], '"finalists" instead of'),
    ([_QUICK, "--config.rounds=abc"], "--config.rounds=abc: invalid literal"),
    ([_QUICK, "--config.verify=3"], "`3` is not a dict"),
    ([_QUICK, "--confg=x"], "Unknown command line flag 'confg'"),
  ],
)
def test_a_wrong_flag_is_named(parsed, argv, says):
  code, said = parsed(*argv)
  assert code == 2
  assert said.startswith("evolve: ")
  assert said.count("\n") == 1
  assert says in said


@pytest.mark.parametrize(
  ("source", "says"),
  [
    ("def get_config(:", "line 1: invalid syntax"),
    ("x = 1", "the config file has no function get_config()"),
    ("\ndef get_config():\n  return {}['a']", "line 3: KeyError: a"),
    ("import nothing_of_this_name", "line 1: ModuleNotFoundError: No module"),
  ],
)
def test_a_wrong_file_is_named_with_its_line(parsed, tmp_path, source, says):
  (tmp_path / "mine.py").write_text(source)
  code, said = parsed(f"--config={tmp_path / 'mine.py'}")
  assert code == 2
  assert said.startswith("evolve: ")
  assert said.count("\n") == 1
  assert says in said
