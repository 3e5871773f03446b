import os
import sys
import types

from asi_evolve_jax.evaluation import readable


def covered(path, paths):
  return any(path == p or path.startswith(p.rstrip("/") + "/") for p in paths)


def test_python_and_its_packages_are_readable_and_a_home_is_not():
  paths = readable.python_files()
  import numpy

  assert covered(os.__file__, paths)
  assert covered(numpy.__file__, paths)
  assert covered(readable.__file__, paths)
  assert not covered(os.path.expanduser("~"), paths)
  assert not covered("/etc/passwd", paths)
  assert "/" not in paths


def test_of_a_source_checkout_only_packages(tmp_path, monkeypatch):
  (tmp_path / "runs").mkdir()
  (tmp_path / "package").mkdir()
  (tmp_path / "package" / "__init__.py").touch()
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "__init__.py").touch()
  (tmp_path / "notes.txt").touch()
  monkeypatch.syspath_prepend(str(tmp_path))
  module = types.ModuleType("package")
  module.__path__ = [str(tmp_path / "package")]
  monkeypatch.setitem(sys.modules, "package", module)

  def inside(paths):
    return {os.path.basename(p) for p in paths if p.startswith(str(tmp_path))}

  assert inside(readable.python_files()) == {"package"}
  both = readable.python_files(importable=True)
  assert inside(both) == {"package", "other"}
  assert not covered(str(tmp_path / "runs"), both)


def test_an_interpreter_that_is_a_home_is_not_shown_whole(monkeypatch):
  home = os.path.expanduser("~")
  for prefix in ("/", home, os.path.dirname(home)):
    monkeypatch.setattr(sys, "prefix", prefix)
    assert prefix not in readable.python_files()


def test_folders_in_others_are_left_out(tmp_path):
  inner = tmp_path / "a" / "b"
  inner.mkdir(parents=True)
  (tmp_path / "ab").mkdir()
  paths = [str(inner), str(tmp_path / "a"), str(tmp_path / "ab"), "/missing"]
  assert readable.without_nested(paths) == sorted(
    [str(tmp_path / "a"), str(tmp_path / "ab")], key=len
  )
