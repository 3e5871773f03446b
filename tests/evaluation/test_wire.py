"""Frames: what goes in comes out, and nothing else gets in."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asi_evolve_jax.evaluation import wire
from asi_evolve_jax.evaluation.stages import StageReply, StageRequest

REPLY = StageReply(
  status="ok",
  payload=b"\0\1payload",
  metrics=({"loss": 1.5}, {"loss": float("nan")}),
  report={"parameters": 7, "nested": {"a": [1, None, "x"]}},
  curves={
    "loss": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 4), np.int64),
    "flag": np.array(True),
  },
  cost={"flops": 1e12},
)


def test_replies_survive():
  back = wire.decode_reply(wire.encode_reply(REPLY))
  assert back.payload == REPLY.payload
  assert back.report == REPLY.report
  assert back.cost == REPLY.cost
  assert back.metrics[0] == REPLY.metrics[0]
  assert np.isnan(back.metrics[1]["loss"])
  assert list(back.curves) == list(REPLY.curves)
  for name, array in REPLY.curves.items():
    assert back.curves[name].dtype == array.dtype
    np.testing.assert_array_equal(back.curves[name], array)


def test_numpy_scalars_become_plain():
  reply = StageReply(
    metrics=({"loss": np.float32(0.5)},),
    report={"n": np.int64(3), "v": np.ones(2), "t": (1, 2)},
  )
  back = wire.decode_reply(wire.encode_reply(reply))
  assert back.metrics == ({"loss": 0.5},)
  assert back.report == {"n": 3, "v": [1.0, 1.0], "t": [1, 2]}


@pytest.mark.parametrize("dtype", [object, "U3", "complex64", "V2"])
def test_only_plain_arrays_can_be_sent(dtype):
  reply = StageReply(curves={"x": np.zeros(2, dtype)})
  with pytest.raises(TypeError, match="convert it"):
    wire.encode_reply(reply)


def test_requests_survive():
  request = StageRequest(
    source="def f(): ...",
    payload=b"\0" * 10,
    seeds=(3, 1),
    options={"rung": "quick", "width": 64},
    scratch="/s",
    cache="",
    deadline_s=2.5,
  )
  frame = wire.encode_request(request, {"core": None})
  assert wire.decode_request(frame) == (request, {"core": None})


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused(data):
  with pytest.raises(wire.WireError):
    wire.decode_reply(data)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_or_harmless(data):
  frame = bytearray(wire.encode_reply(REPLY))
  for _ in range(data.draw(st.integers(1, 4))):
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] = data.draw(st.integers(0, 255))
  try:
    reply = wire.decode_reply(bytes(frame))
  except wire.WireError:
    return
  assert reply.status in ("ok", "rejected", "failed")
  assert all(a.dtype != object for a in reply.curves.values())


def lies():
  header = {
    "status": "ok",
    "gate": "",
    "error": "",
    "payload": 0,
    "metrics": [],
    "report": {},
    "curves": [],
    "cost": {},
  }
  for name, value in [
    ("status", "best"),
    ("status", ["ok"]),
    ("gate", 1),
    ("payload", 1),
    ("payload", -1),
    ("payload", None),
    ("metrics", {}),
    ("metrics", [["loss", 1]]),
    ("metrics", [{"loss": "1.0"}]),
    ("metrics", [{"loss": True}]),
    ("metrics", [{"loss": 10**400}]),
    ("report", []),
    ("cost", {"flops": None}),
    ("curves", [["x", "object", [1]]]),
    ("curves", [["x", "float64", [-1, -8]]]),
    ("curves", [["x", "float64", [2**62, 2**62]]]),
    ("curves", [["x", ["float64"], [1]]]),
    ("curves", [["x", "float64", [1]]]),
    ("curves", ["x"]),
  ]:
    yield {**header, name: value}
  yield {}


@pytest.mark.parametrize("header", list(lies()), ids=str)
def test_lies_are_refused(header):
  with pytest.raises(wire.WireError):
    wire.decode_reply(wire.frame(header))


def test_bytes_beyond_the_declared_ones_are_refused():
  frame = wire.encode_reply(REPLY)
  header, body = wire.unframe(frame)
  with pytest.raises(wire.WireError, match="too many"):
    wire.decode_reply(wire.frame(header, bytes(body) + b"x"))
  with pytest.raises(wire.WireError, match="not one frame"):
    wire.decode_reply(frame + b"x")


def test_depth_does_not_break_the_reader():
  text = json.dumps({"report": 0})[:-2].encode()
  text += b"[" * 200_000 + b"]" * 200_000 + b"}"
  prefix = wire._PREFIX.pack(b"AEJ1", len(text), 0)
  with pytest.raises(wire.WireError, match="no JSON"):
    wire.decode_reply(prefix + text)
  with pytest.raises(wire.WireError, match="header has"):
    wire.frame_bytes(wire._PREFIX.pack(b"AEJ1", 1 << 30, 0))
