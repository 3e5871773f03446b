"""Role processes: start, watch, start again, stop."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from asi_evolve_jax.evaluation.limits import scrubbed_environment

log = logging.getLogger(__name__)

# Exit codes of role apps and of launch.evolve.
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 3  # a person stopped it; the same command goes on
EXIT_AT_ONCE = 130

_PR_SET_PDEATHSIG = 1
_RESTARTS = 5  # within _WINDOW_S, then the run stops with the role's last words
_WINDOW_S = 60.0


class RoleFailed(RuntimeError):
  """A role that does not stay up."""


@dataclasses.dataclass
class _Role:
  name: str
  command: list[str]
  env: dict[str, str]
  log_path: Path
  process: subprocess.Popen | None = None
  starts: list[float] = dataclasses.field(default_factory=list)


class Processes:
  """The roles of one supervisor, each a process in a session of its own.

  A session of its own keeps the terminal's Ctrl-C for the supervisor, which
  then decides how the roles stop. Roles die with the supervisor, even if it
  is killed.
  """

  def __init__(self, run_dir: Path, url: str):
    self._run_dir = run_dir
    self._url = url
    self._roles: list[_Role] = []

  def add(self, name: str, *, keeps_keys: bool = False) -> None:
    """Starts `python -m launch.<name>` on the run.

    Args:
      name: of the role and of its app.
      keeps_keys: whether it may see API keys (roles that call models).
    """
    command = [
      sys.executable,
      "-m",
      f"launch.{name}",
      f"--records={self._url}",
      f"--run_dir={self._run_dir}",
    ]
    env = dict(os.environ) if keeps_keys else scrubbed_environment()
    # Small algebra beside busy workers: threads of a role would only wait
    # for each other.
    for library in ("OPENBLAS", "OMP", "MKL"):
      env.setdefault(f"{library}_NUM_THREADS", "1")
    root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(
      p for p in (root, env.get("PYTHONPATH", "")) if p
    )
    role = _Role(name, command, env, self._run_dir / "logs" / f"{name}.log")
    self._roles.append(role)
    self._start(role)

  def _start(self, role: _Role) -> None:
    role.log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(role.log_path, "ab") as out:
      role.process = subprocess.Popen(
        role.command,
        env=role.env,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
      )
    role.starts.append(time.monotonic())

  def watch(self) -> None:
    """Starts roles again that ended.

    Raises:
      RoleFailed: if one keeps failing; the message has its last words.
    """
    for role in self._roles:
      if role.process is None or role.process.poll() is None:
        continue
      now = time.monotonic()
      recent = [t for t in role.starts if now - t < _WINDOW_S]
      if role.process.returncode == EXIT_USAGE or len(recent) > _RESTARTS:
        raise RoleFailed(
          f"{role.name} ended with code {role.process.returncode} "
          f"({len(recent)} starts in {_WINDOW_S:.0f} s). Last words in "
          f"{role.log_path}:\n{tail(role.log_path)}"
        )
      log.warning(
        "%s ended with code %s; starting it again",
        role.name,
        role.process.returncode,
      )
      self._start(role)

  def stop(self, grace_s: float = 15.0) -> None:
    """Asks all roles to stop, and kills what has not after `grace_s`."""
    self.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for role in self._roles:
      if role.process is None:
        continue
      try:
        role.process.wait(max(0.0, deadline - time.monotonic()))
      except subprocess.TimeoutExpired:
        log.warning("%s did not stop in %.0f s: killed", role.name, grace_s)
    self.signal(signal.SIGKILL)
    for role in self._roles:
      if role.process is not None:
        role.process.wait()

  def running(self) -> bool:
    """Whether any role still runs."""
    return any(
      role.process is not None and role.process.poll() is None
      for role in self._roles
    )

  def signal(self, number: int) -> None:
    """Sends a signal to every role that still runs."""
    for role in self._roles:
      if role.process is not None and role.process.poll() is None:
        os.killpg(role.process.pid, number)


def tail(path: Path, lines: int = 12) -> str:
  """Returns the last lines of a log file."""
  try:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
  except OSError as error:
    return f"(no log: {error})"


def die_with_parent() -> None:
  """Has this process stopped when its parent ends; for `preexec_fn`."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
