"""`python -m launch.ablation` and its report, in small."""

import subprocess
import sys

import pytest

from asi_evolve_jax.records import Records
from asi_evolve_jax.records.schema import Milestone


def launch(app, *words):
  return subprocess.run(
    [sys.executable, "-m", f"launch.{app}", *words],
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
def test_a_study_of_two_conditions_goes_on_and_is_read(tmp_path):
  words = [
    *("--conditions=full,random", "--seeds=1", "--rounds=1"),
    *("--parallel=2", f"--out={tmp_path}"),
  ]
  done = launch("ablation", *words)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "2/2" in done.stdout
  folder = tmp_path / "circle_packing"
  for condition in ("full", "random"):
    records = Records.open(str(folder / condition / "0" / "records"))
    assert records.get(Milestone.kind, "finished") is not None
  again = launch("ablation", *words)
  assert (again.returncode, again.stdout) == (0, "")
  out = tmp_path / "report"
  done = launch(*("report", "ablation", f"--records={folder}"), f"--out={out}")
  assert done.returncode == 0, done.stderr
  assert "# Conditions against full" in done.stdout
  assert (out / "ablation.png").is_file()


def test_a_condition_that_is_none_ends_with_the_names_of_those_that_are():
  done = launch("ablation", "--conditions=ful")
  assert done.returncode == 2
  assert "no condition ful; there are full, no_cognition" in done.stderr
