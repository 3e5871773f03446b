"""The benchmark of GPU kernels, rehearsed in the interpreter."""

import sys
import types

import jax.numpy as jnp
import pytest

from pallas_kernels.benchmarks import forms, mixers, timing
from pallas_kernels.linear_attention import cost, linear_attention

SIZE = mixers.Size(1, 16, 1, 16)


def refuses(q, k, v, *, implementation):
  if implementation == "pallas_gpu":
    raise NotImplementedError("no such instruction")
  return linear_attention(q, k, v, implementation=implementation)


def forgets(q, k, v, *, implementation):
  """Right but for the state that it leaves."""
  out, state = linear_attention(q, k, v, implementation=implementation)
  return out, state * (0.5 if implementation == "pallas_gpu" else 1.0)


def put(monkeypatch, **made):
  made = {n: mixers.Mixer(f, (), cost.forward_cost) for n, f in made.items()}
  monkeypatch.setattr(timing, "MIXERS", made)
  monkeypatch.setattr(timing.forms, "MIXERS", made)


@pytest.mark.slow
def test_a_kernel_that_fails_takes_no_other_row_with_it(monkeypatch):
  put(monkeypatch, refuses=refuses, right=linear_attention)
  refused, right = timing.bench_gpu((SIZE,), 1)
  assert refused["failed"].startswith("NotImplementedError: no such")
  assert "failed" not in right
  for what in ("forward", "step"):
    assert right[f"{what} share of matrix rate"] > 0
    assert right[f"{what} share of bandwidth"] > 0
    assert right[f"{what} jla"] == "jla has no such mixer"


def test_states_and_gradients_are_compared_too(monkeypatch):
  put(monkeypatch, forgets=forgets)
  errors = timing.errors("forgets", SIZE)
  assert errors["out"] <= timing.TOLERANCE
  assert errors["dq"] <= timing.TOLERANCE
  assert errors["state"] > 0.4
  assert errors["dk"] > timing.TOLERANCE


@pytest.mark.slow
def test_a_peer_that_computes_something_else_is_seen(monkeypatch):
  put(monkeypatch, right=linear_attention)

  def wrong(q, k, v):
    return 2 * linear_attention(q, k, v, implementation="reference")[0]

  def refuses(q, k, v):
    raise KeyError("no such device")

  monkeypatch.setattr(timing.forms, "jla", lambda name: wrong)
  monkeypatch.setattr(timing, "_torch_out", lambda form, args: form(**args))
  monkeypatch.setattr(timing.forms, "fla", lambda name: refuses)
  (row,) = timing.bench_gpu((SIZE,), 1)
  assert row["error of jla"] == pytest.approx(1, abs=timing.TOLERANCE)
  assert row["error of fla"] == "failed: 'no such device'"
  assert "failed" not in row


def test_peers_are_called_for_what_the_mixer_computes(monkeypatch):
  calls = []

  def called(*args, **options):
    calls.append((args[:1], options))
    return (None, None)

  for name, function in (
    ("jla", None),
    ("jla.ops", "linear_attention"),
    ("fla", None),
    ("fla.ops", None),
    ("fla.ops.linear_attn", "chunk_linear_attn"),
    ("fla.ops.kda", "chunk_kda"),
  ):
    module = types.ModuleType(name)
    if function is not None:
      setattr(module, function, called)
    monkeypatch.setitem(sys.modules, name, module)
  forms.fla("linear attention")(1, 2, 3)
  # By default its output is divided by a sum of keys, which ours is not.
  assert calls[-1] == ((), {"q": 1, "k": 2, "v": 3, "normalize": False})
  forms.fla("KDA, bounded decay")(1, 2, 3, beta=4, G=5)
  assert calls[-1] == ((), {"q": 1, "k": 2, "v": 3, "beta": 4, "g": 5})
  forms.jla("KDA, bounded decay")(1, 2, 3, beta=4, G=5)
  assert calls[-1] == (("kda",), {"beta": 4, "g": 5})
  with pytest.raises(LookupError, match="no such mixer"):
    forms.jla("linear attention")


def test_an_error_that_is_no_number_is_the_largest():
  nan = jnp.full(2, jnp.nan)
  assert timing._relative(nan, jnp.ones(2)) == float("inf")


def test_a_promised_bound_makes_a_vector_decay_cheaper():
  size = mixers.Size(1, 64, 1, 16)
  free, bounded = (
    mixers.MIXERS[name].forward_cost(size, 64, 2).flops
    for name in ("KDA", "KDA, bounded decay")
  )
  assert bounded < free
