"""How requests and replies travel between the Engineer and its workers.

A frame is a JSON header followed by raw bytes. Nothing is pickled: a process
that has run a candidate can send anything, and what is read here can only
become numbers, text and byte strings of the declared sizes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from typing import Any

import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest

_MAGIC = b"AEJ1"
_PREFIX = struct.Struct("!4sIQ")  # magic, bytes of header, bytes of body
PREFIX_BYTES = _PREFIX.size
HEADER_BYTES = 16 << 20  # no honest header comes near
_STATUSES = ("ok", "rejected", "failed", "stopped")
_DTYPES = frozenset(
  [
    *("bool", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
  ]
)


class WireError(ValueError):
  """A frame that is not what it should be; the message says how."""


def frame(header: dict[str, Any], body: bytes = b"") -> bytes:
  """Returns the bytes of one frame."""
  text = json.dumps(header, separators=(",", ":")).encode()
  return _PREFIX.pack(_MAGIC, len(text), len(body)) + text + body


def frame_bytes(prefix: bytes) -> int:
  """Returns the size of the frame that starts with these PREFIX_BYTES.

  Raises:
    WireError: if no frame starts so.
  """
  magic, header, body = _PREFIX.unpack(prefix)
  if magic != _MAGIC:
    raise WireError(f"the reply starts with {bytes(prefix)!r}, not a frame")
  if header > HEADER_BYTES:
    raise WireError(f"the reply's header has {header} bytes")
  return PREFIX_BYTES + header + body


def unframe(data: bytes) -> tuple[dict[str, Any], memoryview]:
  """Returns header and body of one whole frame.

  Raises:
    WireError: if it is not one.
  """
  if len(data) < PREFIX_BYTES or len(data) != frame_bytes(data[:PREFIX_BYTES]):
    raise WireError(f"the reply's {len(data)} bytes are not one frame")
  length = _PREFIX.unpack_from(data)[1]
  view = memoryview(data)
  try:
    header = json.loads(bytes(view[PREFIX_BYTES : PREFIX_BYTES + length]))
  except (ValueError, RecursionError) as e:
    raise WireError(f"the reply's header is no JSON: {e}") from None
  if not isinstance(header, dict):
    raise WireError("the reply's header is no JSON object")
  return header, view[PREFIX_BYTES + length :]


def encode_request(request: StageRequest, extra: dict[str, Any]) -> bytes:
  """Returns the frame of a request; `extra` is for the worker itself."""
  header = {
    f.name: getattr(request, f.name)
    for f in dataclasses.fields(request)
    if f.name != "payload"
  }
  return frame({"request": header, "extra": extra}, request.payload)


def decode_request(data: bytes) -> tuple[StageRequest, dict[str, Any]]:
  """Inverse of `encode_request`."""
  header, body = unframe(data)
  fields = header["request"]
  fields["seeds"] = tuple(fields["seeds"])
  return StageRequest(payload=bytes(body), **fields), header["extra"]


def encode_reply(reply: StageReply) -> bytes:
  """Returns the frame of a reply.

  Raises:
    TypeError, ValueError: if the reply holds what cannot be sent.
  """
  curves = []
  body = [reply.payload]
  for name, value in reply.curves.items():
    array = np.ascontiguousarray(value)
    if array.dtype.name not in _DTYPES:
      raise TypeError(
        f"curve {name!r} has dtype {array.dtype}: convert it to float32"
      )
    curves.append([name, array.dtype.name, list(array.shape)])
    body.append(array.tobytes())
  header = {
    "status": reply.status,
    "gate": reply.gate,
    "error": reply.error,
    "payload": len(reply.payload),
    "metrics": [_numbers(m) for m in reply.metrics],
    "report": _plain(reply.report),
    "curves": curves,
    "cost": _numbers(reply.cost),
  }
  return frame(header, b"".join(body))


def decode_reply(data: bytes) -> StageReply:
  """Returns the reply in a frame that nobody vouches for.

  Raises:
    WireError: if any part of it is not what a StageReply may hold.
  """
  header, body = unframe(data)
  status = header.get("status")
  if status not in _STATUSES:
    raise WireError(f"the reply's status is {status!r}, not one of {_STATUSES}")
  size = header.get("payload")
  if not isinstance(size, int) or not 0 <= size <= len(body):
    raise WireError(f"the reply's payload has {size!r} bytes")
  metrics = header.get("metrics")
  if not isinstance(metrics, list):
    raise WireError("the reply's metrics are no list")
  report = header.get("report")
  if not isinstance(report, dict):
    raise WireError("the reply's report is no object")
  return StageReply(
    status=status,
    gate=_text(header, "gate"),
    error=_text(header, "error"),
    payload=bytes(body[:size]),
    metrics=tuple(_check_numbers(m, "metrics") for m in metrics),
    report=report,
    curves=_decode_curves(header.get("curves"), body[size:]),
    cost=_check_numbers(header.get("cost"), "cost"),
  )


def _decode_curves(entries: Any, body: memoryview) -> dict[str, np.ndarray]:
  if not isinstance(entries, list):
    raise WireError("the reply's curves are no list")
  curves: dict[str, np.ndarray] = {}
  start = 0
  for entry in entries:
    if not isinstance(entry, list) or len(entry) != 3:
      raise WireError(f"a curve is described by {entry!r}")
    name, dtype, shape = entry
    if (
      not isinstance(name, str)
      or not isinstance(dtype, str)
      or dtype not in _DTYPES
      or not isinstance(shape, list)
      or len(shape) > 8
      or not all(_is_count(n) for n in shape)
    ):
      raise WireError(f"a curve is described by {entry!r}")
    stop = start + math.prod(shape) * np.dtype(dtype).itemsize
    if stop > len(body):
      raise WireError(f"curve {name!r} is larger than what was sent")
    curves[name] = np.frombuffer(body[start:stop], dtype).reshape(shape)
    start = stop
  if start != len(body):
    raise WireError(f"the reply has {len(body) - start} bytes too many")
  return curves


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(header: dict[str, Any], name: str) -> str:
  value = header.get(name)
  if not isinstance(value, str):
    raise WireError(f"the reply's {name} is no text")
  return value


def _check_numbers(value: Any, where: str) -> dict[str, float]:
  if not isinstance(value, dict) or not all(map(_is_number, value.values())):
    raise WireError(f"the reply's {where} must be numbers by name")
  try:
    return {k: float(v) for k, v in value.items()}
  except OverflowError:
    raise WireError(f"the reply's {where} hold a number too large") from None


def _numbers(values: dict[str, Any]) -> dict[str, float]:
  return {str(k): float(v) for k, v in values.items()}


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  if isinstance(value, np.ndarray):
    return _plain(value.tolist())
  if isinstance(value, np.generic):
    return value.item()
  return value
