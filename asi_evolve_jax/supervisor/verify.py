"""What `launch.verify` does: asks for verify or a replay, and sees it done."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Sequence

from asi_evolve_jax.records import View
from asi_evolve_jax.records.schema import UNSEEN, Claim, Record
from asi_evolve_jax.records.views import LEAST_DIGITS
from asi_evolve_jax.roles.claims import pairings
from asi_evolve_jax.roles.verifier import finalists
from asi_evolve_jax.roles.waves import (
  Wave,
  fresh_seeds,
  is_open,
  make_wave,
  used_seeds,
  waves,
)
from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.supervisor.processes import Processes
from asi_evolve_jax.supervisor.run import OpenRun

_POLL_S = 0.25


class Stopped(RuntimeError):
  """A person stopped the waiting; what was asked for stays asked for."""


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What a person asks to be verified.

  Attributes:
    programs: ids, beginnings of ids, or names; empty: the best of the search.
    finalists: how many of the best; 0: as the config says.
    seeds: fresh ones; empty: the first that nobody has used.
    control: a Program to be compared with itself on two disjoint sets.
  """

  programs: tuple[str, ...] = ()
  finalists: int = 0
  seeds: tuple[int, ...] = ()
  control: str = ""


class Session:
  """A person's view of a run's verify.

  Attributes:
    view: of all records, as of the last `follow`.
  """

  def __init__(self, run: OpenRun):
    self._run = run
    self._cursor = None
    self.view = View(run.track.metric.name, run.track.metric.direction)
    self.follow()

  def follow(self) -> None:
    """Takes in what is new."""
    news, self._cursor = self._run.records.follow(self._cursor)
    self.view.update(news)

  def put(self, *records: Record) -> None:
    """Writes `records`, those that are not there."""
    self._run.records.put(*records)
    self.view.update(records)

  def ask(self, wanted: Wanted) -> Wave:
    """Writes the Tasks of a new wave, or takes up one that is not done.

    Raises:
      SettingsError: if it cannot be asked; the message says what can.
    """
    settings = self._run.settings
    rung = settings.verify.rung
    if rung is None:
      raise SettingsError(
        "this run has no config.verify.rung: nothing says how to verify."
      )
    for wave in waves(self.view, settings):
      if is_open(self.view, wave):
        if wanted != Wanted():
          raise SettingsError(
            f"{wave.name} is not measured yet: run again without --program, "
            "--finalists, --seeds and --control, and it goes on."
          )
        return wave
    chosen = self._programs(wanted)
    seeds, control = self._seeds(wanted, len(rung.seeds))
    wave = make_wave(
      self.view,
      settings,
      chosen,
      seeds,
      f"launch.verify by {os.environ.get('USER', 'somebody')}",
      control_seeds=control,
    )
    names = {self.view.baselines[p] for p in wave.baselines}
    missing = [n for n in settings.verify.references if n not in names]
    if missing and not control:
      raise SettingsError(
        f"the references {missing} have no Program in this run yet: let "
        "launch.evolve measure the baselines first."
      )
    if not control and not pairings(self.view, wave, settings):
      raise SettingsError(
        f"{names & set(settings.verify.references)} would be compared with "
        "nothing: give another --program, or --control."
      )
    self.put(wave.milestone())
    self.put(*wave.tasks)
    return wave

  def claims(self, wave: Wave) -> list[Claim]:
    """Returns the standing Claims of `wave`; empty while it is open."""
    if is_open(self.view, wave):
      return []
    standing = self.view.standing_claims()
    return [c for c in standing if c.asked_by == wave.name]

  def claim(self, beginning: str) -> Claim:
    """Returns the Claim whose id begins so.

    Raises:
      SettingsError: if none does, or several.
    """
    found = [
      c for id, c in self.view.claims.items() if id.startswith(beginning)
    ]
    if len(found) != 1 or not beginning:
      known = ", ".join(sorted(self.view.claims)) or "none"
      raise SettingsError(
        f"{len(found)} Claims begin with {beginning!r}; there are: {known}."
      )
    return found[0]

  def _programs(self, wanted: Wanted) -> list[str]:
    if wanted.control:
      return [self._program(wanted.control)]
    if wanted.programs:
      chosen = [self._program(name) for name in wanted.programs]
      return list(dict.fromkeys(chosen))
    count = wanted.finalists or self._run.settings.verify.finalists
    chosen = finalists(self.view, self._run.settings, count)
    if not chosen:
      raise SettingsError(
        "no candidate has a score at the last rung to be chosen by: give "
        "--finalists=N or --program=ID."
      )
    return chosen

  def _program(self, name: str) -> str:
    found = self.view.meant(name)
    if len(found) != 1:
      raise SettingsError(
        f"{len(found)} Programs are called {name!r}: give the id, or at least "
        f"{LEAST_DIGITS} digits of it, or a baseline: "
        f"{', '.join(self.view.baselines.values())}."
      )
    return found[0]

  def _seeds(
    self, wanted: Wanted, count: int
  ) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the wave's seeds, in two halves for a control."""
    least = self._run.settings.verify.min_seeds
    sets = 2 if wanted.control else 1
    used = used_seeds(self.view, self._run.settings)
    seeds = wanted.seeds or fresh_seeds(used, sets * max(count, least))
    both = sorted(used & set(seeds))
    if both or len(set(seeds)) != len(seeds):
      free = fresh_seeds(used, len(seeds))
      raise SettingsError(
        f"--seeds: {both or list(seeds)} were used before; what has been seen "
        f"cannot judge. Free are {free[0]} and on."
      )
    if len(seeds) % sets or len(seeds) < sets * least:
      raise SettingsError(
        f"--seeds: {len(seeds)} seeds claim nothing; give at least "
        f"{sets * least}{' (two equal sets)' if sets == 2 else ''}."
      )
    half = len(seeds) // sets
    return tuple(seeds[:half]), tuple(seeds[half:])

  def wait(
    self,
    url: str,
    tasks: Sequence[str],
    done: Callable[[], bool],
    *,
    here: bool,
    say: Callable[[str], None],
  ) -> None:
    """Returns when `done()` after following.

    Args:
      url: of the records.
      tasks: ids, of which progress is told.
      done: what is waited for.
      here: whether to start an Engineer and a verifier on this machine.
      say: prints a line.

    Raises:
      Stopped: by a signal.
      RoleFailed: if a role does not stay up.
    """
    stops: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda n, _: stops.append(n)) for n in numbers]
    processes = Processes(self._run.run_dir, url)
    told = ""

    def tell() -> None:
      nonlocal told
      measured = sum(task in self.view.results for task in tasks)
      now = f"{measured} of {len(tasks)} Tasks measured"
      if self.view.steering.paused:
        now += "; the run is paused (launch.steer resume)"
      if now != told:
        told = now
        say(now)

    try:
      if here:
        processes.add("engineer")
        processes.add("verifier")
      while not done():
        if stops:
          raise Stopped
        tell()
        # An Engineer without work on a finished run ends by itself.
        if any(t.purpose in UNSEEN for t in self.view.pending()):
          processes.watch()
        time.sleep(_POLL_S)
        self.follow()
      tell()
    finally:
      processes.stop()
      for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
      self.follow()
