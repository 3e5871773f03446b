"""Likeness: 1 for the same in another layout, small for other things."""

from asi_evolve_jax.proposers.base import Story
from asi_evolve_jax.proposers.novelty import Novelty

DECAY = """
def mixer(q, k, v, gate):
  decay = jax.nn.sigmoid(gate)
  state = decay * state + k * v
  return q @ state
"""
CONV = """
def mixer(x, taps):
  padded = jnp.pad(x, ((0, 0), (3, 0), (0, 0)))
  return sum(taps[i] * padded[:, i : i + x.shape[1]] for i in range(4))
"""
ARCHIVE = [
  Story("a", "decay", DECAY, "A learned decay forgets old tokens smoothly."),
  Story("b", "conv", CONV, "A short causal convolution sees the neighbours."),
]


def test_the_same_again_is_found_whatever_its_layout():
  source = DECAY.replace("\n  decay", "\n  # forget\n  decay")
  near = Novelty().nearest(source, ARCHIVE[0].motivation, ARCHIVE)
  assert near.story.name == "decay"
  assert near.likeness > 0.999


def test_a_child_with_another_reason_is_new_and_so_is_another_source():
  novelty = Novelty()
  child = DECAY.replace("sigmoid(gate)", "sigmoid(4.0 * gate)")
  said = "Sharper gates let a head keep one fact for the whole document."
  assert novelty.nearest(child, said, ARCHIVE).likeness < 0.5
  same_words = novelty.nearest(CONV, ARCHIVE[0].motivation, ARCHIVE[:1])
  assert same_words.likeness < 0.5
  grey = novelty.nearest(child, ARCHIVE[0].motivation, ARCHIVE)
  assert 0.6 < grey.likeness < 0.999


def test_nothing_is_like_nothing():
  assert Novelty().nearest(DECAY, "first", []) is None
  assert Novelty().nearest("", "", ARCHIVE).likeness == 0
