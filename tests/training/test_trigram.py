"""The trigram is a distribution, and codes as the formula says."""

import collections
import math

import numpy as np

from asi_evolve_jax.training import trigram


def _reference(train, rows):
  """Bits a byte by the formula, with dictionaries and exact counts."""
  grams = collections.Counter()
  for row in train:
    for n in (1, 2, 3):
      for i in range(len(row) - n + 1):
        grams[bytes(row[i : i + n])] += 1

  def p(context, byte):
    lower = p(context[1:], byte) if context else 1 / 256
    after = [grams[context + bytes([c])] for c in range(256)]
    total, distinct = sum(after), sum(n > 0 for n in after)
    if total == 0:
      return lower
    hits = grams[context + bytes([byte])]
    return (hits + distinct * lower) / (total + distinct)

  bits = [
    -math.log2(p(bytes(row[max(i - 2, 0) : i]), row[i]))
    for row in rows
    for i in range(1, len(row))
  ]
  return sum(bits) / len(bits)


def test_agrees_with_the_formula_written_out():
  rng = np.random.default_rng(0)
  train = rng.integers(97, 101, (7, 30)).astype(np.uint8)
  rows = rng.integers(96, 102, (3, 12)).astype(np.uint8)
  expected = _reference(train, rows)
  found = trigram.Trigram(train).bits_per_byte(rows)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_probabilities_sum_to_one_for_seen_and_unseen_contexts():
  train = np.frombuffer(b"abracadabra" * 3, np.uint8)[None]
  model = trigram.Trigram(train)
  for context in (b"ab", b"zz", b"za"):
    a, b = context
    rows = np.array([[a, b, c] for c in range(256)], np.uint8)
    each = [model.bits_per_byte(row[None]) * 2 for row in rows]
    first = model.bits_per_byte(rows[:1, :2])
    mass = sum(2.0 ** -(bits - first) for bits in each)
    np.testing.assert_allclose(mass, 1.0, rtol=1e-12)


def test_learns_a_text_that_repeats_itself():
  text = np.frombuffer(b"the cat sat on the mat. " * 200, np.uint8)
  windows = text[:4_800].reshape(100, 48)
  assert trigram.Trigram(windows).bits_per_byte(windows) < 0.7
