"""Numbers in texts, held against facts."""

import math
from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from asi_evolve_jax.roles.quotes import SMALL, Facts, numbers, quotes

FACTS = Facts(
  "- c1: loss against deltanet at quick (3 paired seeds): +0.03124, 95 % "
  "interval -0.0105 to +0.0731\n- seed 0: loss 2.34567, tokens 131072, "
  "flops 1.5e+09\nchunk_512 = 0.25"
)


@pytest.mark.parametrize(
  "text",
  [
    "The gain of 0.031 (interval -0.01 to 0.0731) is inside the noise.",
    "It lost 0.0105 at worst: -0.0105.",
    "2.3, 2.35, 2.346, 2.3457 and 2.34567 are the same loss; +2.35 too.",
    "1.5e9 FLOPs, 1.50e+09, 131072 or 131,072 tokens, **0.25**, `0.25`.",
    "conv4, fp32, H100, v1.2.3, chunk_512, mix-v1 and x1024 are names.",
    "1. Of 3 seeds, 2 fell after step 80; 100 steps, top-5, 0-10, x[-1].",
    "0.01\N{EN DASH}0.07 and \N{MINUS SIGN}0.0105 (95% interval).",
    "Nothing.",
  ],
)
def test_quotes_and_counts_are_let_through(text):
  assert FACTS.misquotes(text) == []


@pytest.mark.parametrize(
  ("text", "wrong"),
  [
    ("a gain of 0.0313", ["0.0313"]),  # not how 0.03124 is rounded
    ("loss 2.345", ["2.345"]),  # cut, not rounded
    ("loss 2.3456712", ["2.3456712"]),  # digits that nobody measured
    ("changed by -0.0312", ["-0.0312"]),  # the fact is a gain
    ("gains +0.0105", ["+0.0105"]),  # and this one a loss
    ("an interval of 0.0836", ["0.0836"]),  # a difference of facts
    ("25 % narrower, 25%", ["25%"]),  # a percentage of a share
    ("after 512 steps, 512", ["512"]),  # a name's digits are no fact
    ("1.2 times, 3.5e-4; .7", ["1.2", "3.5e-4", ".7"]),
    ("131,073 tokens", ["131,073"]),
  ],
)
def test_what_quotes_nothing_is_named(text, wrong):
  assert FACTS.misquotes(text) == wrong


@given(st.text())
@example("10000000000000000000000000001")  # longer than decimals compute with
def test_any_text_can_be_read(text):
  found = numbers(text)
  assert len(found) <= len(text)
  # Whatever it holds, it quotes itself.
  assert Facts(text).misquotes(text) == []


_finite = st.floats(
  -1e12, 1e12, allow_nan=False, allow_infinity=False, allow_subnormal=False
).filter(lambda x: x == 0 or abs(x) > 1e-12)
_words = st.sampled_from(["so", "(", "loss", "is", "conv4", "-", "7", "in 12"])


@given(
  st.lists(_finite, min_size=1, max_size=6),
  st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), _words)),
  st.lists(st.integers(0, SMALL), max_size=4),
)
def test_roundings_of_printed_facts_raise_no_alarm(facts, said, counts):
  shown = [f"{fact:.6g}" for fact in facts]
  words = [
    f"{word} {float(shown[i % len(shown)]):+.{digits}g}"
    for i, digits, word in said
  ]
  words += [f"step {count} of" for count in counts]
  assert Facts(", ".join(shown)).misquotes(", ".join(words)) == []


@given(
  st.integers(1, 999_999),
  st.integers(1, 6),
  st.integers(1, 999_999).filter(lambda n: n % 10),
)
def test_another_number_raises_an_alarm(fact, places, other):
  assume(fact != other)
  shown = Decimal(fact).scaleb(-places)
  said = Decimal(other).scaleb(-places)
  assert Facts(f"loss {shown:f}").misquotes(f"loss {said:f}") == [f"{said:f}"]


@given(_finite, st.integers(2, 17))
def test_a_measured_effect_is_quoted_from_two_digits_on(fact, digits):
  assert quotes(float(f"{fact:.{digits}g}"), fact)
  assert not quotes(fact, math.inf)
  if fact:
    assert not quotes(-fact, fact)
    assert not quotes(fact * 1.06, fact)
    assert not quotes(0.0, fact)
