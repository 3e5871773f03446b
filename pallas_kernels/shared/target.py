"""The platform that code is compiled for, where that is not this process's."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jax.experimental.pallas import tpu as pltpu

TARGETS = ("cpu", "gpu", "tpu")

_compiled_for: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "compiled_for", default=None
)
_interpreted: contextvars.ContextVar[bool] = contextvars.ContextVar(
  "interpreted", default=False
)


def target() -> str:
  """Returns "cpu", "gpu" or "tpu": what is traced now will be compiled for it.

  Code that brings a kernel of its own asks this, not jax.default_backend():
  a TPU's program is traced on machines that have none.
  """
  return _compiled_for.get() or _platform(jax.default_backend())


def interpreted() -> bool:
  """Whether kernels are traced as plain operations, to run anywhere."""
  return _interpreted.get()


@contextlib.contextmanager
def compiling_for(platform: str, *, interpret: bool = False) -> Iterator[None]:
  """What is traced inside is for `platform`, whatever this process runs on.

  A function that jax.jit has traced already is not traced again: jit inside.

  Args:
    platform: "cpu", "gpu" (or "cuda", "rocm") or "tpu".
    interpret: whether every Pallas kernel, ours or not, becomes the plain
      operations that it stands for: it then runs, and exports, on any platform
      what it would compute on `platform`, up to the rounding of that one's
      own instructions.

  Raises:
    ValueError: if it is none of them.
  """
  token = _compiled_for.set(_platform(platform))
  mode = _interpreted.set(interpret)
  # True is the interpreter that is plain operations; parameters would be the
  # simulator of TPU memory, which calls back to the host.
  forced = pltpu.force_tpu_interpret_mode(True)  # type: ignore[arg-type]
  try:
    with forced if interpret else contextlib.nullcontext():
      yield
  finally:
    _interpreted.reset(mode)
    _compiled_for.reset(token)


def _platform(name: str) -> str:
  name = {"cuda": "gpu", "rocm": "gpu"}.get(name, name)
  if name not in TARGETS:
    raise ValueError(f"target {name!r} is not one of {TARGETS}.")
  return name
