"""Likeness: 1 for the same in another layout, small for other things."""

import numpy as np

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


TOLD = {
  "decay": [1, 0, 0],
  "conv": [0, 1, 0],
  "norm": [0, 0, 1],
  "mlp": [0.6, 0, 0.8],
  "rope": [0, 0.8, 0.6],
  "gate": [0.3, 0.9, 0.3],
}


def _many():
  bodies = {"decay": DECAY, "conv": CONV}
  return [
    Story(name, name, bodies.get(name, f"def {name}(x): return {name}"), name)
    for name in TOLD
  ]


def _vectors(new):
  places = TOLD | {"new": new}

  def of(texts):
    rows = np.array([places[text] for text in texts], float)
    return rows / np.maximum(np.linalg.norm(rows, axis=1)[:, None], 1e-12)

  return of


def test_an_idea_in_other_words_is_found_by_vectors():
  novelty = Novelty()
  child = DECAY.replace("sigmoid(gate)", "sigmoid(4.0 * gate)")
  close, far = _vectors([0.99, 0, 0.14]), _vectors([0.6, 0.6, 0.6])
  assert novelty.nearest(child, "new", _many()).likeness < 0.5
  found = novelty.told_again(child, "new", _many(), close, 0.7)
  assert found.story.name == "decay"
  # Another idea, another source, or too few pairs to say what is close.
  assert novelty.told_again(child, "new", _many(), far, 0.7) is None
  assert novelty.told_again("x = 1", "new", _many(), close, 0.7) is None
  assert novelty.told_again(child, "new", _many()[:3], close, 0.7) is None


def test_without_a_vector_there_is_no_word():
  nothing = Novelty().told_again(DECAY, "new", _many(), _vectors([0, 0, 0]), 0)
  assert nothing is None
