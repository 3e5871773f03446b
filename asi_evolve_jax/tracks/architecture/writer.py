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

def conv(name, y, taps):
  # taps[0] weighs the current token, taps[1] the one before it.
  y, after[name] = short_conv(
    y, taps, initial_state=state.get(name), segment_ids=ctx.segment_ids
  )
  return y
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

# Both forms: what `advance` leaves of tokens it takes before the next.
_FORMS = '''
  def __call__(self, x, ctx):
    return self.advance(x, {}, ctx)[0]

  def init_state(self, batch):
    """Returns what stands before the first token: zeros, by name."""
    heads, key_dim, value_dim = self.heads, self.key_dim, self.value_dim
    shapes = {
<shapes>
    }
    return {name: jnp.zeros((batch, *shape)) for name, shape in shapes.items()}

  def step(self, x, state, ctx):
    """The same for one token x [batch, dim]; returns y and the next state."""
    y, state = self.advance(x[:, None], state, ctx)
    return y[:, 0], state

  def advance(self, x, state, ctx):
    """Maps x [batch, time, dim] and the state before it to y and the next."""
    after = {}

'''


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
    self._state: dict[str, str] = {}

  def param(self, text: str) -> None:
    """Adds lines to the constructor."""
    self._constructor += _lines(text)

  def add(self, text: str) -> None:
    """Adds lines to the call."""
    self._call += _lines(text)

  def carry(self, name: str, shape: str) -> None:
    """Enters an array that decoding carries from token to token.

    Args:
      name: of the entry that the call reads in `state` and sets in `after`.
      shape: a sequence's, as source, of heads, key_dim and value_dim.
    """
    self._state[name] = shape

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
    shapes = [f'      "{name}": {it},' for name, it in self._state.items()]
    mixer = "\n".join(
      [
        "class TokenMixer(nnx.Module):",
        '  """Maps [batch, time, dim] to the same shape and dtype."""',
        "",
        "  def __init__(self, config, *, rngs):",
        textwrap.indent("\n".join(self._constructor), "    "),
        _FORMS.removesuffix("\n").replace("<shapes>", "\n".join(shapes)),
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

  def operate(
    self, name: str, operator: str, arguments: str, memory: str
  ) -> None:
    """Adds `name` = `operator`(...) and what it carries.

    Args:
      name: of the variable that it sets.
      operator: of pallas_kernels.
      arguments: tensors, by comma and space.
      memory: name of its state among what is carried.
    """
    self.operators.add(operator)
    self.carry(memory, "(heads, key_dim, value_dim)")
    given = [
      *arguments.split(", "),
      f'initial_state=state.get("{memory}")',
      "segment_ids=ctx.segment_ids",
      "chunk_size=self.chunk_size",
      *self.schedule,
    ]
    lines = "".join(f"  {argument},\n" for argument in given)
    self.add(f'{name}, after["{memory}"] = {operator}(\n{lines})')


def _lines(text: str) -> list[str]:
  """Returns dedented lines; the first line end of a block is layout."""
  return textwrap.dedent(text).removeprefix("\n").rstrip(" ").splitlines()
