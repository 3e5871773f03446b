"""Which suites a search may see: a check on settings, the same for all tracks.

In a rung's options `development` maps tasks to what they cost; their scores
stand beside the rung's own and may guide the search. `generalisation` is for
verify alone, and its `tasks` are none that a ladder trains on: what guided the
search says nothing about what the search has not seen.
"""

from __future__ import annotations

from asi_evolve_jax.settings import RunSettings, SettingsError

DEVELOPMENT = "development"
GENERALISATION = "generalisation"


def check_suites(settings: RunSettings) -> None:
  """Refuses a ladder that reads what only verify may.

  Raises:
    SettingsError: naming the rung and what to move.
  """
  seen: dict[str, str] = {}
  for rung in settings.ladder:
    if rung.options.get(GENERALISATION):
      raise SettingsError(
        f"rung {rung.name} of config.ladder asks for {GENERALISATION}, which "
        "no search may see: move it to config.verify.rung.options, or name "
        f"tasks under {DEVELOPMENT}."
      )
    for task in rung.options.get(DEVELOPMENT) or {}:
      seen.setdefault(task, rung.name)
  verify = settings.verify.rung
  suite = verify.options.get(GENERALISATION) if verify is not None else None
  for task in (suite or {}).get("tasks") or {}:
    if task in seen:
      raise SettingsError(
        f"config.verify.rung.options.{GENERALISATION} has {task}, on which "
        f"rung {seen[task]} of config.ladder trains: take it out of one."
      )
