"""The live view: one screen that says where the run stands.

On a terminal it redraws; elsewhere (a log, CI) it prints one line when a
round ends, at most every few seconds.
"""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asi_evolve_jax.evaluation.budget import Budget, Line, rounds
from asi_evolve_jax.evaluation.statistics import mean_interval
from asi_evolve_jax.records import Held, View
from asi_evolve_jax.records.schema import SEARCH
from asi_evolve_jax.roles.promotion import Promotions
from asi_evolve_jax.roles.verifier import awaiting
from asi_evolve_jax.supervisor.progress import counts
from asi_evolve_jax.supervisor.run import OpenRun
from asi_evolve_jax.supervisor.steering import asks
from asi_evolve_jax.tracks.base import rung_work

_LINE_EVERY_S = 5.0
_BEST_SHOWN = 6
_TASKS_SHOWN = 32
_LEASES_EVERY_S = 1.0
_WAITING_SHOWN = 4


class Live:
  """Context manager; `refresh` redraws from the View it was given."""

  def __init__(self, run: OpenRun, view: View, promotions: Promotions):
    self._run = run
    self._view = view
    self._promotions = promotions
    self._work = rung_work(run.track, run.settings)
    self._console = Console(stderr=True)
    self._screen = (
      RichLive(console=self._console, refresh_per_second=4, transient=True)
      if self._console.is_terminal
      else None
    )
    self._started = time.monotonic()
    self._rounds_before = view.rounds()
    self._leases: list[Held] = []
    self._leases_at = -_LEASES_EVERY_S
    self._beat_at = self._started
    self._said: set[str] = set()
    self._last_line = ""
    self._last_line_at = -_LINE_EVERY_S

  def __enter__(self) -> Live:
    if self._screen:
      self._screen.__enter__()
    self.say(f"run {self._run.settings.name} in {self._run.run_dir}")
    return self

  def __exit__(self, *error: object) -> None:
    if self._screen:
      self._screen.__exit__(*error)  # type: ignore[arg-type]

  def say(self, text: str) -> None:
    """Prints a line that stays."""
    self._console.print(text, highlight=False, soft_wrap=True)

  def working(self) -> bool:
    """Whether anybody works on a Task: holds it and shows signs of life."""
    now = time.monotonic()
    if now - self._leases_at > _LEASES_EVERY_S:
      self._leases_at = now
      waiting = [t.id for t in self._view.pending()[:_TASKS_SHOWN]]
      before, self._leases = self._leases, self._run.records.leases(waiting)
      if self._leases != before:
        self._beat_at = now
    quiet = now - self._beat_at
    return bool(self._leases) and quiet < self._run.settings.workers.lease_ttl_s

  def refresh(self) -> None:
    """Draws the present state."""
    waiting = asks(self._run, self._view, self._promotions)[:_WAITING_SHOWN]
    for line in waiting:
      about = line.partition(",")[0]  # what follows changes with each Result
      if about not in self._said:
        self._said.add(about)
        self.say(line)
    if self._screen:
      self._screen.update(self._draw(waiting))
      return
    line = self._line()
    now = time.monotonic()
    if line != self._last_line and now - self._last_line_at >= _LINE_EVERY_S:
      self._last_line, self._last_line_at = line, now
      self.say(line)

  # What is shown, as text, so that both forms say the same.

  def _phase(self) -> str:
    view = self._view
    if view.steering.paused is not None:
      return f"paused by {view.steering.paused.by}"
    if "verify-asked" in view.milestones:
      asked = view.milestones["verify-asked"].detail["tasks"]
      done = sum(task in view.results for task in asked)
      return f"verify {done}/{len(asked)}"
    if "search-ended" in view.milestones:
      waits = awaiting(view, self._run.settings, self._work)
      return "verify waits for approval" if waits else "verify begins"
    last = self._run.settings.ladder[-1].name
    done = sum(view.score(p, last) is not None for p in view.baselines)
    if done < len(view.baselines):
      return f"baselines {done}/{len(view.baselines)}"
    return "search"

  def _left(self, budgets: list[Line]) -> str:
    settings, view = self._run.settings, self._view
    done = view.rounds() - self._rounds_before
    spent = time.monotonic() - self._started
    guesses = []
    for line in budgets:
      if line.name == "wall_s" and line.limit:
        guesses.append(max(0.0, line.limit - line.spent))
    wanted = rounds(view, settings)
    if done and wanted:
      guesses.append(max(0, wanted - view.rounds()) * spent / done)
    return f"{_clock(min(guesses))} left" if guesses else "time left unknown"

  def _rate(self) -> str:
    done = self._view.rounds() - self._rounds_before
    spent = time.monotonic() - self._started
    return f"{60 * done / max(spent, 1e-9):.1f} rounds/min"

  def _score(self, program: str, rung: str) -> str:
    values = self._view.seed_scores(program, rung)
    mean, low, high = mean_interval(values)
    if len(values) < 2:
      return f"{mean:.4f} (1 seed)"
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]"

  def _best(self) -> tuple[str, str] | None:
    for rung in reversed(self._run.settings.ladder):
      best = self._view.best(rung.name)
      if best:
        return best, rung.name
    return None

  def _line(self) -> str:
    view = self._view
    best = self._best()
    said = "no score yet"
    if best:
      name = view.proposal_of[best[0]].name
      said = f"best {name} {self._score(*best)} at {best[1]}"
    return (
      f"{self._phase()} | rounds {view.rounds()}/"
      f"{rounds(view, self._run.settings)} "
      f"| {len(view.results)} results, {len(view.pending())} waiting | {said}"
    )

  def _draw(self, waiting: list[str]) -> Group:
    settings, view = self._run.settings, self._view
    budgets = Budget(view, settings, time.time(), self._work).lines()
    tally = counts(view, settings.ladder[0].name)
    wanted = rounds(view, settings)
    head = Table.grid(padding=(0, 2))
    head.add_row(
      Text(f"{settings.name} ({settings.track})", style="bold"),
      self._phase(),
      f"rounds {view.rounds()}/{wanted}",
      ProgressBar(wanted or 1, view.rounds(), width=24),
      self._rate(),
      self._left(budgets),
    )
    head.add_row(
      "",
      f"{tally.ok} passed",
      f"{tally.rejected} rejected, {tally.stopped} stopped",
      f"{tally.failed + tally.timeout} failed, {tally.lost} lost",
      f"{len(view.insights)} insights",
      "",
    )
    notes = [line.text() for line in budgets if line.limit]
    said = [Text(line, style="dim") for line in notes]
    said += [Text(line, style="bold yellow") for line in waiting]
    return Group(head, *said, self._draw_best(), self._draw_workers())

  def _draw_best(self) -> Table:
    metric = self._run.track.metric
    table = Table(title=None, box=None, padding=(0, 2))
    best = self._best()
    rung = best[1] if best else self._run.settings.ladder[0].name
    table.add_column(f"best at {rung}")
    table.add_column(f"{metric.name} ({metric.direction})", justify="right")
    table.add_column("by")
    for program in self._view.ranked(rung, _BEST_SHOWN):
      proposal = self._view.proposal_of[program]
      table.add_row(proposal.name, self._score(program, rung), proposal.author)
    return table

  def _draw_workers(self) -> Table:
    table = Table(box=None, padding=(0, 2))
    for column in ("worker", "task", "rung", "age"):
      table.add_column(column)
    self.working()  # looks again where it is time to
    for lease in self._leases:
      task = self._view.tasks[lease.task]
      purpose = "" if task.purpose == SEARCH else f" ({task.purpose})"
      age = max(0.0, time.time() - lease.started_at)
      table.add_row(
        lease.owner,
        self._view.name_of(task.program),
        f"{task.rung}{purpose}",
        _clock(age),
      )
    return table


def _clock(seconds: float) -> str:
  whole = int(seconds)
  if whole >= 3600:
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
  return f"{whole // 60}:{whole % 60:02d}"
