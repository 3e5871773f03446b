"""Numbers as papers print them, in LaTeX or as a PDF's text, and quoted."""

from __future__ import annotations

import re

from asi_evolve_jax.roles import quotes

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_SPACE = r"\\[,;:! ]|[\u2009\u202f]"
_POWER = (
  r"10\s*(?:\^\s*\{?\s*(?P<power>[+-]?[0-9]{1,3})(?![0-9])\s*\}?"
  r"|(?P<bare>[+-][0-9]{1,3})(?![0-9]))"
)
# In this order; a pattern sees what those before it have left.
_RULES = tuple(
  (re.compile(pattern), into)
  for pattern, into in (
    ("\N{MINUS SIGN}", "-"),
    (r"(?<!\\)\\%", "%"),
    # Between thousands; elsewhere these are spaces.
    (
      rf"(?<=[0-9])(?:\{{,\}}|\{{?(?:{_SPACE})\}}?)(?=[0-9]{{3}}(?![0-9]))",
      ",",
    ),
    (rf"{_SPACE}|~", " "),
    (r"\\?\$", ""),
    (r"-{2,}", "\N{EN DASH}"),
    # 3\times10^{-4}; the text of a PDF has lost what was raised: 3 × 10-4.
    (
      rf"(?<=[0-9])\s*(?:\\times|\\cdot|[×·*])(?![A-Za-z])\s*{_POWER}",
      r"e\g<power>\g<bare>",
    ),
    (
      r"(?<![A-Za-z0-9_.])10\s*\^\s*\{?\s*([+-]?[0-9]{1,3})(?![0-9])\s*\}?",
      r"1e\1",
    ),
    # \pm0.3: a command is no name that the digits belong to.
    (r"\\[A-Za-z]+(?=[0-9.])", " "),
  )
)
_COMMENT = re.compile(r"(?<!\\)%.*")


class PaperFacts:
  """The numbers of a paper; a percentage may quote one from a table."""

  def __init__(self, paper: str):
    """
    Args:
      paper: LaTeX, Markdown or a PDF's text. What whole LaTeX files have in
        comments is not in the paper.
    """
    if "\\documentclass" in paper:
      paper = _COMMENT.sub("", paper)
    text = plain(paper)
    # A column's head says "(%)" and its cells do not.
    cells = (f"{number.text}%" for number in quotes.numbers(text))
    self._facts = quotes.Facts(", ".join((text, *dict.fromkeys(cells))))

  def misquotes(self, text: str) -> list[str]:
    """As quotes.Facts has it; numbers are named in their plain form."""
    return self._facts.misquotes(plain(text))


def plain(text: str) -> str:
  r"""Returns `text` with its numbers as quotes.numbers reads them.

  12.3\% becomes 12.3%, 12{,}800 and 12\,800 become 12,800, $3\times10^{-4}$
  and 3 × 10⁻⁴ become 3e-4.
  """
  text = _RAISED.sub(lambda m: f"^{m.group().translate(_SUPERSCRIPTS)}", text)
  for pattern, into in _RULES:
    text = pattern.sub(into, text)
  return text
