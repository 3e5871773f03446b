"""What a circle-packing Program may look like, checked before it runs.

This keeps honest mistakes cheap and comparisons fair (no clock, no files). It
is no jail: what confines a hostile Program is the process it runs in.
"""

from __future__ import annotations

import ast

ALLOWED = frozenset(
  {
    *("dataclasses", "functools", "itertools", "math", "typing"),
    *("numpy", "scipy", "__future__"),
  }
)
# These reach files, other processes or the harness.
FORBIDDEN_NAMES = frozenset(
  {
    *("__import__", "breakpoint", "compile", "eval", "exec", "exit"),
    *("globals", "input", "open", "quit"),
  }
)
FORBIDDEN_MODULES = (
  *("numpy.ctypeslib", "numpy.distutils", "numpy.f2py"),
  *("scipy.datasets", "scipy.io"),
)


def check(source: str) -> tuple[str, str]:
  """Returns the gate that refuses `source` and why, or ("", "")."""
  try:
    tree = ast.parse(source)
  except (SyntaxError, ValueError, RecursionError) as e:
    return "parse", f"The Program does not parse: {e}"
  for node in ast.walk(tree):
    refused = _refused(node)
    if refused:
      line = getattr(node, "lineno", 0)
      return "imports", f"Line {line}: {refused}"
  functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
  if "pack" not in functions:
    return (
      "contract",
      "The Program defines no function `pack(n, seed, work)` at top level.",
    )
  names = [a.arg for a in functions["pack"].args.args]
  if names != ["n", "seed", "work"]:
    return (
      "contract",
      f"`pack` must take (n, seed, work), got ({', '.join(names)}).",
    )
  return "", ""


def _refused(node: ast.AST) -> str:
  modules: list[str] = []
  if isinstance(node, ast.Import):
    modules = [alias.name for alias in node.names]
  elif isinstance(node, ast.ImportFrom):
    if node.level:
      return "relative imports have nothing to import from."
    base = node.module or ""
    modules = [base, *(f"{base}.{alias.name}" for alias in node.names)]
  for module in modules:
    if module.split(".")[0] not in ALLOWED or any(
      module == m or module.startswith(f"{m}.") for m in FORBIDDEN_MODULES
    ):
      allowed = ", ".join(sorted(ALLOWED - {"__future__"}))
      return f"may not import {module}; allowed are {allowed}."
  if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
    return f"may not use {node.id}."
  if (
    isinstance(node, ast.Attribute)
    and node.attr.startswith("__")
    and node.attr != "__init__"  # of a base class
  ):
    return f"may not reach for {node.attr}."
  return ""
