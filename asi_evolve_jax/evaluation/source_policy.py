"""What a Program's source may say, and how its errors are told.

The policy keeps Programs to the work they are for and tells their author early
what they cannot use. It is no jail: that is the process they run in.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Collection

_FORBIDDEN_NAMES = frozenset(
  {
    "__builtins__",
    "__import__",
    "__loader__",
    "__spec__",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "exit",
    "globals",
    "input",
    "locals",
    "open",
    "quit",
    "vars",
  }
)
# Dunder attributes that ordinary classes read; the rest are ways out.
_PLAIN_DUNDERS = frozenset(
  {"__call__", "__class__", "__doc__", "__init__", "__name__"}
)
# Parts of allowed packages that reach outside the computation.
_FORBIDDEN_PATHS = (
  "jax.config",
  "jax.debug",
  "jax.distributed",
  "jax.effects_barrier",
  "jax.experimental.compilation_cache",
  "jax.experimental.host_callback",
  "jax.experimental.io_callback",
  "jax.experimental.serialize_executable",
  "jax.export",
  "jax.ffi",
  "jax.lib",
  "jax.monitoring",
  "jax.profiler",
  "jax.pure_callback",
  "flax.serialization",
  "flax.training",
)
# Modules that allowed packages import for themselves (typing.sys).
_FORBIDDEN_PARTS = frozenset(
  {"builtins", "ctypes", "gc", "importlib", "inspect", "os", "sys"}
)


class PolicyError(ValueError):
  """Source that may not run; the message says where and what to change."""


def check(source: str, allowed: Collection[str]) -> ast.Module:
  """Returns the syntax tree of `source`, or says why it may not run.

  Args:
    source: text of one module.
    allowed: packages that may be imported, with everything public in them.

  Raises:
    PolicyError: on a syntax error, an import that is not allowed, or a name
      that reaches outside of the module.
  """
  try:
    tree = ast.parse(source)
  except SyntaxError as error:
    line = (error.text or "").strip()
    raise PolicyError(f"line {error.lineno}: {error.msg}: `{line}`") from error
  except (ValueError, RecursionError, MemoryError) as error:
    raise PolicyError(f"the source cannot be parsed: {error}") from error
  _Visitor(source.splitlines(), allowed).visit(tree)
  return tree


class _Visitor(ast.NodeVisitor):
  def __init__(self, lines: list[str], allowed: Collection[str]):
    self._lines = lines
    self._allowed = allowed
    self._known: dict[str, str] = {}  # local name -> what was imported

  def _refuse(self, node: ast.AST, why: str) -> None:
    number = getattr(node, "lineno", 0)
    text = self._lines[number - 1].strip() if number else ""
    raise PolicyError(f"line {number}: {why}: `{text}`")

  def visit_Import(self, node: ast.Import) -> None:
    for alias in node.names:
      self._imported(node, alias.name)
      root = alias.name.partition(".")[0]
      self._known[alias.asname or root] = alias.name if alias.asname else root

  def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
    if node.level:
      self._refuse(node, "relative imports have nothing to refer to")
    module = node.module or ""
    if module == "__future__":
      return
    for alias in node.names:
      if alias.name == "*":
        self._refuse(node, "import names one by one, not *")
      self._imported(node, f"{module}.{alias.name}")
      self._known[alias.asname or alias.name] = f"{module}.{alias.name}"

  def _imported(self, node: ast.AST, path: str) -> None:
    parts = path.split(".")
    if parts[0] not in self._allowed:
      self._refuse(
        node,
        f"{parts[0]} cannot be imported; use only "
        f"{', '.join(sorted(self._allowed))}",
      )
    if any(p.startswith("_") for p in parts):
      self._refuse(node, f"{path} is private")
    self._check_path(node, path)

  def _check_path(self, node: ast.AST, path: str) -> None:
    for bad in _FORBIDDEN_PATHS:
      if path == bad or path.startswith(bad + "."):
        self._refuse(node, f"{bad} is not part of a computation; remove it")
    reached = _FORBIDDEN_PARTS.intersection(path.split("."))
    if reached:
      self._refuse(
        node,
        f"{', '.join(sorted(reached))} is not part of a computation; remove it",
      )

  def visit_Name(self, node: ast.Name) -> None:
    if node.id in _FORBIDDEN_NAMES:
      self._refuse(node, f"{node.id} cannot be used; remove it")

  def visit_Attribute(self, node: ast.Attribute) -> None:
    name = node.attr
    if (
      name.startswith("__")
      and name.endswith("__")
      and name not in _PLAIN_DUNDERS
    ):
      self._refuse(node, f"attribute {name} cannot be used")
    path = self._path(node)
    if path:
      self._check_path(node, path)
      parts = set(path.split(".")) - _PLAIN_DUNDERS
      if any(p.startswith("_") for p in parts):
        self._refuse(node, f"{path} is private")
    self.generic_visit(node)

  def visit_Call(self, node: ast.Call) -> None:
    if isinstance(node.func, ast.Name) and node.func.id == "getattr":
      for argument in node.args[1:2]:
        text = argument.value if isinstance(argument, ast.Constant) else ""
        if isinstance(text, str) and text.startswith("__"):
          self._refuse(node, f"attribute {text} cannot be used")
    self.generic_visit(node)

  def _path(self, node: ast.expr) -> str:
    """Returns the dotted path that an attribute of an import stands for."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
      names.append(node.attr)
      node = node.value
    if not isinstance(node, ast.Name) or node.id not in self._known:
      return ""
    return ".".join([self._known[node.id], *reversed(names)])


def explain(error: BaseException, filename: str, lines: int = 12) -> str:
  """Returns what an author needs of an error: where in their source, and why.

  Args:
    error: what the Program raised.
    filename: what its source was compiled as.
    lines: most lines of the error's own message.
  """
  frames = [
    f
    for f in traceback.extract_tb(error.__traceback__)
    if f.filename == filename
  ]
  if isinstance(error, SyntaxError) and error.filename == filename:
    where = [f"line {error.lineno}: `{(error.text or '').strip()}`"]
  else:
    where = [f"line {f.lineno}, in {f.name}: `{f.line}`" for f in frames[-3:]]
  text = str(error).strip().splitlines()
  # JAX appends paragraphs on its own traceback.
  cut = next((i for i, t in enumerate(text) if t.startswith("-----")), lines)
  message = "\n".join(text[: min(cut, lines)])
  return "\n".join([*where, f"{type(error).__name__}: {message}"])
