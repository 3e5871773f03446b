"""Records as JSON: what is written is read back, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import math
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_kit import program, proposal, result, task

from asi_evolve_jax.records import schema
from asi_evolve_jax.records.codec import RecordError, decode, encode

_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | _FINITE | st.text(max_size=9),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=6,
)


def _values(hint) -> st.SearchStrategy:
  """Returns a strategy for the type hint of a record's field."""
  if hint is typing.Any:
    return _JSON
  if hint in (int, float, str):
    return {int: st.integers(), float: _FINITE, str: st.text()}[hint]
  args = typing.get_args(hint)
  origin = typing.get_origin(hint)
  if origin is tuple:
    return st.lists(_values(args[0]), max_size=3).map(tuple)
  if origin is dict:
    return st.dictionaries(st.text(max_size=5), _values(args[1]), max_size=3)
  return st.none() | _values(args[0])


def _records(cls: type[schema.Record]) -> st.SearchStrategy:
  hints = typing.get_type_hints(cls)
  fields = {f.name: _values(hints[f.name]) for f in dataclasses.fields(cls)}
  return st.builds(cls, **fields)


@pytest.mark.parametrize("kind", sorted(schema.KINDS))
def test_every_kind_is_read_back_equal(kind):
  @settings(max_examples=40, deadline=None)
  @given(_records(schema.KINDS[kind]))
  def check(record):
    data = encode(record)
    again = decode(record.key, data)
    assert again == record
    assert encode(again) == data

  check()


def test_text_that_is_no_unicode_survives():
  record = program(1, source="\ud800 \x00 \u2028")
  assert decode(record.key, encode(record)) == record


def _changed(record: schema.Record, **changes) -> bytes:
  body = json.loads(encode(record))
  for key, value in changes.items():
    if value is KeyError:
      del body[key]
    else:
      body[key] = value
  return json.dumps(body).encode()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"schema": 99}, "newer"),
    ({"schema": True}, "schema version"),
    ({"kind": "dream"}, "unknown kind 'dream'"),
    ({"kind": ["task"]}, "unknown kind"),
    ({"colour": 1}, "unknown fields colour"),
    ({"rung": KeyError}, "lacks the field rung"),
    ({"rung": 3}, "rung must be str"),
    ({"attempt": True}, "attempt must be int"),
    ({"attempt": 1.5}, "attempt must be int"),
    ({"seeds": "012"}, "seeds must be a sequence"),
    ({"seeds": [0, None]}, "seeds must be int"),
    ({"created_at": math.nan}, "not a finite number"),
    ({"created_at": "now"}, "created_at must be a number"),
    ({"rung": "other"}, "holds the record task/"),
  ],
)
def test_a_damaged_record_is_refused_by_key_and_reason(changes, said):
  record = task(1)
  with pytest.raises(RecordError, match=said) as caught:
    decode(record.key, _changed(record, **changes))
  assert record.key in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[1]", b"1e999"])
def test_what_is_no_record_at_all_is_refused(data):
  with pytest.raises(RecordError, match="task/x"):
    decode("task/x", data)


def test_an_overflowing_number_is_refused():
  record = result(task(1), 1.5)
  data = encode(record).replace(b'"loss":1.5', b'"loss":1e999')
  with pytest.raises(RecordError, match="1e999 is not a finite"):
    decode(record.key, data)


@pytest.mark.parametrize(
  ("record", "said"),
  [
    (result(task(1), math.nan), "metrics must be finite"),
    (result(task(1), math.inf), "metrics must be finite"),
    (dataclasses.replace(task(1), seeds=(True,)), "seeds must be int"),
    (proposal(1, genome={"a": math.nan}), "genome is not JSON"),
    (proposal(1, genome={"a": {1, 2}}), "genome is not JSON"),
    (proposal(1, genome={3: 4}), "genome has the key 3"),
    (dataclasses.replace(program(1), source=None), "source must be str"),
  ],
)
def test_what_could_not_be_read_is_not_written(record, said):
  with pytest.raises(RecordError, match=said):
    encode(record)


def test_fields_with_defaults_may_be_missing():
  record = task(1)
  data = _changed(record, priority=KeyError, requested_by=KeyError)
  assert decode(record.key, data) == record
