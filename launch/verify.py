"""`python -m launch.verify --records=URL`: fresh seeds, held-out data, Claims.

  --program=ID        verify this Program (again for more); default: the best
  --finalists=N       verify the N best of the search
  --seeds=201,202,203 on these seeds; default: the first that nobody has used
  --control=ID        compare a Program with itself, to test the pipeline
  --replay=CLAIM      measure a Claim again and compare bit for bit
  --nowait            only ask; Engineers elsewhere measure
  --nohere            wait, but start no Engineer on this machine

Exit codes: 0 done (a replay: identical), 1 failed or not identical, 2 a flag
is wrong, 3 stopped (the same command without --program goes on).
"""

from __future__ import annotations

import sys

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from asi_evolve_jax.records import RecordError, StoreError
from asi_evolve_jax.records.schema import Claim
from asi_evolve_jax.reporting import verdict
from asi_evolve_jax.reporting.report import write_report
from asi_evolve_jax.reporting.windows import over_windows
from asi_evolve_jax.roles import replay
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import (
  EXIT_FAILED,
  EXIT_OK,
  EXIT_STOPPED,
  EXIT_USAGE,
  RoleFailed,
)
from asi_evolve_jax.supervisor.run import OpenRun, attach
from asi_evolve_jax.supervisor.verify import Session, Stopped, Wanted

_RECORDS = flags.DEFINE_string(
  "records", "", "URL of the run's records: a folder, file:// or gs://."
)
_RUN_DIR = flags.DEFINE_string(
  "run_dir", "", "Folder for logs and scratch; default: beside the records."
)
_PROGRAM = flags.DEFINE_multi_string(
  "program", [], "Id (or its beginning) or name of a Program to verify."
)
_FINALISTS = flags.DEFINE_integer(
  "finalists", 0, "How many of the best to verify.", lower_bound=0
)
_SEEDS = flags.DEFINE_list("seeds", [], "Fresh seeds.")
_CONTROL = flags.DEFINE_string(
  "control", "", "A Program to compare with itself on two sets of seeds."
)
_REPLAY = flags.DEFINE_string("replay", "", "Id of a Claim, or its beginning.")
_WAIT = flags.DEFINE_boolean("wait", True, "Wait until all is measured.")
_HERE = flags.DEFINE_boolean(
  "here", True, "Start an Engineer and a verifier on this machine."
)


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.WARNING)
  if len(argv) > 1 or not _RECORDS.value:
    print(__doc__, file=sys.stderr)
    return EXIT_USAGE
  try:
    run = attach(_RECORDS.value, _RUN_DIR.value)
    session = Session(run)
    return _replay(run, session) if _REPLAY.value else _verify(run, session)
  except SettingsError as error:
    print(f"verify: {error}", file=sys.stderr)
    return EXIT_USAGE
  except Stopped:
    print("verify: stopped; what was asked for stays asked for.")
    return EXIT_STOPPED
  except (RecordError, StoreError, RoleFailed, OSError) as error:
    print(f"verify: {error}", file=sys.stderr)
    return EXIT_FAILED


def _verify(run: OpenRun, session: Session) -> int:
  wanted = Wanted(
    programs=tuple(_PROGRAM.value),
    finalists=_FINALISTS.value,
    seeds=_numbers(_SEEDS.value),
    control=_CONTROL.value,
  )
  wave = session.ask(wanted)
  seeds = ", ".join(map(str, (*wave.seeds, *wave.control_seeds)))
  _say(f"{wave.name}: {len(wave.programs)} Programs on seeds {seeds}")
  if not _WAIT.value:
    return EXIT_OK
  tasks = [task.id for task in wave.tasks]
  session.wait(
    _RECORDS.value,
    tasks,
    lambda: bool(session.claims(wave)),
    here=_HERE.value,
    say=_say,
  )
  _print(run, session, session.claims(wave))
  written = write_report(
    session.view,
    run.settings,
    run.track,
    run.records,
    run.run_dir / "report",
  )
  print(f"Report: {written.folder / 'leaderboard.md'}")
  return EXIT_OK


def _replay(run: OpenRun, session: Session) -> int:
  claim = session.claim(_REPLAY.value)
  tasks = replay.repeats(session.view, claim)
  session.put(*tasks)
  _say(f"replay of {claim.id}: {len(tasks)} Tasks")
  if not _WAIT.value:
    return EXIT_OK

  def done() -> bool:
    view = session.view
    return all(
      task.program in view.vetoed  # nobody will measure it
      or replay.outcome(view, task) is not None
      for task in tasks
    )

  session.wait(
    _RECORDS.value,
    [task.id for task in tasks],
    done,
    here=_HERE.value,
    say=_say,
  )
  found = replay.compare(session.view, run.records, claim, tasks, run.track)
  print("\n".join(found.lines()))
  return EXIT_OK if found.identical else EXIT_FAILED


def _numbers(values: list[str]) -> tuple[int, ...]:
  try:
    return tuple(int(value) for value in values)
  except ValueError:
    raise SettingsError(
      f"--seeds are whole numbers with commas between, got {values}."
    ) from None


def _say(text: str) -> None:
  print(text, file=sys.stderr)


def _print(run: OpenRun, session: Session, claims: list[Claim]) -> None:
  gains = ("gain [95 %] over seeds", "over held-out windows")
  table = Table("Claim", "Program", "over", *gains, "verdict", "why")
  name_of = session.view.name_of
  for claim in claims:
    found = over_windows(session.view, run.records, claim)
    told = verdict.interval(*found[0]) if found is not None else "not kept"
    table.add_row(
      claim.id[:8],
      name_of(claim.program),
      "itself" if claim.control else name_of(claim.baseline),
      verdict.interval(claim.effect, claim.low, claim.high).replace("[", "\\["),
      told.replace("[", "\\["),
      claim.verdict,
      claim.why,
    )
  Console().print(table)


if __name__ == "__main__":
  app.run(main)
