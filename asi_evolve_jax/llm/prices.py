"""What tokens cost: prices.json, which is dated, and what a config adds.

Thoughts are billed as output. A discount for cached prompts is not taken into
account, so what is counted is never less than what is billed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asi_evolve_jax.llm.port import Usage
from asi_evolve_jax.settings import SettingsError

_PATH = Path(__file__).with_name("prices.json")
_NAMES = ("input", "output", "long_input", "long_output")


@dataclasses.dataclass(frozen=True)
class Price:
  """Money a million tokens; the long prices hold for long prompts."""

  input: float
  output: float
  long_input: float
  long_output: float
  long_above: float  # tokens of a prompt

  def money(self, usage: Usage) -> float:
    """Returns what `usage` costs."""
    long = usage.prompt > self.long_above
    into = self.long_input if long else self.input
    out = self.long_output if long else self.output
    written = usage.output + usage.thoughts
    return (usage.prompt * into + written * out) / 1e6


def find(model: str, given: Mapping[str, Any]) -> Price:
  """Returns the price of `model`.

  Args:
    model: its name.
    given: prices of the config, which go before those of the file.

  Raises:
    SettingsError: if nobody says what it costs, or says it wrongly.
  """
  table = json.loads(_PATH.read_text())
  entry = given.get(model, table["models"].get(model))
  if entry is None:
    raise SettingsError(
      f"what {model} costs is not known: give config.models.prices = "
      f"{{{model!r}: {{'input': ..., 'output': ...}}}} in "
      f"{table['currency']} a million tokens (0 for a model of your own). "
      f"Known as of {table['as_of']}: {', '.join(sorted(table['models']))}."
    )
  numbers = {
    "long_input": entry.get("input"),
    "long_output": entry.get("output"),
  }
  numbers |= dict(entry)
  for name in _NAMES:
    value = numbers.get(name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
      raise SettingsError(
        f"config.models.prices[{model!r}] needs {name!r}, a number of at "
        f"least 0; got {value!r}."
      )
  if set(numbers) - set(_NAMES):
    raise SettingsError(
      f"config.models.prices[{model!r}] may hold {', '.join(_NAMES)}; got "
      f"{', '.join(sorted(numbers))}."
    )
  return Price(**numbers, long_above=table["long_above_tokens"])
