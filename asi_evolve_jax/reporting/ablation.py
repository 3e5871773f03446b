"""What each part of the loop was worth: runs of several conditions and seeds.

Runs with the same seed are compared in pairs. A run that ended at its target
keeps its best score to the end, and one that did not reach a goal counts with
all its rounds, which makes a mean of rounds a lower bound; both are said.
Intervals are those of single comparisons: with many conditions some exclude 0
by chance, and nothing here is a Claim.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from asi_evolve_jax.evaluation.statistics import (
  Interval,
  bootstrap_interval,
  holm,
  paired_difference,
  sign_flip_p,
)
from asi_evolve_jax.records import View
from asi_evolve_jax.reporting.figures import (
  Band,
  draw_bands,
  progress_curve,
)
from asi_evolve_jax.settings import (
  RunSettings,
  SettingsError,
  difference,
  plain,
)
from asi_evolve_jax.tracks.base import Metric

_LOCAL = ("name", "run_dir", "workers", "durable", "seed")
_DRAWS = 2000
_P = "p: sign-flip test, corrected for the number of conditions (Holm)."


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a condition.

  Attributes:
    condition: the name of its config.
    seed: of the run.
    settings: of the run.
    curve: (rounds ended, device-seconds, best score) at each gain.
    seconds: core-seconds of the workers, all rungs.
    finished: whether it came to its end.
  """

  condition: str
  seed: int
  settings: RunSettings
  curve: list[tuple[int, float, float]]
  seconds: float
  finished: bool

  @property
  def best(self) -> float:
    """The best score at the highest rung."""
    return self.curve[-1][2]

  def best_after(self, rounds: int) -> float:
    """The best score after `rounds` rounds; NaN before there is one."""
    found = [best for done, _, best in self.curve if done <= rounds]
    return found[-1] if found else np.nan

  def rounds_to(self, goal: float, metric: Metric) -> int | None:
    """Returns the rounds that had ended when `goal` was reached, or None."""
    for done, _, best in self.curve:
      if not metric.better(goal, best):
        return done
    return None


def read(view: View, settings: RunSettings, metric: Metric) -> Run:
  """Returns what a run's records say."""
  return Run(
    condition=settings.name,
    seed=settings.seed,
    settings=settings,
    curve=progress_curve(view, settings.ladder[-1].name, metric),
    seconds=view.spending.total["core_s"],
    finished="search-ended" in view.milestones,
  )


@dataclasses.dataclass(frozen=True)
class Study:
  """Finished runs of several conditions.

  Attributes:
    metric: that all of them search by.
    runs: condition -> seed -> run; the reference first.
    reference: the condition that the others are compared with.
    left_out: conditions and seeds of runs that are not finished.
  """

  metric: Metric
  runs: dict[str, dict[int, Run]]
  reference: str
  left_out: tuple[str, ...]

  @property
  def rounds(self) -> int:
    """Rounds that every run was given."""
    return next(iter(self.runs[self.reference].values())).settings.rounds


def study(runs: Sequence[Run], metric: Metric, reference: str = "") -> Study:
  """Puts runs side by side.

  Args:
    runs: finished or not.
    metric: of their track.
    reference: name of a condition; "": the one whose name ends in "full".

  Raises:
    SettingsError: if there is no such condition, if a seed is there twice, or
      if the runs had other tracks, rungs or numbers of rounds.
  """
  by_name: dict[str, dict[int, Run]] = collections.defaultdict(dict)
  left_out = []
  for run in sorted(runs, key=lambda r: (r.condition, r.seed)):
    if not (run.finished and run.curve):
      left_out.append(f"{run.condition}, seed {run.seed}")
      continue
    if run.seed in by_name[run.condition]:
      raise SettingsError(
        f"seed {run.seed} of {run.condition} is there twice: leave one out."
      )
    by_name[run.condition][run.seed] = run
  named = [n for n in by_name if n == reference or n.endswith("full")]
  first = reference or next(iter(named), "")
  if first not in by_name:
    raise SettingsError(
      f"no finished run of {first or 'a condition named ...full'}; there are "
      f"{', '.join(by_name) or 'none at all'}: name one with --reference."
    )
  rest = [name for name in by_name if name != first]
  found = Study(
    metric,
    {name: by_name[name] for name in (first, *rest)},
    first,
    tuple(left_out),
  )
  _check_equal(found)
  return found


def with_earlier(found: Study, path: str | Path) -> Study:
  """Adds runs of which an earlier report's JSON is all that was kept.

  A seed that is in both is refused: other code often goes the same way, so it
  would be no other pair. That both had the same rungs and budgets the JSON
  cannot say; who adds them does.

  Args:
    found: with the conditions that the JSON names; others of it are left out.
    path: of what `write` wrote.

  Raises:
    SettingsError: if it cannot be read, had more rounds or has a seed again.
  """
  try:
    kept = json.loads(Path(path).read_text())
    curves = {
      (name, int(seed)): ([tuple(p) for p in run["rounds_seconds_best"]], run)
      for name, runs in kept.items()
      for seed, run in runs.items()
    }
    most = max(curve[-1][0] for curve, _ in curves.values())
  except (
    *(OSError, ValueError, TypeError),
    *(KeyError, IndexError, AttributeError),
  ) as error:
    raise SettingsError(f"{path} is no ablation.json: {error!r}") from error
  if most > found.rounds:
    raise SettingsError(
      f"{path} has runs of {most} rounds, these had {found.rounds}: conditions "
      "are compared at equal rounds only."
    )
  merged = {}
  for name, runs in found.runs.items():
    like = next(iter(runs.values()))
    merged[name] = dict(runs)
    for (condition, seed), (curve, run) in curves.items():
      if condition != _short(found, name):
        continue
      if seed in runs:
        raise SettingsError(
          f"{path} has seed {seed} of {condition} too, which is no other run: "
          "take one of them out."
        )
      merged[name][seed] = dataclasses.replace(
        like, seed=seed, curve=curve, seconds=run["core_s"]
      )
  return dataclasses.replace(found, runs=merged)


def write(found: Study, goals: Sequence[float], out: Path) -> str:
  """Writes ablation.md, .png and .json to `out`; returns the text.

  The .json holds every run's gains, for those who want other statistics.
  """
  text = "\n".join(
    [
      f"# Conditions against {_short(found, found.reference)}\n",
      _summary(found),
      "## Best score at the end\n",
      *_finals(found),
      *(["## Rounds to a goal\n", *_goals(found, goals)] if goals else []),
      "## What a condition changes\n",
      *_changes(found),
    ]
  )
  (out / "ablation.md").write_text(text)
  runs = {
    _short(found, name): {
      str(seed): {"rounds_seconds_best": run.curve, "core_s": run.seconds}
      for seed, run in runs.items()
    }
    for name, runs in found.runs.items()
  }
  (out / "ablation.json").write_text(json.dumps(runs) + "\n")
  draw_bands(
    {_short(found, name): band(found, name) for name in found.runs},
    "rounds",
    f"best {found.metric.name}, mean [95 %]",
    out / "ablation.png",
  )
  return text


def band(found: Study, condition: str) -> Band:
  """Returns the mean best score after each round, with its 95 % interval.

  The interval is a percentile bootstrap over seeds; a round is left out while
  some run has no score.
  """
  values = np.asarray(
    [
      [run.best_after(n) for n in range(found.rounds + 1)]
      for run in found.runs[condition].values()
    ]
  )
  kept = np.flatnonzero(np.isfinite(values).all(0))
  values = values[:, kept]
  picks = np.random.default_rng(0).integers(
    0, len(values), (_DRAWS, len(values))
  )
  low, high = np.quantile(values[picks].mean(1), [0.025, 0.975], axis=0)
  return Band(
    kept.tolist(), values.mean(0).tolist(), low.tolist(), high.tolist()
  )


def _check_equal(found: Study) -> None:
  """Refuses runs that had not the same to work with."""
  settings = [r.settings for runs in found.runs.values() for r in runs.values()]
  for name in ("track", "track_options", "ladder", "rounds", "budget"):
    values = [plain(getattr(s, name)) for s in settings]
    if any(value != values[0] for value in values):
      raise SettingsError(
        f"the runs differ in config.{name}: conditions are compared at equal "
        "rounds, rungs and budgets only."
      )


def _short(found: Study, name: str) -> str:
  """Returns a condition's name without what all names begin with."""
  start = found.reference.removesuffix("full")
  return name.removeprefix(start) if start != found.reference else name


def _summary(found: Study) -> str:
  every = [r for runs in found.runs.values() for r in runs.values()]
  hours = sum(run.seconds for run in every) / 3600
  target = every[0].settings.target_score
  lines = [
    f"{len(every)} runs of up to {found.rounds} rounds, {hours:.2f} core-hours "
    f"of workers. Score: {found.metric.name} at rung "
    f"{every[0].settings.ladder[-1].name}, {found.metric.direction}d."
  ]
  if target is not None:
    lines.append(
      f"A run that reaches {target:g} ends there and keeps its best."
    )
  if found.left_out:
    lines.append(f"Not finished and left out: {'; '.join(found.left_out)}.")
  return "\n".join(lines) + "\n"


def _finals(found: Study) -> list[str]:
  lines = [
    "| condition | runs | best, median [95 %] | gain on "
    f"{_short(found, found.reference)}, mean [95 %] | p, corrected | better / "
    "equal / worse | core-seconds a run |",
    "|---|---|---|---|---|---|---|",
  ]
  gains = {
    name: _pairs(found, name, lambda a, b: found.metric.gain(a.best, b.best))
    for name in found.runs
  }
  p_values = _corrected(gains)
  for name, runs in found.runs.items():
    best = [run.best for run in runs.values()]
    middle = bootstrap_interval(best, lambda x: float(np.median(x)))
    gain, p, counts = "", "", ""
    if gains[name]:
      gain = _cell(Interval(*paired_difference(gains[name])[:3]), "+.3g")
      p = f"{p_values[name]:.2g}"
      signs = collections.Counter(np.sign(gains[name]).tolist())
      counts = f"{signs[1.0]} / {signs[0.0]} / {signs[-1.0]}"
    seconds = statistics.fmean(run.seconds for run in runs.values())
    cells = (
      _short(found, name),
      len(runs),
      _cell(middle, ".7g"),
      gain,
      p,
      counts,
      f"{seconds:.0f}",
    )
    lines.append("| " + " | ".join(map(str, cells)) + " |")
  return [
    *lines,
    "",
    "Gains are paired by seed (t interval, positive is better); medians have "
    f"bootstrap intervals. {_P}\n",
  ]


def _goals(found: Study, goals: Sequence[float]) -> list[str]:
  head = [
    "| condition | " + " | ".join(f"{goal:g}" for goal in goals) + " |",
    "|---|" + "---|" * len(goals),
  ]
  lines, more = list(head), list(head)

  def rounds(run: Run, goal: float) -> int:
    reached = run.rounds_to(goal, found.metric)
    return found.rounds if reached is None else reached

  later = {
    goal: {
      name: _pairs(
        found, name, lambda a, b, goal=goal: rounds(a, goal) - rounds(b, goal)
      )
      for name in found.runs
    }
    for goal in goals
  }
  p_values = {goal: _corrected(pairs) for goal, pairs in later.items()}
  for name, runs in found.runs.items():
    cells, differences = [_short(found, name)], [_short(found, name)]
    for goal in goals:
      count = sum(
        run.rounds_to(goal, found.metric) is not None for run in runs.values()
      )
      taken = [rounds(run, goal) for run in runs.values()]
      said = _cell(bootstrap_interval(taken), ".3g")
      least = "" if count == len(runs) else "at least "
      cells.append(f"{least}{said}; {count} of {len(runs)} runs")
      pairs = later[goal][name]
      if pairs:
        mean = Interval(*paired_difference(pairs)[:3])
        differences.append(
          f"{_cell(mean, '+.3g')}; p {p_values[goal][name]:.2g}"
        )
    lines.append("| " + " | ".join(cells) + " |")
    if len(differences) > 1:
      more.append("| " + " | ".join(differences) + " |")
  return [
    *lines,
    "",
    "Mean rounds with bootstrap intervals; a run that did not get there counts "
    f"as {found.rounds}, the rounds it had, so such a mean is a lower bound.\n",
    f"Rounds more than {_short(found, found.reference)} took, counted so, "
    f"paired by seed (t interval). {_P}\n",
    *more,
    "",
  ]


def _pairs(
  found: Study, name: str, difference: Callable[[Run, Run], float]
) -> list[float]:
  """Returns `difference` of a condition's run and the reference's, by seed."""
  theirs = found.runs[found.reference]
  return [
    difference(run, theirs[seed])
    for seed, run in found.runs[name].items()
    if seed in theirs and name != found.reference
  ]


def _corrected(pairs: Mapping[str, Sequence[float]]) -> dict[str, float]:
  """Returns sign-flip p values, corrected for the number of conditions."""
  names = [name for name, values in pairs.items() if values]
  corrected = holm([sign_flip_p(pairs[name]) for name in names])
  return dict(zip(names, corrected, strict=True))


def _changes(found: Study) -> list[str]:
  def shown(name: str) -> dict:
    config = plain(next(iter(found.runs[name].values())).settings)
    return {k: v for k, v in config.items() if k not in _LOCAL}

  lines = []
  for name in found.runs:
    if name != found.reference:
      changed = difference(shown(found.reference), shown(name)) or ["nothing"]
      lines.append(f"- {_short(found, name)}: {'; '.join(changed)}")
  return [*lines, ""]


def _cell(value: Interval, form: str) -> str:
  if not np.isfinite(value.high - value.low):
    return f"{value.mean:{form}}"
  return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"
