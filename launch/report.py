"""`python -m launch.report COMMAND --records=URL [--out=DIR]`: reads runs.

ladder: how well each rung predicts the next and the last
  (docs/results/ladder.md).
calibrate: whether each rung orders the baselines as published (docs/suites.md).
compare: two runs side by side, --records=A,B.
ablation: conditions side by side, over seeds (docs/results/ablation.md);
  --records is the folder of a study, with CONDITION/SEED/records or archives
  in it, or names runs; --goals=2.6,2.63 asks for the rounds to get there.

URL is that of a run's records, or an archive (FILE.zip) of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

from asi_evolve_jax.records import RecordError, Records, StoreError
from asi_evolve_jax.records.archive import ArchiveError, import_archive
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import EXIT_FAILED, EXIT_USAGE
from asi_evolve_jax.supervisor.run import OpenRun, attach
from asi_evolve_jax.supervisor.steering import view_of

_RECORDS = flags.DEFINE_string(
  "records", "", "URL of the records: a folder, file:// or gs://."
)
_OUT = flags.DEFINE_string(
  "out", "", "Folder for what is written; default: report/ beside the records."
)
_GOALS = flags.DEFINE_list("goals", [], "ablation: scores to be reached.")
_EARLIER = flags.DEFINE_string(
  "earlier", "", "ablation: ablation.json of an earlier study, to be added."
)
_REFERENCE = flags.DEFINE_string(
  "reference", "", "ablation: the condition to compare with; default: ...full."
)


def _ladder(runs: list[OpenRun], out: Path) -> str:
  from asi_evolve_jax.reporting import ladder
  from asi_evolve_jax.reporting.figures import draw_lines

  (run,) = runs
  metric = run.track.metric
  view = view_of(run)
  final = run.track.final_metric
  found = ladder.study(
    *ladder.read(view, run.records, run.settings, metric, final)
  )
  text = ladder.markdown(found, metric)
  (out / "ladder.md").write_text(text)
  points = ladder.points(found)
  if points:
    draw_lines(
      points,
      f"cost, of {found.target}'s",
      "rank correlation, of the ceiling",
      out / "ladder.png",
      log_y=False,
    )
  return text


def _calibrate(runs: list[OpenRun], out: Path) -> str:
  from asi_evolve_jax.reporting import calibration

  (run,) = runs
  view = view_of(run)
  scales = calibration.calibrate(view, run.settings, run.track)
  text = calibration.markdown(scales, view.spending.total["core_s"])
  (out / "calibration.md").write_text(text)
  figures = json.dumps(calibration.as_json(scales), indent=1, allow_nan=False)
  (out / "calibration.json").write_text(figures + "\n")
  return text


def _compare(runs: list[OpenRun], out: Path) -> str:
  from asi_evolve_jax.reporting import compare

  def side(run: OpenRun) -> compare.Side:
    return compare.Side(view_of(run), run.settings, run.track)

  a, b = map(side, runs)
  return compare.write(a, b, out)


def _ablation(runs: list[OpenRun], out: Path) -> str:
  from asi_evolve_jax.reporting import ablation

  metric = runs[0].track.metric
  study = ablation.study(
    [ablation.read(view_of(run), run.settings, metric) for run in runs],
    metric,
    _REFERENCE.value,
  )
  if _EARLIER.value:
    study = ablation.with_earlier(study, _EARLIER.value)
  return ablation.write(study, [float(goal) for goal in _GOALS.value], out)


# Command -> function of runs and the folder to write to, and how many runs it
# reads; None: any number.
COMMANDS: dict[str, tuple[Callable[[list[OpenRun], Path], str], int | None]] = {
  "ladder": (_ladder, 1),
  "calibrate": (_calibrate, 1),
  "compare": (_compare, 2),
  "ablation": (_ablation, None),
}


def _inside(url: str) -> list[str]:
  """Returns the URLs of the runs in the folder of a study, or `url` itself."""
  found = {str(path) for path in Path(url).glob("*/*/records")}
  for pattern in ("*.zip", "*/*.zip"):
    found.update(str(path) for path in Path(url).glob(pattern))
  return sorted(found) or [url]


def _open(url: str, folder: Path) -> OpenRun:
  """Opens a run, an archive of one in `folder`."""
  if not url.endswith(".zip"):
    return attach(url)
  import_archive(Records.open(str(folder / "records")), url)
  return attach(str(folder / "records"), str(folder))


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.WARNING)
  urls = [url for url in _RECORDS.value.split(",") if url]
  if len(argv) != 2 or argv[1] not in COMMANDS:
    print(__doc__, file=sys.stderr)
    return EXIT_USAGE
  command, count = COMMANDS[argv[1]]
  folder = urls[0] if urls else ""
  if count is None:
    urls = [run for url in urls for run in _inside(url)]
  if not urls or count not in (None, len(urls)):
    print(
      f"report: {argv[1]} reads {count or 'some'} run(s), --records names "
      f"{len(urls)}.",
      file=sys.stderr,
    )
    return EXIT_USAGE
  if folder.endswith(".zip") and not _OUT.value:
    print("report: an archive has no folder: give --out=DIR.", file=sys.stderr)
    return EXIT_USAGE
  try:
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
      runs = [_open(u, Path(scratch) / str(i)) for i, u in enumerate(urls)]
      home = runs[0].run_dir if folder == urls[0] else Path(folder)
      out = Path(_OUT.value) if _OUT.value else home / "report"
      out.mkdir(parents=True, exist_ok=True)
      print(command(runs, out))
  except SettingsError as error:
    print(f"report: {error}", file=sys.stderr)
    return EXIT_USAGE
  except (RecordError, StoreError, ArchiveError, OSError) as error:
    print(f"report: {error}", file=sys.stderr)
    return EXIT_FAILED
  return 0


if __name__ == "__main__":
  app.run(main)
