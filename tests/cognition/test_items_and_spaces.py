"""Every feature that an item names is a feature of its track's space."""

import re

import pytest

import cognition
from asi_evolve_jax.programs.genome import feature
from asi_evolve_jax.tracks.architecture.space import ArchitectureSpace
from asi_evolve_jax.tracks.circle_packing.space import CirclePackingSpace

SPACES = {
  "architecture": ArchitectureSpace,
  "circle_packing": CirclePackingSpace,
}


@pytest.mark.parametrize("track", SPACES)
def test_named_features_exist(track):
  genes = SPACES[track].genes
  known = {feature(g.name, v) for g in genes for v in g.values}
  names = {g.name for g in genes}
  for item in cognition.load_items(track=track):
    assert set(item.suggests) <= known, item.id
    assert set(item.warns) <= known, item.id
    for mention in re.findall(r"\b([a-z_]+)=([a-z0-9_.]*\w)", item.document()):
      if mention[0] in names:
        assert "=".join(mention) in known, (item.id, mention)


@pytest.mark.parametrize("track", SPACES)
def test_items_speak_about_much_of_the_space(track):
  genes = {g.name for g in SPACES[track].genes}
  items = cognition.load_items(track=track)
  named = {f.split("=")[0] for i in items for f in (*i.suggests, *i.warns)}
  assert len(named) >= len(genes) // 2
