"""Records as JSON bytes, checked strictly in both directions.

The form is `{"schema": 1, "kind": "task", <fields>}`. What is read back equals
what was written, with JSON's types inside `Any` (tuples there become lists).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any

from asi_evolve_jax.records import schema

# Returns the value as the field holds it, or raises ValueError with what is
# wrong with it.
_Check = Callable[[Any], Any]


class RecordError(ValueError):
  """A record that cannot be written or read; the message names its key."""


def encode(record: schema.Record) -> bytes:
  """Returns `record` as JSON bytes.

  Raises:
    RecordError: on a field of the wrong type or a number that is not finite.
  """
  kind = type(record).kind
  if schema.KINDS.get(kind) is not type(record):
    raise RecordError(f"{type(record).__name__} is not a kind of record.")
  body: dict[str, Any] = {"schema": schema.SCHEMA_VERSION, "kind": kind}
  for name, (check, _) in _fields(kind).items():
    value = getattr(record, name)
    try:
      body[name] = check(value)
    except ValueError as e:
      raise RecordError(
        f"{kind} cannot be written: {name} {e}. Change what makes it."
      ) from None
  try:
    return _dumps(body)
  except (ValueError, TypeError, RecursionError):
    raise RecordError(_why_not_json(kind, body)) from None


def decode(key: str, data: bytes) -> schema.Record:
  """Returns the record that `data`, read at `key`, holds.

  Raises:
    RecordError: if it is not a record that this version understands, or not
      the one that belongs at `key`.
  """
  return from_json(key, loads(key, data))


def decode_line(where: str, data: bytes) -> schema.Record:
  """As `decode` for a record that stands somewhere else than at its key."""
  return _build(where, loads(where, data))


def loads(key: str, data: bytes) -> Any:
  """Returns `data` parsed as strict JSON (no NaN, no infinity)."""
  try:
    return json.loads(data, parse_constant=_refuse, parse_float=_finite)
  except (ValueError, RecursionError) as e:
    raise RecordError(
      f"{key} is not JSON ({e}). It was damaged or written by hand: delete "
      "it, or restore it from an archive."
    ) from None


def from_json(key: str, body: Any) -> schema.Record:
  """As `decode`, from JSON that is parsed already."""
  record = _build(key, body)
  if record.key != key:
    raise RecordError(
      f"{key} holds the record {record.key}: it was moved or changed by hand."
    )
  return record


def _build(key: str, body: Any) -> schema.Record:
  if not isinstance(body, dict):
    raise RecordError(f"{key} is not a JSON object: delete it.")
  version = body.get("schema")
  if not isinstance(version, int) or isinstance(version, bool) or version < 1:
    raise RecordError(f"{key} has no valid schema version: {version!r}.")
  if version > schema.SCHEMA_VERSION:
    raise RecordError(
      f"{key} has schema version {version}, newer than {schema.SCHEMA_VERSION}"
      " of this program: update asi_evolve_jax to read it."
    )
  kind = body.get("kind")
  if not isinstance(kind, str) or kind not in schema.KINDS:
    raise RecordError(
      f"{key} has unknown kind {kind!r}; kinds are "
      f"{', '.join(sorted(schema.KINDS))}."
    )
  fields = _fields(kind)
  unknown = body.keys() - fields.keys() - {"schema", "kind"}
  if unknown:
    raise RecordError(
      f"{key} has unknown fields {', '.join(sorted(unknown))}: it was "
      "written by another version of asi_evolve_jax."
    )
  values = {}
  for name, (check, required) in fields.items():
    if name in body:
      try:
        values[name] = check(body[name])
      except ValueError as e:
        raise RecordError(f"{key} cannot be read: {name} {e}.") from None
    elif required:
      raise RecordError(f"{key} lacks the field {name}.")
  return schema.KINDS[kind](**values)


@functools.cache
def _fields(kind: str) -> dict[str, tuple[_Check, bool]]:
  """Returns, for each field of `kind`, its check and whether it is required."""
  cls = schema.KINDS[kind]
  hints = typing.get_type_hints(cls)
  return {
    f.name: (
      _check_for(hints[f.name]),
      f.default is dataclasses.MISSING
      and f.default_factory is dataclasses.MISSING,
    )
    for f in dataclasses.fields(cls)
  }


def _check_for(hint: Any) -> _Check:
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if hint is Any:
    return lambda value: value
  if hint is float:
    return _float
  if hint in (int, str, bool):
    return functools.partial(_plain, hint)
  if origin in (types.UnionType, typing.Union):
    inner = _check_for(next(a for a in args if a is not type(None)))
    return lambda value: None if value is None else inner(value)
  if origin is tuple and args[1:] == (Ellipsis,):
    item = _check_for(args[0])

    def check_tuple(value: Any) -> tuple[Any, ...]:
      if not isinstance(value, (tuple, list)):
        raise ValueError(f"must be a sequence, got {_show(value)}")
      return tuple([item(v) for v in value])

    return check_tuple
  if origin is dict and args[0] is str:
    entry = _check_for(args[1])

    def check_dict(value: Any) -> dict[str, Any]:
      if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, got {_show(value)}")
      for k in value:
        if not isinstance(k, str):
          raise ValueError(f"has the key {k!r}, which is not text")
      return {k: entry(v) for k, v in value.items()}

    return check_dict
  raise TypeError(f"records cannot hold {hint}: extend codec.py")


def _plain(cls: type, value: Any) -> Any:
  # bool is an int to Python, never to a record.
  if type(value) is cls:
    return value
  if not isinstance(value, cls) or isinstance(value, bool):
    raise ValueError(f"must be {cls.__name__}, got {_show(value)}")
  return cls(value)


def _float(value: Any) -> float:
  if type(value) is not float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
      raise ValueError(f"must be a number, got {_show(value)}")
    try:
      value = float(value)
    except OverflowError:
      raise ValueError("is too large for a float") from None
  if not math.isfinite(value):
    raise ValueError(f"must be finite, got {value}")
  return value


def _show(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else text[:57] + "..."


def _dumps(body: Any) -> bytes:
  # ASCII escapes, so that any text survives, lone surrogates too.
  return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _why_not_json(kind: str, body: dict[str, Any]) -> str:
  for name, value in body.items():
    try:
      _dumps(value)
    except (ValueError, TypeError, RecursionError) as e:
      return (
        f"{kind} cannot be written: {name} is not JSON ({e}). Records hold "
        "finite numbers, text, lists and dicts: convert arrays and scalars."
      )
  return f"{kind} cannot be written as JSON."


def _refuse(constant: str) -> Any:
  raise ValueError(f"{constant} is not a finite number")


def _finite(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f"{text} is not a finite number")
  return value
