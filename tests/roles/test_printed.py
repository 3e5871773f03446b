"""Numbers of papers, as LaTeX and PDFs print them, held against quotes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asi_evolve_jax.roles.printed import PaperFacts
from asi_evolve_jax.roles.quotes import Facts


@pytest.mark.parametrize(
  ("paper", "quote"),
  [
    (r"falls by 12.3\%", "12.3%"),
    (r"falls by $12.3\,\%$", "12.3 %"),
    (r"Acc. (\%) \\ Ours & 54.2 \\", "54.2%"),
    (r"Acc. (\%) \\ Ours & \textbf{54.2}\% \\", "54.2%"),
    (r"12{,}800 tokens", "12,800"),
    (r"12\,800 tokens", "12800"),
    (r"at $3\times10^{-4}$", "3e-4"),
    (r"at $3 \cdot 10^{-4}$", "0.0003"),
    ("at 3\N{MULTIPLICATION SIGN}10\N{MINUS SIGN}4", "3e-4"),
    ("at 3 \N{MULTIPLICATION SIGN} 10⁻⁴", "3e-4"),
    ("at 3e-4", r"3 \times 10^{-4}"),
    (r"at $10^{-5}$", "1e-5"),
    (r"loss~$-0.31$", "-0.31"),
    (r"54.2$\pm$0.37", "0.37"),
    (r"54.2\pm0.37", "0.37"),
    (r"\num{12800}", "12,800"),
  ],
)
def test_what_a_paper_prints_is_quoted(paper, quote):
  assert PaperFacts(paper).misquotes(f"It is {quote}.") == []


@pytest.mark.parametrize(
  ("paper", "quote", "wrong"),
  [
    (r"falls by 12.3\%", "12.4%", "12.4%"),
    (r"falls by 12.3\%", "12.3", "12.3"),
    (r"at $3\times10^{-4}$", "3e-5", "3e-5"),
    (r"at $3\times10^{-4}$", "3\\times10^{-5}", "3e-5"),
    (r"12{,}800 tokens", "800", "800"),
    (r"0.1--0.55", "-0.55", "-0.55"),  # a range, no sign
    ("\\documentclass{a}\n% was 54.2\n", "54.2", "54.2"),
  ],
)
def test_what_a_paper_does_not_print_is_named(paper, quote, wrong):
  assert PaperFacts(paper).misquotes(f"It is {quote}.") == [wrong]


def test_a_percentage_of_our_own_evidence_quotes_a_percentage():
  assert Facts("acc 54.2").misquotes("54.2%") == ["54.2%"]


_PARTS = st.sampled_from(
  [*"0123456789.,%$^{}~\\ -+e", "\\times", "10^", "×", "⁻³", "{,}", "\\,", "--"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(_PARTS, max_size=25).map("".join))
@example("1\\,000\\,000\\%")
def test_any_text_quotes_itself(text):
  assert PaperFacts(text).misquotes(text) == []
