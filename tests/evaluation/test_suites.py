"""A ladder that asks for what only verify may see is refused."""

import pytest

from asi_evolve_jax.evaluation.suites import check_suites
from asi_evolve_jax.settings import RunSettings, SettingsError, from_config


def _settings(ladder, verify):
  rung = {"name": "verify", "options": verify} if verify is not None else None
  return from_config(
    RunSettings,
    {
      "name": "x",
      "track": "y",
      "ladder": [{"name": "a"}, {"name": "b", "options": ladder}],
      "verify": {"rung": rung},
    },
  )


@pytest.mark.parametrize(
  ("ladder", "verify"),
  [
    ({}, None),
    ({"development": {"recall": 5}}, {}),
    ({"generalisation": {}}, {"generalisation": {"tasks": {"parity": 5}}}),
    ({"development": {"parity": 5}}, {"development": {"parity": 9}}),
  ],
)
def test_accepts(ladder, verify):
  check_suites(_settings(ladder, verify))


@pytest.mark.parametrize(
  ("ladder", "verify", "message"),
  [
    (
      {"generalisation": {"tasks": {"parity": 5}}},
      None,
      "rung b of config.ladder asks for generalisation.*move it to",
    ),
    (
      {"development": {"parity": 5}},
      {"generalisation": {"tasks": {"dyck": 5, "parity": 5}}},
      "generalisation has parity, on which rung b",
    ),
  ],
)
def test_refuses(ladder, verify, message):
  with pytest.raises(SettingsError, match=message):
    check_suites(_settings(ladder, verify))
