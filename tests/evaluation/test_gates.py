import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stablehlo_of import stablehlo_of

from asi_evolve_jax.evaluation import gates
from asi_evolve_jax.evaluation.cost import Cost
from asi_evolve_jax.evaluation.cost import cost as module_cost
from asi_evolve_jax.evaluation.gates import Gate, Rejected

BATCH, TIME, DIM, CHUNK = 4, 24, 6, 8
CUTS = range(1, TIME)


@pytest.fixture
def inputs():
  rng = np.random.default_rng(0)
  shape = (2, BATCH, TIME, DIM)
  return rng.standard_normal(shape).astype(np.float32)


def function(f):
  @jax.jit
  def both(x, dy):
    y, pull = jax.vjp(f, x)
    return y, *pull(dy)

  return lambda x, dy: tuple(map(np.asarray, both(x, dy)))


def padded(x, left, right):
  y = jnp.pad(x, ((0, 0), (left, right), (0, 0)))
  return sum(y[:, i : i + x.shape[1]] for i in range(3))


def stopped_leak(x):
  # Its gradient says nothing: only the values do.
  return x + jax.lax.stop_gradient(jnp.roll(x, -1, axis=1))


@jax.custom_jvp
def _zero(x):
  return 0.0 * x


@_zero.defjvp
def _zero_jvp(primals, tangents):
  return _zero(*primals), tangents[0]


def hidden_leak(x):
  # Its values say nothing: only the gradient does.
  return x + _zero(jnp.flip(x, axis=1))


def chunk_mean(x):
  b, t, d = x.shape
  mean = x.reshape(b, t // CHUNK, CHUNK, d).mean(axis=2, keepdims=True)
  return (mean * jnp.ones((CHUNK, 1))).reshape(b, t, d)


def previous_chunk_mean(x):
  return jnp.pad(chunk_mean(x), ((0, 0), (CHUNK, 0), (0, 0)))[:, : x.shape[1]]


def softmax(mask_future):
  def f(x):
    scores = jnp.einsum("btd,bsd->bts", x, x)
    if mask_future:
      scores = jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ x

  return f


@pytest.mark.parametrize(
  ("bad", "near"),
  [
    (
      lambda x: jnp.flip(jnp.cumsum(jnp.flip(x, 1), 1), 1),
      lambda x: jnp.cumsum(x, 1),
    ),
    (lambda x: padded(x, 1, 1), lambda x: padded(x, 2, 0)),
    (
      lambda x: x - x.mean(axis=1, keepdims=True),
      lambda x: x - x.mean(axis=2, keepdims=True),
    ),
    (chunk_mean, previous_chunk_mean),
    (softmax(False), softmax(True)),
    (stopped_leak, lambda x: x + jax.lax.stop_gradient(x)),
    (hidden_leak, lambda x: x + _zero(x)),
    (
      lambda x: x.at[:, -2].add(1e-2 * x[:, -1]),
      lambda x: x.at[:, -1].add(1e-2 * x[:, -2]),
    ),
  ],
  ids=[
    "reversed scan",
    "padding on the wrong side",
    "mean over time",
    "mean over a chunk",
    "no mask",
    "stopped gradient",
    "gradient alone",
    "last token alone",
  ],
)
def test_causality(inputs, bad, near):
  gates.check_causality(function(near), *inputs, CUTS)
  with pytest.raises(Rejected, match="position"):
    gates.check_causality(function(bad), *inputs, CUTS)


def test_causality_forgives_rounding_and_no_more(inputs):
  x, other = inputs

  def shifted(by):
    # As if a sum over all tokens were subtracted again.
    return lambda x: x + by * jnp.sum(x, axis=1, keepdims=True)

  gates.check_causality(function(shifted(1e-7)), x, other, CUTS)
  with pytest.raises(Rejected):
    gates.check_causality(function(shifted(1e-4)), x, other, CUTS)


def test_causality_with_one_sequence(inputs):
  x, other = inputs[:, :1]
  gates.check_causality(function(lambda x: jnp.cumsum(x, 1)), x, other, CUTS)
  with pytest.raises(Rejected, match=r"position 2[0-9] "):
    gates.check_causality(
      function(lambda x: x.at[:, -2].add(x[:, -1])), x, other, CUTS
    )


def test_causality_refuses_nan(inputs):
  with pytest.raises(Rejected):
    gates.check_causality(function(lambda x: x / (x - x)), *inputs, CUTS)


def test_causality_in_half_precision(inputs):
  x, other = inputs.astype(jnp.bfloat16)
  share = jnp.bfloat16(0.25)
  gates.check_causality(
    function(lambda x: x + share * jnp.roll(x, 1, 1).at[:, 0].set(0)),
    *(x, other, CUTS),
  )
  with pytest.raises(Rejected, match="changed the result"):
    gates.check_causality(
      function(lambda x: x + share * jnp.roll(x, -1, 1)), x, other, CUTS
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_causality_of_a_trained_model(rows):
  text = np.random.default_rng(0).integers(0, 256, (rows, TIME))

  def check(forward, eps=2.0**-23):
    gates.check_trained_causality(forward, text, CUTS, eps)

  check(lambda tokens: np.cumsum(tokens, 1) / 255)
  check(lambda tokens: 255 + 1e-6 * tokens.sum(1, keepdims=True) / 255)
  with pytest.raises(Rejected, match=r"from position 2\d on .* position 2\d"):
    check(lambda tokens: np.where(np.arange(TIME) == 22, tokens[:, -1:], 1.0))
  with pytest.raises(Rejected, match="by nan"):
    check(lambda tokens: tokens * np.nan)


def test_cuts_are_everywhere_or_cannot_be_foreseen(inputs):
  def drawn(most, seed):
    return gates.draw_cuts(TIME, most, np.random.default_rng(seed))

  assert drawn(TIME, 0) == tuple(range(1, TIME))
  assert gates.draw_cuts(2, 8, np.random.default_rng(0)) == (1,)
  some, others = drawn(8, 0), drawn(8, 1)
  assert len(set(some)) == len(set(others)) == 8
  assert set(some) != set(others)
  assert set(some + others) < set(range(1, TIME))
  # One step ahead, but not across the cuts that its author expects.
  blind = np.isin(np.arange(TIME) + 1, [*some, TIME])[:, None]
  run = function(lambda x: x + jnp.where(blind, 0, jnp.roll(x, -1, 1)))
  gates.check_causality(run, *inputs, some)
  with pytest.raises(Rejected, match="position"):
    gates.check_causality(run, *inputs, others)


@pytest.mark.parametrize(
  ("bad", "near"),
  [
    (
      lambda x: x - x.mean(axis=0),
      lambda x: x - x.mean(axis=-1, keepdims=True),
    ),
    (
      lambda x: x.reshape(-1, DIM).cumsum(0).reshape(x.shape),
      lambda x: x.reshape(-1, DIM).cumsum(1).reshape(x.shape),
    ),
    (
      lambda x: jnp.flip(jnp.flip(x, 0).cumsum(0), 0),
      lambda x: jnp.flip(jnp.flip(x, 1).cumsum(1), 1),
    ),
    (lambda x: x.at[1].add(x[2]), lambda x: x.at[1].add(x[1])),
    (lambda x: x.at[3].add(x[2]), lambda x: x.at[3].add(x[3])),
  ],
  ids=[
    "batch statistic",
    "sequences run together",
    "sequences behind it",
    "the next sequence",
    "the sequence before",
  ],
)
def test_batch_independence(inputs, bad, near):
  gates.check_batch_independence(jax.jit(near), *inputs)
  with pytest.raises(Rejected, match="axis 0"):
    gates.check_batch_independence(jax.jit(bad), *inputs)


@pytest.mark.parametrize(
  ("bad", "near"),
  [
    (lambda x: jnp.sqrt(x * x), lambda x: jnp.sqrt(x * x + 1e-6)),
    (
      lambda x: jnp.where(x == 0, 0.0, jnp.sin(x) / x),
      lambda x: jnp.where(x == 0, 0.0, jnp.sin(x) / jnp.where(x == 0, 1.0, x)),
    ),
    (lambda x: jnp.exp(4 * x * x), lambda x: jnp.exp(-4 * x * x)),
  ],
  ids=["root of zero", "where around a NaN", "overflow"],
)
def test_finite(inputs, bad, near):
  x = inputs[0]

  def run(f):
    def both(x):
      y, pull = jax.vjp(f, x)
      return {
        "the result": np.asarray(y),
        "the gradient": np.asarray(pull(jnp.ones_like(y))[0]),
      }

    return both

  kinds = {"large inputs": 10 * x, "zeros": np.zeros_like(x)}
  gates.check_finite(run(near), kinds)
  with pytest.raises(Rejected, match=r"not finite .* for (zeros|large inputs)"):
    gates.check_finite(run(bad), kinds)


def all_pairs_in_a_scan(x):
  # Looks linear to an analysis that counts the body of a loop once.
  return jax.lax.scan(lambda c, row: (c, (x @ row).sum()), 0.0, x)[1]


def window_in_a_scan(x):
  def step(window, row):
    window = jnp.concatenate([window[1:], row[None]])
    return window, (window @ row).sum()

  return jax.lax.scan(step, x[:8], x)[1]


def quadratic_backward(x):
  @jax.custom_vjp
  def f(x):
    return jnp.sum(x, axis=1)

  f.defvjp(lambda x: (f(x), x), lambda x, ct: (x @ x.T @ x * ct[:, None],))
  return jax.vjp(f, x)[1](jnp.ones(x.shape[0]))


@pytest.mark.parametrize(
  ("bad", "near"),
  [
    (lambda x: jax.nn.softmax(x @ x.T) @ x, lambda x: x @ (x.T @ x)),
    (all_pairs_in_a_scan, window_in_a_scan),
    (quadratic_backward, lambda x: jax.grad(lambda x: (x**2).sum())(x)),
    (
      lambda x: jnp.sort(jnp.repeat(x, x.shape[0], axis=0), axis=0),
      lambda x: jax.lax.associative_scan(jnp.add, x),
    ),
  ],
  ids=["attention", "hidden in a scan", "in the derivative", "T log T passes"],
)
def test_growth(bad, near):
  times = (64, 128, 256)

  def costs(f):
    shapes = [jax.ShapeDtypeStruct((t, 8), jnp.float32) for t in times]
    return [module_cost(stablehlo_of(f, shape)) for shape in shapes]

  gates.check_growth(costs(near), times)
  with pytest.raises(Rejected, match=r"grow with a factor of [34]\."):
    gates.check_growth(costs(bad), times)


def test_the_same_work_at_every_length():
  times = (128, 256)

  def check(f, time):
    costs = [Cost(flops=f(t), bytes=f(t)) for t in times]
    gates.check_same_cost(
      Cost(flops=f(time), bytes=f(time)), time, costs, times
    )

  for honest in (
    lambda t: 1000 + 8 * t,
    lambda t: 8 * t * np.log2(t),
    lambda t: 8 * 32 * -(-t // 32),
  ):
    for time in (32, 96, 512):
      check(honest, time)
  for dishonest in (
    lambda t: 8 * t if t in times else 8 * t * (1 + t / 64),
    lambda t: 8 * t if t in times else 12 * t,
  ):
    for time in (32, 96, 512):
      with pytest.raises(Rejected, match=f"at length {time} it takes"):
        check(dishonest, time)


def test_judge_stops_at_the_first_refusal():
  ran = []

  def gate(name, error=None):
    def run():
      ran.append(name)
      if error:
        raise error

    return Gate(name, "", run)

  verdict = gates.judge([gate("a"), gate("b")], str)
  assert verdict.passed
  assert set(verdict.seconds) == {"a", "b"}
  ran.clear()
  verdict = gates.judge(
    [gate("a"), gate("b", Rejected("change it")), gate("c")], str
  )
  assert (verdict.gate, verdict.message, ran) == ("b", "change it", ["a", "b"])
  for error in (TypeError("its own"), SystemExit(0)):
    verdict = gates.judge([gate("a", error)], lambda e: type(e).__name__)
    assert verdict.message == type(error).__name__
    assert not verdict.passed
