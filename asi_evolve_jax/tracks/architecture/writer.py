"""Collects the lines of a rendered mixer and joins them to a module."""

from __future__ import annotations

import textwrap

from asi_evolve_jax.tracks.architecture import parts

# Stands for one of the two below until it is known which one is needed.
PROJECT_PLACE = "<project>"

_PROJECT = """
def project(weight):
  return x @ weight[...].astype(x.dtype)
"""

_PROJECTIONS = """
def project(*weights):
  y = x
  for weight in weights:
    y = y @ weight[...].astype(y.dtype)
  return y
"""

CONV = """

def conv(y, taps):
  # taps[0] weighs the current token, taps[1] the one before it.
  return short_conv(y, taps, segment_ids=ctx.segment_ids)[0]
"""

SPLIT = """
def split(y):
  return y.reshape(*y.shape[:2], self.heads, -1)
"""

WEIGHT = """

def weight(*shape):
  noise = jax.random.normal(rngs.params(), shape, jnp.float32)
  return nnx.Param(shape[0] ** -0.5 * noise)

"""


class Writer:
  """Collects the lines of one module.

  Attributes:
    operators: of pallas_kernels that it uses.
    helpers: names in parts.HELPERS that it uses.
    bottleneck: whether a projection goes through one.
    schedule: keyword arguments of every recurrence beside the chunk size.
  """

  def __init__(self) -> None:
    self.schedule: list[str] = []
    self.operators: set[str] = set()
    self.helpers: set[str] = set()
    self.bottleneck = False
    self._constructor: list[str] = []
    self._call: list[str] = []

  def param(self, text: str) -> None:
    """Adds lines to the constructor."""
    self._constructor += _lines(text)

  def add(self, text: str) -> None:
    """Adds lines to the call."""
    self._call += _lines(text)

  def comment(self, text: str) -> None:
    """Starts a paragraph of the call with a comment."""
    self._call.append("")
    self._call += textwrap.wrap(
      text, 72, initial_indent="# ", subsequent_indent="# "
    )

  def module(self, title: str) -> str:
    """Returns the whole source."""
    imports = "\n".join(
      [
        f'"""Token mixer: {title}."""',
        "",
        "import jax",
        "import jax.numpy as jnp",
        "from flax import nnx",
        "",
        *(
          f"from pallas_kernels.{o.removeprefix('gated_')} import {o}"
          for o in sorted(self.operators)
        ),
      ]
    )
    helpers = [
      text.strip("\n")
      for name, text in parts.HELPERS.items()
      if name in self.helpers
    ]
    project = _PROJECTIONS if self.bottleneck else _PROJECT
    call = "\n".join(self._call).replace(PROJECT_PLACE, project).strip("\n")
    mixer = "\n".join(
      [
        "class TokenMixer(nnx.Module):",
        '  """Maps [batch, time, dim] to the same shape and dtype."""',
        "",
        "  def __init__(self, config, *, rngs):",
        textwrap.indent("\n".join(self._constructor), "    "),
        "",
        "  def __call__(self, x, ctx):",
        textwrap.indent(call, "    "),
      ]
    )
    return "\n\n\n".join([imports, *helpers, mixer]) + "\n"

  def low_rank(self, name: str, width: str) -> None:
    """Adds two weights, `name`_in and `name`_out, with a bottleneck."""
    if not self.bottleneck:
      # 16 channels for heads of 32: what GLA (2312.06635) uses.
      self.param("rank = max(1, config.head_dim // 2)")
    self.bottleneck = True
    self.param(f"self.{name}_in = weight(dim, rank)")
    self.param(f"self.{name}_out = weight(rank, {width})")

  def operate(self, name: str, operator: str, arguments: str) -> None:
    """Adds `name`, _ = `operator`(...) with `arguments`, by comma and space."""
    self.operators.add(operator)
    given = [
      *arguments.split(", "),
      "segment_ids=ctx.segment_ids",
      "chunk_size=self.chunk_size",
      *self.schedule,
    ]
    lines = "".join(f"  {argument},\n" for argument in given)
    self.add(f"{name}, _ = {operator}(\n{lines})")


def _lines(text: str) -> list[str]:
  """Returns dedented lines; the first line end of a block is layout."""
  return textwrap.dedent(text).removeprefix("\n").rstrip(" ").splitlines()
