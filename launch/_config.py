"""The flag of a config file: what is wrong with it, in a line of words."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import ml_collections
from absl import flags

from asi_evolve_jax.supervisor.processes import EXIT_USAGE

_LIBRARIES = (
  str(Path(ml_collections.__file__).parent),
  str(Path(flags.__file__).parent),
)


def parser(name: str) -> Callable[[list[str]], list[str]]:
  """Returns app.run's `flags_parser`: a wrong config ends with a message.

  Without it a typo in `--config.KEY`, and whatever a config file raises, is a
  traceback through two libraries.

  Args:
    name: of the app, before the message.
  """

  def parse(argv: list[str]) -> list[str]:
    try:
      words = flags.FLAGS(argv)
      # A file that is not there is told by the first look at its values.
      hasattr(flags.FLAGS["config"].value, "lock")
    except Exception as error:  # a config file may raise anything
      print(f"{name}: {_fault(error)}", file=sys.stderr)
      sys.exit(EXIT_USAGE)
    return words

  return parse


def _fault(error: Exception) -> str:
  """Returns what is wrong and where."""
  first: BaseException = error
  while (before := first.__cause__ or first.__context__) is not None:
    first = before
  if isinstance(first, SyntaxError):
    return f"{first.filename}, line {first.lineno}: {first.msg}"
  # The app itself is a file only where it was started as one.
  app = getattr(sys.modules["__main__"], "__file__", None)
  own = [
    frame
    for frame in traceback.extract_tb(first.__traceback__)
    if not frame.filename.startswith((*_LIBRARIES, "<frozen"))
    and frame.filename not in (__file__, app)
  ]
  if isinstance(error, flags.Error) and not own:
    return " ".join(str(error).split())
  said = " ".join(str(first.args[0] if first.args else first).split())
  if own:
    kind = type(first).__name__
    return f"{own[-1].filename}, line {own[-1].lineno}: {kind}: {said}"
  if isinstance(error, OSError):
    return f"the config cannot be read: {' '.join(str(first).split())}"
  if "'get_config'" in said:
    return "the config file has no function get_config()"
  # An AttributeError about a KeyError, whose text has the nearest keys.
  key = error.args[0] if error.args else error
  text = key.args[0] if isinstance(key, KeyError) else key
  return f"no such setting: {' '.join(str(text).split())}"
