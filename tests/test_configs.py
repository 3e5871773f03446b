"""Every config and variant becomes settings that its track accepts."""

import importlib

import pytest

from asi_evolve_jax.settings import (
  RunSettings,
  SettingsError,
  from_config,
  plain,
)
from asi_evolve_jax.supervisor.run import settings_from
from asi_evolve_jax.tracks import registry
from configs.ablation import CONDITIONS

CONFIGS = (
  ("quickstart", ""),
  ("quickstart", "smoke"),
  ("architecture", "cpu"),
  ("architecture", "random"),
  ("architecture", "scale"),
  ("circle_packing", ""),
  ("circle_packing", "smoke"),
  ("controls", ""),
  ("controls", "smoke"),
  ("campaign", ""),
  ("campaign", "slice2"),
  ("campaign", "smoke"),
  ("circle_packing", "items"),
  ("circle_packing", "priors"),
  ("ladder_study", ""),
  ("own_program", ""),
  ("own_program", "smoke"),
  ("calibrate", ""),
  ("calibrate", "long"),
  ("calibrate", "smoke"),
  *(
    ("ablation", f"{track}-{condition}")
    for track, conditions in CONDITIONS.items()
    for condition in conditions
  ),
)


@pytest.mark.parametrize(("name", "variant"), CONFIGS)
def test_config_is_accepted(name, variant):
  config = importlib.import_module(f"configs.{name}").get_config(variant)
  # What the documents tell people to say on the command line.
  assert config.workers.sandbox == "auto"
  settings = settings_from(config)
  track = registry.load(settings.track, settings.track_options)
  rungs = list(settings.ladder)
  if settings.verify.rung is not None:
    rungs.append(settings.verify.rung)
  for rung in rungs:
    assert track.stage_options(rung)
  assert from_config(RunSettings, plain(settings)) == settings
  genes = {gene.name for gene in track.space.genes}
  numbers = {*track.columns(), *(metric.name for metric in track.metrics())}
  assert track.axes()
  for axis in track.axes():
    assert axis.name in (numbers if axis.edges else genes)
    assert list(axis.edges) == sorted(axis.edges)
  names = [baseline.name for baseline in track.baselines()]
  if settings.verify.finalists:
    assert set(settings.verify.references) <= set(names)


@pytest.mark.parametrize("name", sorted({name for name, _ in CONFIGS}))
def test_an_unknown_variant_is_refused(name):
  module = importlib.import_module(f"configs.{name}")
  with pytest.raises(ValueError, match="no variant 'nonsense'"):
    module.get_config("nonsense")


def test_text_that_is_not_there_is_a_wrong_setting(tmp_path):
  corpus = {"name": f"dir:{tmp_path / 'nowhere'}"}
  track = registry.load("architecture", {"corpus": corpus})
  with pytest.raises(SettingsError, match="is not a folder"):
    track.manifest()
