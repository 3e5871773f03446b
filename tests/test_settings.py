"""Configs become settings, and what is wrong with one is said plainly."""

import ml_collections
import pytest

from asi_evolve_jax.settings import (
  RunSettings,
  SettingsError,
  difference,
  from_config,
  plain,
)


def _config(**changes):
  config = ml_collections.ConfigDict(
    {
      "name": "test",
      "track": "circle_packing",
      "rounds": 3,
      "ladder": ({"name": "quick", "seeds": (0, 1), "deadline_s": 5},),
    }
  )
  config.update(changes)
  return config


def test_nested_config_becomes_dataclasses():
  settings = from_config(RunSettings, _config())
  assert settings.ladder[0].seeds == (0, 1)
  assert settings.ladder[0].deadline_s == 5.0
  assert isinstance(settings.ladder[0].deadline_s, float)


def test_settings_survive_the_way_through_a_record():
  settings = from_config(RunSettings, _config())
  assert from_config(RunSettings, plain(settings)) == settings


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"ruonds": 3}, "Did you mean config.rounds"),
    ({"rounds": "3"}, r"config.rounds must be int, got '3'"),
    ({"rounds": True}, "config.rounds must be int"),
    ({"durable": 1}, "config.durable must be bool"),
    ({"ladder": ({"seeds": (0,)},)}, r"config.ladder\[0\] lacks name"),
    ({"ladder": "quick"}, "config.ladder must be a sequence"),
    ({"sampler": {"parent_ranks": (1,)}}, "must have 2 values"),
    ({"workers": 2}, "config.workers must be a mapping"),
  ],
)
def test_what_is_wrong_is_named(changes, message):
  config = plain(_config())
  config.update(changes)
  with pytest.raises(SettingsError, match=message):
    from_config(RunSettings, config)


def test_missing_keys_are_named():
  with pytest.raises(SettingsError, match="config lacks name, track"):
    from_config(RunSettings, {})


def test_difference_names_every_place():
  old = {"a": 1, "b": {"c": [1, 2]}, "gone": 0}
  new = {"a": 1, "b": {"c": [1, 3]}, "here": 0}
  assert difference(old, new) == [
    "config.b.c: [1, 2] -> [1, 3]",
    "config.gone: 0 -> not set",
    "config.here: not set -> 0",
  ]
  assert difference(old, old) == []
