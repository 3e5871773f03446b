"""What the trace stage hands to the judge: one Program, exported in forms.

A form is an Artifact for one purpose, by a name that the track chooses, e.g.
"cpu" (what the gates run) and "tpu" (what trains there).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from asi_evolve_jax.programs.exported import ArtifactError

MAX_FORMS = 8
_MAGIC = b"ASIFORMS"
_HEAD = struct.Struct("<8sI")
_HEADER_BYTES = 4096


def pack(forms: Mapping[str, bytes]) -> bytes:
  """Returns the bytes of a bundle.

  Args:
    forms: Artifacts by name.
  """
  sizes = [[name, len(data)] for name, data in forms.items()]
  text = json.dumps(sizes).encode()
  return _HEAD.pack(_MAGIC, len(text)) + text + b"".join(forms.values())


def unpack(payload: bytes) -> dict[str, bytes]:
  """Inverse of `pack`, for bytes that nobody vouches for.

  Raises:
    ArtifactError: if they are no bundle.
  """
  try:
    magic, length = _HEAD.unpack_from(payload)
    if magic != _MAGIC or length > _HEADER_BYTES:
      raise ValueError("it starts with other bytes")
    entries = json.loads(payload[_HEAD.size : _HEAD.size + length])
    sizes = {str(name): int(size) for name, size in entries}
  except (ValueError, TypeError, struct.error, RecursionError) as error:
    raise ArtifactError(f"the payload is no bundle: {error}.") from error
  at = _HEAD.size + length
  if (
    not 0 < len(sizes) == len(entries) <= MAX_FORMS
    or min(sizes.values()) < 0
    or at + sum(sizes.values()) != len(payload)
  ):
    raise ArtifactError("the payload is no bundle: its sizes do not add up.")
  forms = {}
  for name, size in sizes.items():
    forms[name] = payload[at : at + size]
    at += size
  return forms
