"""Names that exist nowhere are found; those that exist are not."""

import dataclasses

import pytest

from cognition import Item, Names, lint

NAMES = {
  "architecture": Names(
    features={"conv=0", "conv=4", "decay_init=spread", "decay_init=even"},
    metrics={"bits_per_byte", "dev/recall"},
    others={"torn_down"},
  ),
  "rl_loss": Names(features=(), metrics={"entropy"}),
}
GOOD = Item(
  id="good",
  title="title",
  track="architecture",
  source="source",
  checked=True,
  claims=("with T=512 and lr=3e-4 it helps",),
  applies="always",
  triggers=("bits_per_byte stalls with conv=0, decay_init or torn_down",),
  text="text",
  signature={"dev/recall": "up"},
  suggests=("conv=4",),
  warns=("conv=0",),
)


def problems(**changes):
  return [p.text for p in lint([dataclasses.replace(GOOD, **changes)], NAMES)]


def test_a_good_item_passes():
  assert problems() == []
  assert problems(track="", signature={"entropy": "up"}) == []


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"suggests": ("conv=7",)}, "conv=7 is no feature"),
    ({"warns": ("width=2",)}, "width=2 is no feature"),
    ({"text": "try conv=9, then"}, "conv=9 stands in its text"),
    ({"signature": {"perplexity": "down"}}, "metrics of architecture: bits_"),
    ({"triggers": ("bits_per_bite stalls",)}, "bits_per_bite in a trigger"),
    ({"triggers": ("dev/recal is low",)}, "dev/recal in a trigger"),
    ({"track": "poetry"}, "tracks here: architecture, rl_loss"),
    ({"tags": ("candidate",)}, "is a candidate"),
    ({"track": "rl_loss", "signature": {}}, "conv=4 is no feature"),
  ],
)
def test_what_does_not_exist_is_named(changes, says):
  found = problems(**changes)
  assert any(says in text for text in found), found
