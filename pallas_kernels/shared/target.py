"""The platform that code is compiled for, where that is not this process's."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

TARGETS = ("cpu", "gpu", "tpu")

_compiled_for: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "compiled_for", default=None
)


def target() -> str:
  """Returns "cpu", "gpu" or "tpu": what is traced now will be compiled for it.

  Code that brings a kernel of its own asks this, not jax.default_backend():
  a TPU's program is traced on machines that have none.
  """
  return _compiled_for.get() or _platform(jax.default_backend())


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
  """What is traced inside is for `platform`, whatever this process runs on.

  A function that jax.jit has traced already is not traced again: jit inside.

  Args:
    platform: "cpu", "gpu" (or "cuda", "rocm") or "tpu".

  Raises:
    ValueError: if it is none of them.
  """
  token = _compiled_for.set(_platform(platform))
  try:
    yield
  finally:
    _compiled_for.reset(token)


def _platform(name: str) -> str:
  name = {"cuda": "gpu", "rocm": "gpu"}.get(name, name)
  if name not in TARGETS:
    raise ValueError(f"target {name!r} is not one of {TARGETS}.")
  return name
