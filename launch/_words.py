"""What apps that take words share: how they parse their flags."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import flags

from asi_evolve_jax.supervisor.processes import EXIT_USAGE


def parser(name: str, usage: str) -> Callable[[list[str]], list[str]]:
  """Returns app.run's `flags_parser`: a wrong flag ends with the usage.

  Args:
    name: of the app, before the message.
    usage: printed behind it.
  """

  def parse(argv: list[str]) -> list[str]:
    try:
      return flags.FLAGS(argv)
    except flags.Error as error:
      print(f"{name}: {error}\n\n{usage}", file=sys.stderr)
      sys.exit(EXIT_USAGE)

  return parse
