"""Runs a mixer token by token."""

import jax


def decoded(mixer, x, ctx):
  """Returns y [batch, time, dim] as `step` makes it, one token at a time."""

  def step(state, token):
    y, state = mixer.step(token, state, ctx)
    return state, y

  start = mixer.init_state(x.shape[0])
  return jax.lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1)
