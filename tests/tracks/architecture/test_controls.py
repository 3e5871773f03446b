"""Every way to cheat is refused, every near miss passes."""

import re

import pytest
from adversaries import (
  CONTROLS,
  PEEPING,
  RECURRENT,
  Control,
  changing,
  program,
)
from judging import DIM, LAYERS, run
from mixer_sources import GOOD


@pytest.mark.parametrize("name", CONTROLS)
def test_refused(name):
  control = CONTROLS[name]
  # What it takes to be verified, for the gates that are asked then alone.
  purpose = "verify" if control.gate == "long" else "search"
  reply = run(program((control, control.bad)), purpose=purpose)
  assert (reply.status, reply.gate) == ("rejected", control.gate), reply.error
  assert re.search(control.message, reply.error), reply.error
  assert reply.payload == b""


@pytest.mark.parametrize("part", [0, 1])
def test_near_misses_pass_together(part):
  near = [(c, c.near) for c in CONTROLS.values()][part::2]
  reply = run(program(*near), purpose="verify")
  assert reply.status == "ok", (reply.gate, reply.error)
  assert {"long", "sharding"} <= set(reply.report["gate_seconds"])


WINDOW = """\
w = WIDTH
n = -(-t // w)
u = jnp.pad(v, ((0, 0), (0, n * w - t), (0, 0))).reshape(b, n, w, d)
s = jnp.einsum("bntd,bnsd->bnts", u, u)
u = jax.nn.softmax(jnp.where(jnp.tri(w, dtype=bool), s, -jnp.inf)) @ u
y = y + u.reshape(b, n * w, d)[:, :t]"""


@pytest.mark.parametrize(
  ("width", "message"),
  [
    ("min(t, 64)", r"64 tokens, as in training, take \d\.\d+ times"),
    ("64", "at length 32 it takes"),
    ("16", ""),
  ],
)
def test_a_window_over_all_that_trains_is_attention(width, message):
  window = WINDOW.replace("WIDTH", width)
  reply = run(program((Control("", "", window, ""), window)), run={"time": 64})
  assert reply.gate == ("cost" if message else ""), reply.error
  assert re.search(message, reply.error), reply.error


@pytest.mark.slow
def test_a_recurrent_form_must_be_the_same_function():
  good = run(RECURRENT.replace("FACTOR", "1.0"))
  assert good.status == "ok", (good.gate, good.error)
  report = good.report
  assert report["state_size"] == DIM
  # One projection a layer and the harness, as in the parallel form, which
  # sums up in another way.
  least = LAYERS * (2 * DIM * DIM + 6 * DIM * report["mlp_width"])
  least += 2 * DIM * 64
  assert least < report["decode_flops_per_token"] < 1.1 * least
  bad = run(RECURRENT.replace("FACTOR", "0.99"))
  assert (bad.status, bad.gate) == ("rejected", "recurrence")
  assert "the result of the recurrent form differs" in bad.error
  half = RECURRENT.replace("def init_state", "def other")
  alone = run(half.replace("FACTOR", "1.0"))
  assert (alone.status, alone.gate) == ("rejected", "contract")
  assert "defines step alone" in alone.error


@pytest.mark.slow
def test_frames_hold_no_targets():
  honest, peeping = run(GOOD), run(PEEPING)
  assert "decode_flops_per_token" not in honest.report
  assert peeping.status == "ok", (peeping.gate, peeping.error)
  assert peeping.report["artifact_hash"] == honest.report["artifact_hash"]


@pytest.mark.slow
def test_what_was_judged_is_what_trains():
  # It leaks once it has been looked at: in what is exported, so it is refused.
  late = run(changing("> 1"))
  assert (late.status, late.gate) == ("rejected", "causality")
  # It leaks when it is looked at first: what trains is honest, and equal.
  early = run(changing("<= 1"))
  assert early.status == "ok", (early.gate, early.error)
  assert early.report["artifact_hash"] == run(GOOD).report["artifact_hash"]
