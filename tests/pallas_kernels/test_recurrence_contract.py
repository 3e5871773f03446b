"""What callers of the recurrences rely on, whatever computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrences_kit import (
  FLOAT32,
  FORMS,
  OPERATORS,
  SEGMENTS,
  check,
  draw,
  equations,
  pairs,
  run,
  run_compiled,
  run_with_gradients,
  single,
)

from pallas_kernels.delta_rule import (
  delta_rule,
  gated_delta_rule,
  gated_step,
)


@pytest.mark.parametrize(("operator", "decay"), pairs())
def test_halves_with_passed_state_equal_the_whole(operator, decay):
  args = single(draw(operator, 4, decay=decay, time=50))
  whole, last = run_compiled(operator, args)
  timed = set(args) - {"initial_state"}
  early = {n: x[:, :21] if n in timed else x for n, x in args.items()}
  late = {n: x[:, 21:] if n in timed else x for n, x in args.items()}
  first, state = run_compiled(operator, early)
  second, end = run_compiled(operator, late | {"initial_state": state})
  joined = np.concatenate([first, second], axis=1)
  np.testing.assert_allclose(joined, whole, atol=FLOAT32)
  np.testing.assert_allclose(end, last, atol=FLOAT32)


@pytest.mark.parametrize(("operator", "decay"), pairs())
def test_steps_equal_the_whole(operator, decay):
  args = single(draw(operator, 5, decay=decay, time=19))
  whole, last = run_compiled(operator, args)
  state = args["initial_state"]

  @jax.jit
  def step(token, state):
    _, function, names = FORMS[operator]
    tokens = (token[name] for name in names)
    return function(*tokens, token.get("g"), state=state)

  for t in range(19):
    token = {n: x[:, t] for n, x in args.items() if n != "initial_state"}
    out, state = step(token, state)
    np.testing.assert_allclose(out, whole[:, t], atol=FLOAT32)
  np.testing.assert_allclose(state, last, atol=FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_future_tokens_change_nothing(operator):
  """Not a bit where a reference token lies between key and reader.

  Where tokens share one, what it is changes how those before it are rounded.
  """
  args = single(draw(operator, 6, decay="vector", time=37))
  changed = {
    n: x if n == "initial_state" else x.at[:, 23:].multiply(0.5)
    for n, x in args.items()
  }
  between = jax.jit(lambda args: run(operator, args, sub_chunk=1)[0])
  out, other = between(args), between(changed)
  np.testing.assert_array_equal(out[:, :23], other[:, :23])
  assert np.max(np.abs(out[:, 23:] - other[:, 23:])) > 1e-3
  out, other = (run_compiled(operator, x)[0] for x in (args, changed))
  np.testing.assert_allclose(out[:, :23], other[:, :23], atol=FLOAT32 / 4)


@pytest.mark.slow
def test_gated_delta_rule_is_the_delta_rule_with_beta():
  args = single(draw("delta_rule", 7))
  q, k, v, g = (args[name] for name in "qkvg")
  beta = jax.nn.sigmoid(q[..., 0])
  out, state = gated_delta_rule(q, k, v, beta, g, scale=1.0)
  rate = beta[..., None]
  want, want_state = delta_rule(
    q, k, rate * v, rate * k, g, scale=1.0, implementation="reference"
  )
  np.testing.assert_allclose(out, want, atol=FLOAT32)
  np.testing.assert_allclose(state, want_state, atol=FLOAT32)
  token = [x[:, 0] for x in (q, k, v, beta, g)]
  first, _ = gated_step(*token, state=jnp.zeros_like(state), scale=1.0)
  np.testing.assert_allclose(first, out[:, 0], atol=FLOAT32)
  with pytest.raises(ValueError, match="beta must have shape"):
    gated_delta_rule(q, k, v, q, g)


@pytest.mark.parametrize(("operator", "decay"), pairs("scalar", "vector"))
def test_a_decay_of_zero_forgets_everything(operator, decay):
  args = single(draw(operator, 10, decay=decay))
  args["g"] = args["g"].at[:, 11].set(-jnp.inf)
  out, grads = run_with_gradients(operator, args, "xla", 16)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((out, grads)))
  changed = {
    n: x if n == "initial_state" else x[:, 11:] for n, x in args.items()
  }
  changed["initial_state"] = 0 * args["initial_state"]
  if operator == "dplr_delta_rule":  # p reads before the decay: not everything
    want = run(operator, args, "reference")[0][:, 11:]
  else:
    want, _ = run_compiled(operator, changed)
  np.testing.assert_allclose(out[0][:, 11:], want, atol=FLOAT32)


@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
def test_a_key_head_serves_a_group_of_value_heads(implementation):
  args = single(draw("delta_rule", 14, heads=4, time=20))
  few = {n: args[n][:, :, ::2] for n in "qkp"}
  got, dfew = run_with_gradients("delta_rule", args | few, implementation, 16)
  many = {n: jnp.repeat(x, 2, 2) for n, x in few.items()}
  want, dmany = run_with_gradients("delta_rule", args | many, "reference", 16)
  check(got, want, FLOAT32)
  # A head's gradient is the sum of those of its copies.
  summed = {
    n: x.reshape(*x.shape[:2], 2, 2, -1).sum(3) if n in few else x
    for n, x in dmany.items()
  }
  check(dfew, jax.tree.map(np.asarray, summed), FLOAT32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_step_shares_key_heads_as_the_whole_does(operator):
  _, step, names = FORMS[operator]
  args = single(draw(operator, 16, heads=4, time=1))
  few = {n: x[:, :, ::2] for n, x in args.items() if n in names and n != "v"}
  args |= few
  want, last = run(operator, args)
  token = [args[name][:, 0] for name in names]
  out, state = step(*token, args["g"][:, 0], state=args["initial_state"])
  np.testing.assert_allclose(out, want[:, 0], atol=FLOAT32)
  np.testing.assert_allclose(state, last, atol=FLOAT32)
  token[0] = jnp.repeat(token[0], 3, 1)[:, :3]  # of 4 heads 3 are no divisor
  with pytest.raises(ValueError, match="q must have shape"):
    step(*token, state=args["initial_state"])


@pytest.mark.parametrize("operator", [*OPERATORS, "gated_delta_rule"])
def test_a_step_honours_the_options_of_the_whole(operator):
  """A promised bound raises a stronger decay, and it does so in decoding."""
  if operator == "gated_delta_rule":
    function, step, names = gated_delta_rule, gated_step, "qkv"
  else:
    function, step, names = FORMS[operator]
  args = single(draw("dplr_delta_rule", 17, time=1, decay="vector"))
  tokens = [args[name] for name in names]
  if operator == "gated_delta_rule":
    tokens.append(jax.nn.sigmoid(args["q"][..., 0]))
  tokens.append(30 * args["g"])
  options = {"min_log_decay": -5.0, "scale": 0.7}
  start = args["initial_state"]
  want, last = function(*tokens, initial_state=start, **options)
  out, state = step(*(x[:, 0] for x in tokens), state=start, **options)
  np.testing.assert_allclose(out, want[:, 0], atol=FLOAT32)
  np.testing.assert_allclose(state, last, atol=FLOAT32)
  with pytest.raises(ValueError, match="min_log_decay must be in"):
    step(*(x[:, 0] for x in tokens), state=start, min_log_decay=1.0)
  with pytest.raises(ValueError, match="a step takes tokens"):
    step(*tokens, state=start)


@pytest.mark.parametrize(("operator", "decay"), pairs())
def test_the_recurrence_of_packed_rows_is_that_of_each_sequence(
  operator, decay
):
  args = single(draw(operator, 11, decay=decay))
  ids = jnp.asarray(SEGMENTS)
  out, last = run(operator, args, "reference", segment_ids=ids)
  state = args.pop("initial_state")
  for begin, end in ((0, 3), (3, 4), (4, 18), (18, 37)):
    part = {name: x[:, begin:end] for name, x in args.items()}
    want, state = run(operator, part, "reference", initial_state=state)
    np.testing.assert_allclose(out[:, begin:end], want, atol=FLOAT32)
    final, state = state, jnp.zeros_like(state)
  np.testing.assert_allclose(last, final, atol=FLOAT32)


def test_scale_defaults_to_the_inverse_root_of_the_key_dim():
  args = single(draw("linear_attention", 8))
  out, _ = run("linear_attention", args)
  unscaled, _ = run("linear_attention", args, scale=1.0)
  np.testing.assert_allclose(out, unscaled / np.sqrt(8), atol=FLOAT32)


@pytest.mark.parametrize(
  ("operator", "key_dim", "target", "chunk"),
  [
    ("linear_attention", 8, "cpu", 32),
    ("delta_rule", 8, "cpu", 16),
    ("delta_rule", 64, "cpu", 32),
    ("linear_attention", 8, "gpu", 64),
    ("delta_rule", 8, "tpu", 64),
  ],
)
def test_the_xla_form_cuts_chunks_that_suit_it(
  operator, key_dim, target, chunk
):
  args = single(draw(operator, 8, time=128, key_dim=key_dim))

  def forward(args):
    return run(operator, args, "xla", target=target)

  (scan,) = equations(jax.make_jaxpr(forward)(args).jaxpr, "scan")
  assert scan.params["length"] == 128 // chunk


@pytest.mark.parametrize("operator", OPERATORS)
def test_arguments_that_do_not_fit_are_refused(operator):
  args = single(draw(operator, 9))
  with pytest.raises(ValueError, match="unknown implementation"):
    run(operator, args, "cuda")
  with pytest.raises(ValueError, match="target 'tpuv5' is not one of"):
    run(operator, args, target="tpuv5")
  with pytest.raises(ValueError, match="segment_ids must have shape"):
    run(operator, args, segment_ids=jnp.zeros((2, 36), int))
  with pytest.raises(ValueError, match="power of two"):
    run(operator, args, chunk_size=12)
  with pytest.raises(ValueError, match="sub_chunk must be a power of two up"):
    run(operator, args, sub_chunk=8)
  with pytest.raises(ValueError, match="min_log_decay must be in"):
    run(operator, args, min_log_decay=-31.0)
  with pytest.raises(ValueError, match="block_heads must be at least 1"):
    run(operator, args, block_heads=0)
  with pytest.raises(ValueError, match="k must have shape"):
    run(operator, args | {"k": args["k"][:, :5]})
  with pytest.raises(ValueError, match="g must be"):
    run(operator, args | {"g": args["g"][..., :1]})
  with pytest.raises(ValueError, match="initial_state must have shape"):
    run(operator, args | {"initial_state": args["initial_state"][:1]})
  with pytest.raises(TypeError, match="v must be floating"):
    run(operator, args | {"v": args["v"].astype(int)})


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_policy_saves_what_backward_needs_by_name(operator):
  args = single(draw(operator, 18, batch=1, time=20))

  def passes(policy):
    """Counts the passes over chunks of a value and its gradients."""
    run_kept = jax.checkpoint(
      lambda args: run(operator, args, "xla")[0], policy=policy
    )
    grad = jax.grad(lambda args: jnp.sum(run_kept(args) ** 2))
    return len(list(equations(jax.make_jaxpr(grad)(args).jaxpr, "scan")))

  only = jax.checkpoint_policies.save_only_these_names
  assert passes(only(f"{operator}_saved")) == 2
  assert passes(only("of_another_operator")) == 3
