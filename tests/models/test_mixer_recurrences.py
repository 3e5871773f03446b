"""Parameterisations against the recurrences of their papers, in float64.

Each recurrence below is written for one head from its paper, with o = S^T q and
a state K x V, and knows nothing of the operators: it is given the token t, the
state S before it, the head, and a dict that lives as long as the sequence.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compile import FAST_COMPILE

from asi_evolve_jax.models.mixers import additive, delta, dplr

BATCH, TIME, HEADS, K, V, STEPS = 2, 11, 2, 4, 3, 2
# One sequence a row, and two packed into a row.
SEGMENTS = np.array([[5] * TIME, [1] * 4 + [2] * 7])
# Sums of a few dozen products in float32 (epsilon 6e-8), relative to the
# largest entry.
FLOAT32 = 1e-5


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softplus(x):
  return np.log1p(np.exp(x))


def unit(x):
  return x / np.sqrt(np.sum(x * x, -1, keepdims=True))


def linear(t, S, head, memory):
  q, k = (np.where(y > 0, y + 1, np.exp(y)) for y in (t.q, t.k))
  S = S + np.outer(k, t.v)
  return S.T @ q, S


def linear_normalised(t, S, head, memory):
  # The state's last column is the normaliser z.
  q, k = (np.where(y > 0, y + 1, np.exp(y)) for y in (t.q, t.k))
  S = S + np.outer(k, np.append(t.v, 1.0))
  return (S[:, :-1].T @ q) / (S[:, -1] @ q), S


def retention(t, S, head, memory):
  half = K // 2
  turn = np.exp(1j * t.position * 10_000.0 ** -(np.arange(half) / half))
  q, k = ((y[:half] + 1j * y[half:]) * turn for y in (t.q, t.k))
  C = S[:half] + 1j * S[half:]
  C = (1 - 2.0 ** (-5 - head)) * C + np.outer(k, t.v)
  return np.real(C.T @ np.conj(q)), np.concatenate([C.real, C.imag])


def mamba2(t, S, head, memory):
  S = np.exp(-t.dt * t.rate) * S + t.dt * np.outer(t.b, t.x)
  return S.T @ t.c + t.skip * t.x, S


def mamba3(t, S, head, memory):
  half = t.angle.size
  memory["angle"] = memory.get("angle", 0) + np.pi * t.dt * np.tanh(t.angle)
  turn = np.exp(1j * memory["angle"])

  def rotated(y):
    z = (y[:half] + 1j * y[half : 2 * half]) * turn
    return np.concatenate([z.real, z.imag, y[2 * half :]])

  share, a, b = sigmoid(t.trapezoid), np.exp(t.g), rotated(t.b)
  S = a * S + share * t.dt * np.outer(b, t.x)
  if "b" in memory:
    S = S + (1 - share) * t.dt * a * np.outer(memory["b"], memory["x"])
  memory["b"], memory["x"] = b, t.x
  return S.T @ rotated(t.c) + t.skip * t.x, S


def gla(t, S, head, memory):
  S = sigmoid(t.gate)[:, None] ** (1 / 16) * S + np.outer(t.k, t.v)
  return S.T @ t.q, S


def hgrn2(t, S, head, memory):
  S = t.forget[:, None] * S + np.outer(1 - t.forget, t.v)
  return S.T @ t.q, S


def rwkv6(t, S, head, memory):
  write = np.outer(t.k, t.v)
  out = (S + t.bonus[:, None] * write).T @ t.r
  return out, np.exp(-np.exp(t.decay))[:, None] * S + write


def gated_delta(t, S, head, memory):
  q, k = unit(t.q), unit(t.k)
  decay = np.atleast_1d(np.exp(getattr(t, "g", 0.0)))[:, None]
  erase = np.eye(K) - t.beta * np.outer(k, k)
  S = erase @ (decay * S) + t.beta * np.outer(k, t.v)
  return S.T @ q, S


def gdn2(t, S, head, memory):
  q, k = unit(t.q), unit(t.k)
  erase = np.eye(K) - np.outer(k, t.erase * k)
  S = erase @ (np.exp(t.g)[:, None] * S) + np.outer(k, t.write * t.v)
  return S.T @ q, S


def deltaproduct(t, S, head, memory):
  S = np.exp(getattr(t, "g", 0.0)) * S
  for k, v, beta in zip(unit(t.k), t.v, t.beta, strict=True):
    S = (np.eye(K) - beta * np.outer(k, k)) @ S + beta * np.outer(k, v)
  return S.T @ unit(t.q), S


def comba(t, S, head, memory):
  q, k = unit(t.q), unit(t.k)
  feedback = t.feedback * t.beta
  S = (np.exp(t.g) * np.eye(K) - feedback * np.outer(k, k)) @ S + (
    t.beta * np.outer(k, t.v)
  )
  return S.T @ (q - t.correction * k), S


def rwkv7(t, S, head, memory):
  w, a = np.exp(-np.exp(-0.5) * sigmoid(t.decay)), sigmoid(t.rate)
  kappa, key = unit(t.k * t.remove), t.k * (1 + (a - 1) * t.replace)
  S = (np.diag(w) - np.outer(a * kappa, kappa)) @ S + np.outer(key, t.v)
  return S.T @ t.r + (t.r @ (t.bonus * key)) * t.v, S


# Shapes of tokens a head, then of parameters a head. Names tell the range.
TOKEN, KEY, VALUE = (), (K,), (V,)
QKV = {"q": KEY, "k": KEY, "v": VALUE}
WRITES = {"q": KEY, "k": (STEPS, K), "v": (STEPS, V), "beta": (STEPS,)}
UNITS = {"scale": 1.0}  # the papers of delta rules have no scale
CASES = {
  "linear": (additive.linear, linear, QKV, {}, UNITS),
  "linear_normalised": (
    additive.linear,
    linear_normalised,
    QKV,
    {},
    UNITS | {"normalised": True},
  ),
  "retnet": (additive.retention, retention, QKV, {}, UNITS),
  "mamba2": (
    additive.mamba2,
    mamba2,
    {"c": KEY, "b": KEY, "x": VALUE, "dt": TOKEN},
    {"rate": (), "skip": ()},
    {},
  ),
  "mamba3": (
    additive.mamba3,
    mamba3,
    {"c": (7,), "b": (7,), "x": VALUE}
    | {"g": TOKEN, "dt": TOKEN, "trapezoid": TOKEN, "angle": (3,)},
    {"skip": ()},
    {},
  ),
  "gla": (additive.gla, gla, QKV | {"gate": KEY}, {}, UNITS),
  "hgrn2": (
    additive.hgrn2,
    hgrn2,
    {"q": KEY, "forget": KEY, "v": VALUE},
    {},
    {},
  ),
  "rwkv6": (
    additive.rwkv6,
    rwkv6,
    {"r": KEY, "k": KEY, "v": VALUE, "decay": KEY},
    {"bonus": KEY},
    {},
  ),
  "deltanet": (delta.deltanet, gated_delta, QKV | {"beta": TOKEN}, {}, UNITS),
  "deltanet_negative": (
    delta.deltanet,
    gated_delta,
    QKV | {"beta": TOKEN},
    {},
    UNITS,
  ),
  "gated_deltanet": (
    delta.deltanet,
    gated_delta,
    QKV | {"beta": TOKEN, "g": TOKEN},
    {},
    UNITS,
  ),
  "kda": (
    delta.deltanet,
    gated_delta,
    QKV | {"beta": TOKEN, "g": KEY},
    {},
    UNITS,
  ),
  "gdn2": (
    delta.gdn2,
    gdn2,
    QKV | {"erase": KEY, "write": VALUE, "g": KEY},
    {},
    UNITS,
  ),
  "deltaproduct": (delta.deltaproduct, deltaproduct, WRITES, {}, UNITS),
  "gated_deltaproduct": (
    delta.deltaproduct,
    deltaproduct,
    WRITES | {"g": TOKEN},
    {},
    UNITS,
  ),
  "comba": (
    dplr.comba,
    comba,
    QKV | {"beta": TOKEN, "g": TOKEN},
    {"feedback": (), "correction": ()},
    UNITS,
  ),
  "rwkv7": (
    dplr.rwkv7,
    rwkv7,
    {"r": KEY, "k": KEY, "v": VALUE, "decay": KEY, "rate": KEY},
    {"remove": KEY, "replace": KEY, "bonus": KEY},
    {},
  ),
}
SHARES = ("beta", "forget", "erase", "write", "feedback")


def stepped(shape):
  """Whether a token has several: [batch, time, STEPS, heads, ...]."""
  return shape[:1] == (STEPS,)


def draw(name, tokens, parameters):
  """Draws float64 arguments that float32 holds exactly."""
  rng = np.random.default_rng(len(name))
  shapes = {key: (HEADS, *shape) for key, shape in parameters.items()}
  for key, shape in tokens.items():
    tail = (STEPS, HEADS, *shape[1:]) if stepped(shape) else (HEADS, *shape)
    shapes[key] = (BATCH, TIME, *tail)
  largest = 2 if "negative" in name or "product" in name else 1
  out = {}
  for key, shape in shapes.items():
    y = rng.standard_normal(shape)
    if key in SHARES:
      y = largest * sigmoid(y)
    elif key == "g":
      y = -softplus(y)
    elif "mamba" in name and key in ("dt", "rate"):
      y = softplus(y)
    out[key] = y.astype(np.float32).astype(np.float64)
  return out


def token(args, tokens, parameters, row, time, head):
  """Returns one head's token and parameters, by name."""
  found = {key: args[key][head] for key in parameters}
  for key, shape in tokens.items():
    at = np.s_[:, head] if stepped(shape) else head
    found[key] = args[key][row, time][at]
  return types.SimpleNamespace(**found, position=time)


def published(step, args, tokens, parameters, initial):
  """Returns outputs and final state of the recurrence, token by token."""
  outs, states = [], np.zeros_like(initial)
  for row in range(BATCH):
    for head in range(HEADS):
      S, memory = initial[row, head], {}
      for time in range(TIME):
        t = token(args, tokens, parameters, row, time, head)
        if time and SEGMENTS[row, time] != SEGMENTS[row, time - 1]:
          S, memory = np.zeros_like(S), {"angle": memory.get("angle", 0)}
        out, S = step(t, S, head, memory)
        outs.append(out)
      states[row, head] = S
  outs = np.reshape(outs, (BATCH, HEADS, TIME, -1)).swapaxes(1, 2)
  return outs, states


def close(actual, wanted):
  scale = np.max(np.abs(wanted))
  np.testing.assert_allclose(actual, wanted, rtol=0, atol=FLOAT32 * scale)


@functools.partial(
  jax.jit, static_argnums=(0, 1), compiler_options=FAST_COMPILE
)
def run(function, options, args, initial):
  return function(
    **args,
    initial_state=initial,
    segment_ids=jnp.asarray(SEGMENTS),
    chunk_size=4,
    **dict(options),
  )


@pytest.mark.parametrize("name", CASES)
def test_parameterisation_is_the_published_recurrence(name):
  function, step, tokens, parameters, options = CASES[name]
  args = draw(name, tokens, parameters)
  width = tokens.get("b", KEY)[0]
  value = V + ("normalised" in options)
  rng = np.random.default_rng(1)
  initial = rng.standard_normal((BATCH, HEADS, width, value))
  initial = initial.astype(np.float32).astype(np.float64)

  single = jax.tree.map(lambda y: jnp.asarray(y, jnp.float32), args)
  out, state, *_ = run(
    function, tuple(options.items()), single, jnp.float32(initial)
  )
  wanted, final = published(step, args, tokens, parameters, initial)
  assert out.dtype == state.dtype == jnp.float32
  close(out, wanted)
  close(state, final)
