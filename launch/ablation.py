"""`python -m launch.ablation --track=TRACK --out=DIR`: the ablation study.

Runs every condition of configs/ablation.py with every seed, one after another,
and goes on where it was when it is started again. Read it with
`python -m launch.report ablation --records=DIR/TRACK`.

Exit codes: 0 all finished, 1 some failed, 2 a flag is wrong, 3 stopped by
Ctrl-C (the same command goes on).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from asi_evolve_jax.supervisor.processes import EXIT_USAGE
from asi_evolve_jax.supervisor.study import Study, Trial, trials
from configs import ablation
from launch import _words

_TRACK = flags.DEFINE_enum(
  "track", "circle_packing", sorted(ablation.CONDITIONS), "What is evolved."
)
_CONDITIONS = flags.DEFINE_list(
  "conditions", [], "Names of conditions; by default all of the track."
)
_SEEDS = flags.DEFINE_integer("seeds", 10, "Runs a condition.", lower_bound=1)
_FIRST = flags.DEFINE_integer("first_seed", 0, "Seed of the first run.")
_OUT = flags.DEFINE_string("out", "runs/ablation", "Folder for the runs.")
_PARALLEL = flags.DEFINE_integer(
  "parallel", 1, "Most runs at a time; each keeps one core busy.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer(
  "rounds", 0, "Rounds a run; 0: as the config says.", lower_bound=0
)


def _command(trial: Trial) -> Sequence[str]:
  config = f"{ablation.__file__}:{_TRACK.value}-{trial.condition}"
  command = [
    sys.executable,
    "-m",
    "launch.evolve",
    f"--config={config}",
    f"--config.seed={trial.seed}",
    f"--config.run_dir={trial.folder}",
  ]
  if _ROUNDS.value:
    command.append(f"--config.rounds={_ROUNDS.value}")
  if _PARALLEL.value > 1:  # all would be pinned to the same core
    command.append("--config.workers.pin=False")
  return command


def main(argv: list[str]) -> int:
  known = ablation.CONDITIONS[_TRACK.value]
  wanted = _CONDITIONS.value or list(known)
  unknown = sorted(set(wanted) - set(known))
  if len(argv) > 1 or unknown:
    print(
      f"ablation: no condition {', '.join(unknown or argv[1:])}; there are "
      f"{', '.join(known)}",
      file=sys.stderr,
    )
    return EXIT_USAGE
  out = Path(_OUT.value).resolve() / _TRACK.value
  seeds = range(_FIRST.value, _FIRST.value + _SEEDS.value)
  planned = trials(wanted, seeds, out)
  study = Study(
    planned,
    _command,
    parallel=_PARALLEL.value,
    say=lambda line: print(line, flush=True),
  )
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: study.stop())
  return study.run()


if __name__ == "__main__":
  app.run(main, flags_parser=_words.parser("ablation", __doc__ or ""))
