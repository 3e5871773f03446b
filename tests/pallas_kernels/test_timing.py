"""The benchmark of GPU kernels, rehearsed in the interpreter."""

import jax.numpy as jnp

from pallas_kernels.benchmarks import mixers, timing
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
