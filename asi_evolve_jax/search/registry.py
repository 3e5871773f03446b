"""Samplers by name."""

from __future__ import annotations

import random
from collections.abc import Sequence

from asi_evolve_jax.search.islands import Islands
from asi_evolve_jax.search.samplers import (
  UCB1,
  Greedy,
  Sampler,
  UniformRandom,
)
from asi_evolve_jax.settings import SamplerSettings, SettingsError
from asi_evolve_jax.tracks.base import Axis, Track

ISLANDS = "islands"
SAMPLERS: dict[str, type[Sampler]] = {
  "ucb1": UCB1,
  "greedy": Greedy,
  "random": UniformRandom,
  ISLANDS: Islands,
}


def make_sampler(
  settings: SamplerSettings, rng: random.Random, axes: Sequence[Axis] = ()
) -> Sampler:
  """Returns the sampler that `settings.name` names.

  Args:
    settings: policy, pool and ranks.
    rng: source of all its chance; same state, same draws.
    axes: of the track, for policies that keep unlike Programs apart.

  Raises:
    SettingsError: on an unknown name or impossible ranks.
  """
  if settings.name not in SAMPLERS:
    raise SettingsError(
      f"sampler.name must be one of {', '.join(SAMPLERS)}, "
      f"got {settings.name!r}."
    )
  return SAMPLERS[settings.name](settings, rng, axes)


def check(settings: SamplerSettings, track: Track) -> None:
  """Checks that the sampler finds in the track what it works with.

  Raises:
    SettingsError: if it does not.
  """
  if settings.name == ISLANDS and not track.axes():
    raise SettingsError(
      f"config.sampler.name is {ISLANDS!r} and the track {track.name} has no "
      "axes to keep Programs apart by: add Track.axes(), or take another "
      "sampler."
    )
