"""What an operator costs, by count."""

from __future__ import annotations

from typing import NamedTuple

CHUNKED = "chunked"
RECURRENT = "recurrent"


class Cost(NamedTuple):
  """One forward pass of an operator.

  Attributes:
    flops: a multiply-add counts 2. "chunked": the matrix products of the
      chunked form, padding included. "recurrent": those of the recurrence
      token by token, one multiplication for each decayed entry included.
    bytes: every argument and result moved once; states, decays and rates in
      float32, whatever the tokens have. What a form writes in between is not
      counted, so this is the least.
  """

  flops: int
  bytes: int


def check_convention(convention: str) -> None:
  """Raises ValueError if `convention` is not a name of `Cost.flops`."""
  if convention not in (CHUNKED, RECURRENT):
    raise ValueError(
      f"convention must be {CHUNKED!r} or {RECURRENT!r}, got {convention!r}."
    )


def decay_entries(decay: str, key_dim: int) -> int:
  """Returns the entries of g a token and head: 0, 1 or key_dim.

  Raises:
    ValueError: if decay is not "none", "scalar" or "vector".
  """
  entries = {"none": 0, "scalar": 1, "vector": key_dim}
  if decay not in entries:
    raise ValueError(f"decay must be one of {list(entries)}, got {decay!r}.")
  return entries[decay]
