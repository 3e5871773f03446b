"""What drives a role: steps, idle pauses, signals, exit codes, logs."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from asi_evolve_jax.evaluation.limits import secret_values
from asi_evolve_jax.llm.redact import Redactor

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_AT_ONCE = 130
IDLE_S = 0.2
_FIRST_PAUSE_S = 0.005


class Role(Protocol):
  """One role of a run.

  A role may also have `finished`, True once the run has nothing more for it,
  and `wait(seconds)`, which returns early when there is something to do.
  """

  name: str

  def step(self) -> bool:
    """Does what can be done now; returns whether it did anything."""
    ...

  def close(self) -> None:
    """Hands back what it holds."""
    ...


def run_role(
  role: Role, stop: threading.Event | None = None, idle_s: float = IDLE_S
) -> int:
  """Steps a role until it is stopped or finished; returns the exit code.

  The first SIGTERM or SIGINT lets the current step end and the role hand back
  what it holds; the second ends the process at once. An idle role looks again
  after a pause that doubles up to `idle_s`, so nothing waits longer for it.

  Args:
    role: what to run.
    stop: set from another thread, it stops the role as a signal does.
    idle_s: longest pause, seconds.

  Returns:
    0 when it was stopped or has finished, 1 when it raised.
  """
  stop = stop or threading.Event()
  signals: list[int] = []

  def on_signal(number: int, frame: FrameType | None) -> None:
    del frame
    signals.append(number)
    if len(signals) > 1:
      os._exit(EXIT_AT_ONCE)

  previous: dict[int, Any] = {}
  if threading.current_thread() is threading.main_thread():
    for number in (signal.SIGTERM, signal.SIGINT):
      previous[number] = signal.signal(number, on_signal)
  wait = getattr(role, "wait", time.sleep)
  pause = _FIRST_PAUSE_S
  code = EXIT_OK
  log.info("%s: started, process %d", role.name, os.getpid())
  try:
    # The handler only notes the signal: setting an Event there could meet its
    # own lock, held by the code that was interrupted.
    while not (signals or stop.is_set() or getattr(role, "finished", False)):
      if role.step():
        pause = _FIRST_PAUSE_S
      else:
        wait(pause)
        pause = min(2 * pause, idle_s)
  except Exception:
    log.exception("%s: failed", role.name)
    code = EXIT_FAILED
  try:
    role.close()
  except Exception:
    log.exception("%s: could not hand back what it held", role.name)
    code = EXIT_FAILED
  log.info("%s: ended with code %d", role.name, code)
  for number, handler in previous.items():
    signal.signal(number, handler)
  return code


def setup_logging(path: str | os.PathLike[str]) -> None:
  """Sends all logging of this process to one file, without secrets.

  Args:
    path: of the file; it is appended to, its folder is made.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handler = logging.FileHandler(path, encoding="utf-8", errors="replace")
  handler.setFormatter(
    _Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s")
  )
  root = logging.getLogger()
  # Other handlers (absl's) would write the same lines, secrets included.
  for old in list(root.handlers):
    root.removeHandler(old)
  root.addHandler(handler)
  root.setLevel(logging.INFO)


class _Redacting(logging.Formatter):
  """Blanks the values of variables that look like secrets, tracebacks too."""

  def __init__(self, form: str):
    super().__init__(form)
    self._redact = Redactor(secret_values())

  def format(self, record: logging.LogRecord) -> str:
    return self._redact(super().format(record))
