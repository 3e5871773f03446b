"""Preflight starts a Python of its own, from behind Landlock too."""

import json
import os

import pytest

from asi_evolve_jax.evaluation import jail, landlock
from asi_evolve_jax.programs.preflight import preflight
from pallas_kernels.ahead_of_time.compiler import NotCheckedError


def _confined(folder):
  """Returns what preflight says of no Artifact in a trusted stage's jail."""
  reader, writer = os.pipe()
  pid = os.fork()
  if pid == 0:
    try:
      os.chdir(folder)
      jail.confine(jail.Sandbox("required"), [], [folder], cpu=True)
      try:
        said = json.dumps(preflight(b"", ["v5e:2x2"], timeout_s=60.0))
      except NotCheckedError as error:
        said = str(error)
      os.write(writer, said.encode())
    finally:
      os._exit(0)
  os.close(writer)
  with open(reader) as told:
    said = told.read()
  os.waitpid(pid, 0)
  return said


def test_a_confined_judge_finds_the_packages_and_not_what_lies_around(tmp_path):
  if not landlock.abi():
    pytest.skip("no Landlock here")
  (tmp_path / "json.py").write_text("raise SystemExit(9)")
  said = _confined(str(tmp_path))
  assert "libtpu" in said or "refused" in said
