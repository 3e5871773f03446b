"""Two runs side by side, from records and from archives."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from asi_evolve_jax.reporting.compare import (
  Side,
  best_at,
  shared_rung,
  write,
)
from asi_evolve_jax.settings import BudgetSettings, SettingsError

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "roles"))

from loop_kit import Loop  # noqa: E402


def _side(folder, steps, name="one", **changes):
  loop = Loop(folder, **changes)
  loop.steps(steps)
  settings = dataclasses.replace(loop.settings, name=name)
  return Side(loop.view, settings, loop.track)


def test_curves_are_read_at_equal_cost():
  curve = [(0, 10.0, 5.0), (3, 20.0, 4.0), (4, 25.0, 4.0)]
  assert best_at(curve, 9.9) is None
  assert best_at(curve, 10.0) == (0, 5.0)
  assert best_at(curve, 22.0) == (3, 4.0)
  assert best_at(curve, 99.0) == (4, 4.0)


def test_cost_configs_curves_and_budgets_stand_side_by_side(tmp_path):
  a = _side(tmp_path / "a", 8)
  b = _side(tmp_path / "b", 6, "two", seed=3, budget=BudgetSettings(flops=9e3))
  text = write(a, b, tmp_path)
  assert (tmp_path / "compare.md").read_text() == text
  assert (tmp_path / "compare.png").stat().st_size > 1000
  assert "The budgets are not equal." in text
  assert "| budget flops | none | 9000 |" in text
  assert "- config.seed: 0 -> 3" in text
  spent = [s.view.spending.total["flops"] for s in (a, b)]
  assert f"| spent flops | {spent[0]:.4g} | {spent[1]:.4g} |" in text
  assert "best loss, one | rounds | best loss, two" in text
  assert "Nothing was verified." in text
  assert "The budgets are equal." in write(a, a, tmp_path)


def test_what_cannot_be_compared_is_said(tmp_path):
  a, b = _side(tmp_path / "a", 4), _side(tmp_path / "b", 4)
  assert shared_rung(a, b) == ("explore", "")
  rungs = (
    b.settings.ladder[0],
    dataclasses.replace(b.settings.ladder[1], options={"steps": 9}),
  )
  other = dataclasses.replace(
    b, settings=dataclasses.replace(b.settings, ladder=rungs)
  )
  assert "other options" in shared_rung(a, other)[1]
  track = dataclasses.replace(b.settings, track="circle_packing")
  with pytest.raises(SettingsError, match="measure different things"):
    write(a, dataclasses.replace(b, settings=track), tmp_path)
  empty = _side(tmp_path / "c", 0)
  with pytest.raises(SettingsError, match="no rung in common"):
    shared_rung(a, empty)


def test_the_app_reads_archives_of_older_runs(tmp_path):
  folder = ROOT / "docs" / "results" / "circle_packing"
  urls = ",".join(str(folder / f"seed{seed}.zip") for seed in (0, 1))
  flags = [f"--records={urls}", f"--out={tmp_path}"]
  done = subprocess.run(
    [sys.executable, "-m", "launch.report", "compare", *flags],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  assert "config.seed: 0 -> 1" in done.stdout
  assert (tmp_path / "compare.png").exists()
