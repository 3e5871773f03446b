"""The gain of a Claim over windows of held-out data."""

import numpy as np
import pytest

from asi_evolve_jax.records import Records, View
from asi_evolve_jax.records.schema import NOT_CLAIMED, VERIFY, Claim, Result
from asi_evolve_jax.reporting.windows import over_windows

SEEDS = (7, 8)


def _measured(records, view, program, windows):
  """A Result whose scores of the windows are `windows`, or are not kept."""
  if windows is not None:
    array = np.array(windows, np.float32)
    records.put_array(f"{program}/held_out", array)
  result = Result(
    task=program,
    program=program,
    rung="verify",
    seeds=SEEDS,
    purpose=VERIFY,
    status="ok",
    metrics=({"held_out": 1.0},) * 2,
    curves=program if windows is not None else "",
  )
  view.update([result])


def _gain(folder, mine, theirs, direction="minimize"):
  records = Records.open(str(folder))
  view = View("loss", direction)
  _measured(records, view, "new", mine)
  _measured(records, view, "old", theirs)
  claim = Claim(
    program="new",
    baseline="old",
    verdict=NOT_CLAIMED,
    why="",
    asked_by="verify-asked",
    rung="verify",
    metric="held_out",
    direction=direction,
    seeds=SEEDS,
    baseline_seeds=SEEDS,
    results=("new",),
    baseline_results=("old",),
  )
  return over_windows(view, records, claim)


def test_a_gain_on_every_window_and_one_that_hangs_on_a_few(tmp_path):
  rng = np.random.default_rng(0)
  # Windows differ by far more than Programs do: only pairs can tell.
  text = rng.normal(3.0, 1.0, 64) + rng.normal(0, 0.01, (2, 64))
  everywhere, count = _gain(tmp_path / "all", text - 0.1, text)
  assert count == 64
  assert everywhere.mean == pytest.approx(0.1, abs=1e-6)
  assert everywhere.low > 0.09
  few = text.copy()
  few[:, :2] -= 3.2  # the same mean
  luck, _ = _gain(tmp_path / "few", few, text)
  assert luck.mean == pytest.approx(0.1, abs=1e-6)
  assert luck.low <= 0.0
  worse, _ = _gain(tmp_path / "up", text - 0.1, text, "maximize")
  assert worse.mean == pytest.approx(-0.1, abs=1e-6)


@pytest.mark.parametrize("theirs", [None, np.ones((2, 3))])
def test_windows_that_were_not_kept_or_are_others_say_nothing(theirs, tmp_path):
  assert _gain(tmp_path, np.ones((2, 4)), theirs) is None
