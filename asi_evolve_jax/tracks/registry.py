"""Tracks by name. Imported lazily: a run loads the one it serves."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from asi_evolve_jax.settings import SettingsError
from asi_evolve_jax.tracks.base import Track

_TRACKS = {
  "architecture": "asi_evolve_jax.tracks.architecture.track:ArchitectureTrack",
  "circle_packing": (
    "asi_evolve_jax.tracks.circle_packing.track:CirclePackingTrack"
  ),
}


def names() -> tuple[str, ...]:
  """Returns the names of all tracks."""
  return tuple(sorted(_TRACKS))


def load(name: str, options: Mapping[str, Any]) -> Track:
  """Returns the track `name` with its options.

  `name` may also be "package.module:Class" for a track that lives elsewhere.

  Raises:
    SettingsError: if there is no such track or an option is wrong.
  """
  target = _TRACKS.get(name, name)
  module, _, attribute = target.partition(":")
  if not attribute:
    raise SettingsError(
      f"config.track is {name!r}; tracks here: {', '.join(names())}, "
      "or give package.module:Class."
    )
  try:
    cls = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError) as error:
    raise SettingsError(f"config.track {name!r}: {error}") from error
  return cls(dict(options))
