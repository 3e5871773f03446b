"""The bytes of an Artifact: a header in JSON, then serialised functions.

They come from a process that nobody vouches for: what is read here can only
become text and numbers of the declared sizes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from asi_evolve_jax.programs.exported import CUSTOM_CALLS, ArtifactError
from asi_evolve_jax.programs.traceable import (
  Parameter,
  nested,
  parameters_of,
)

VERSION = 2
MAX_BYTES = 64 << 20  # a thousand times what a mixer has
_MAGIC = b"ASIMIXER"
_HEAD = struct.Struct("<8sI")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
  """What an Artifact says about itself; the first part of its bytes."""

  version: int
  platform: str
  batch: int
  times: tuple[int, ...]  # the lengths it runs at; the first is its own
  dim: int
  dtype: str  # of x and y; parameters have their own
  recurrent: bool  # it has init_state and step
  parameters: tuple[Parameter, ...]
  sections: dict[str, int]  # name -> bytes, in order
  artifact_hash: str
  jax: str

  @property
  def time(self) -> int:
    return self.times[0]

  @property
  def parameter_count(self) -> int:
    return sum(math.prod(p.shape) for p in self.parameters)

  def structs(self) -> dict[str, Any]:
    """Returns a nested dict of ShapeDtypeStruct, one layer's parameters."""
    return nested(
      {
        p.path: jax.ShapeDtypeStruct(p.shape, jnp.dtype(p.dtype))
        for p in self.parameters
      }
    )


def pack(header: Header, sections: Mapping[str, bytes]) -> bytes:
  """Returns the bytes of an Artifact."""
  text = json.dumps(dataclasses.asdict(header)).encode()
  return _HEAD.pack(_MAGIC, len(text)) + text + b"".join(sections.values())


def unpack(payload: bytes) -> tuple[Header, dict[str, bytes]]:
  """Inverse of `pack`.

  Raises:
    ArtifactError: if the bytes are no Artifact of this version.
  """
  header = read_header(payload)
  at = len(payload) - sum(header.sections.values())
  sections = {}
  for name, size in header.sections.items():
    sections[name] = payload[at : at + size]
    at += size
  return header, sections


def read_header(payload: bytes) -> Header:
  """Returns the header of an Artifact without touching its functions.

  Raises:
    ArtifactError: if the bytes are no Artifact of this version.
  """
  if len(payload) > MAX_BYTES:
    raise ArtifactError(
      f"the Artifact has {len(payload)} bytes, at most {MAX_BYTES} are read."
    )
  try:
    magic, length = _HEAD.unpack_from(payload)
  except struct.error as error:
    raise ArtifactError("too short to be an Artifact.") from error
  if magic != _MAGIC:
    raise ArtifactError("these bytes are no Artifact: wrong first bytes.")
  text = payload[_HEAD.size : _HEAD.size + length]
  try:
    fields = json.loads(text)
    if fields["version"] != VERSION:
      raise ArtifactError(
        f"Artifact of version {fields['version']!r}, this code reads "
        f"{VERSION}: trace the Program again."
      )
    header = Header(
      version=VERSION,
      platform=str(fields["platform"]),
      batch=_count(fields["batch"]),
      times=tuple(_count(t) for t in fields["times"]),
      dim=_count(fields["dim"]),
      dtype=str(jnp.dtype(fields["dtype"])),
      recurrent=fields["recurrent"] is True,
      parameters=tuple(
        Parameter(
          tuple(str(n) for n in p["path"]),
          tuple(_count(n) for n in p["shape"]),
          str(jnp.dtype(p["dtype"])),
        )
        for p in fields["parameters"]
      ),
      sections={str(k): _count(v) for k, v in fields["sections"].items()},
      artifact_hash=str(fields["artifact_hash"]),
      jax=str(fields["jax"]),
    )
  except ArtifactError:
    raise
  except (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
  ) as error:
    raise ArtifactError(f"the Artifact's header is damaged: {error}") from error
  if not header.times or header.platform not in CUSTOM_CALLS:
    raise ArtifactError(
      f"the Artifact is for {header.platform!r} at lengths {header.times}."
    )
  try:
    told = parameters_of(header.structs())
  except (TypeError, AttributeError, IndexError) as error:
    raise ArtifactError("the Artifact's parameters do not nest.") from error
  if told != header.parameters:
    raise ArtifactError("the Artifact names a parameter twice.")
  wanted = [*(f"apply.{t}" for t in header.times), "init"]
  wanted += ["init_state", "step"] if header.recurrent else []
  if list(header.sections) != wanted:
    raise ArtifactError(f"the Artifact has sections {list(header.sections)}.")
  size = _HEAD.size + length + sum(header.sections.values())
  if size != len(payload):
    raise ArtifactError(
      f"the Artifact should have {size} bytes, it has {len(payload)}."
    )
  return header


def _count(value: Any) -> int:
  if not isinstance(value, int) or isinstance(value, bool) or value < 0:
    raise ValueError(f"{value!r} is no count")
  return value
