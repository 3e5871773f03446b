"""Source of Programs: normalisation and identity."""

from __future__ import annotations

import ast
import hashlib


def normalise(source: str) -> str:
  """Returns `source` without comments, docstrings and layout.

  Two sources that differ in nothing a machine can see become equal. Source
  that does not parse is returned with its line ends normalised, so that it
  still has an identity to be recorded under.
  """
  try:
    tree = ast.parse(source)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return _lines(source)
  for node in ast.walk(tree):
    body = getattr(node, "body", None)
    if not isinstance(body, list) or not isinstance(
      node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    ):
      continue
    if (
      body
      and isinstance(body[0], ast.Expr)
      and isinstance(body[0].value, ast.Constant)
      and isinstance(body[0].value.value, str)
    ):
      node.body = body[1:] or [ast.Pass()]
  try:
    return ast.unparse(tree)
  except RecursionError:  # nested deeper than Python can write
    return _lines(source)


def _lines(source: str) -> str:
  return "\n".join(line.rstrip() for line in source.splitlines()).strip()


def program_id(source: str) -> str:
  """Returns 32 hex digits that name the normalised source."""
  return hashlib.sha256(normalise(source).encode()).hexdigest()[:32]
