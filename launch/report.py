"""`python -m launch.report COMMAND --records=URL [--out=DIR]`: reads a run.

ladder: how well each rung predicts the last (docs/results/ladder.md).
calibrate: whether each rung orders the baselines as published (docs/suites.md).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from asi_evolve_jax.records import RecordError, StoreError, View
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import OpenRun, attach

_RECORDS = flags.DEFINE_string(
  "records", "", "URL of the records: a folder, file:// or gs://."
)
_OUT = flags.DEFINE_string(
  "out", "", "Folder for what is written; default: report/ beside the records."
)


def _view(run: OpenRun) -> View:
  metric = run.track.metric
  view = View(metric.name, metric.direction)
  records, _ = run.records.follow(None)
  view.update(records)
  return view


def _ladder(run: OpenRun, out: Path) -> str:
  from asi_evolve_jax.reporting import ladder
  from asi_evolve_jax.reporting.figures import draw_lines

  metric = run.track.metric
  view = _view(run)
  found = ladder.study(*ladder.read(view, run.records, run.settings, metric))
  text = ladder.markdown(found, metric)
  (out / "ladder.md").write_text(text)
  draw_lines(
    ladder.points(found),
    f"cost, of {found.target}'s",
    "rank correlation, of the ceiling",
    out / "ladder.png",
    log_y=False,
  )
  return text


def _calibrate(run: OpenRun, out: Path) -> str:
  from asi_evolve_jax.reporting import calibration

  view = _view(run)
  scales = calibration.calibrate(view, run.settings, run.track)
  seconds = sum(r.cost.get("cpu_seconds", 0.0) for r in view.results.values())
  text = calibration.markdown(scales, seconds)
  (out / "calibration.md").write_text(text)
  figures = json.dumps(calibration.as_json(scales), indent=1, allow_nan=False)
  (out / "calibration.json").write_text(figures + "\n")
  return text


COMMANDS: dict[str, Callable[[OpenRun, Path], str]] = {
  "ladder": _ladder,
  "calibrate": _calibrate,
}


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.WARNING)
  if len(argv) != 2 or argv[1] not in COMMANDS or not _RECORDS.value:
    print(__doc__, file=sys.stderr)
    return EXIT_USAGE
  try:
    run = attach(_RECORDS.value)
    out = Path(_OUT.value) if _OUT.value else run.run_dir / "report"
    out.mkdir(parents=True, exist_ok=True)
    print(COMMANDS[argv[1]](run, out))
  except SettingsError as error:
    print(f"report: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (RecordError, StoreError, OSError) as error:
    print(f"report: {error}", file=sys.stderr)
    return EXIT_FAILED
  return 0


if __name__ == "__main__":
  app.run(main)
