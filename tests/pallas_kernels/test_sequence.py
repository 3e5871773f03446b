"""Time split over devices: the same recurrence, by exchanging transitions."""

import os
import pathlib
import subprocess
import sys

import pytest

_FOUR = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from pallas_kernels.delta_rule import gated_delta_rule
from pallas_kernels.dplr_delta_rule import dplr_delta_rule
from pallas_kernels.linear_attention import linear_attention
from pallas_kernels.shared.sequence import conv_over_shards, over_shards
from pallas_kernels.short_conv import short_conv

mesh = jax.make_mesh((4,), ("time",), axis_types=(AxisType.Auto,))
rng = np.random.default_rng(0)
B, T, H, K, V = 2, 24, 2, 5, 3
draw = lambda *s: jnp.asarray(rng.standard_normal((B, T, H, *s)), jnp.float32)
unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
q, k, v = unit(draw(K)), unit(draw(K)), draw(V)
beta, g, G = jax.nn.sigmoid(draw()), -jnp.abs(draw()), -jnp.abs(draw(K))
start = jnp.asarray(rng.standard_normal((B, H, K, V)), jnp.float32)
# The second row begins sequences within shards and at a border of one.
ids = jnp.asarray(np.repeat([[0, 0, 0, 0], [0, 1, 2, 3]], [4, 8, 6, 6], axis=1))
cases = {
  "linear": (linear_attention, (q, k, v, G)),
  "delta": (gated_delta_rule, (q, k, v, beta, g)),
  "dplr": (dplr_delta_rule, (q, k, v, -k, beta[..., None] * unit(q + k), G)),
}
for name, (operator, args) in cases.items():
  for segments in (None, ids):
    more = () if segments is None else (segments,)

    def whole(start, *args, operator=operator, more=more):
      return operator(*args, initial_state=start,
                      segment_ids=more[0] if more else None, chunk_size=4)

    def split(start, *args, operator=operator, more=more):
      def local(start, *rest):
        ids = rest[len(args):]
        return over_shards(operator, "time")(
          *rest[: len(args)], initial_state=start,
          segment_ids=ids[0] if ids else None, chunk_size=4)
      time = P(None, "time")
      return jax.shard_map(
        local, mesh=mesh, in_specs=(P(),) + (time,) * (len(args) + len(more)),
        out_specs=(time, P()), check_vma=False)(start, *args, *more)

    def loss(f):
      def value(*args):
        out, last = f(*args)
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(last)), (out, last)
      names = tuple(range(len(args) + 1))
      return jax.jit(jax.grad(value, names, has_aux=True))

    want = loss(whole)(start, *args)
    got = loss(split)(start, *args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)

x, weight, past = draw()[..., 0], draw()[0, :4], draw()[:, :3, 0]
x = jnp.stack([x, -x * x], -1)
past = jnp.stack([past, past * past], -1)
for segments in (None, ids):
  for width in (2, 4):
    def sharded(past, x, weight, *ids):
      def local(past, x, weight, *ids):
        return conv_over_shards(short_conv, "time")(
          x, weight, initial_state=past, segment_ids=ids[0] if ids else None)
      time = P(None, "time")
      return jax.shard_map(
        local, mesh=mesh, in_specs=(P(), time, P()) + (time,) * len(ids),
        out_specs=(time, P()), check_vma=False)(past, x, weight, *ids)

    def alone(past, x, weight, *ids):
      return short_conv(
        x, weight, initial_state=past, segment_ids=ids[0] if ids else None)

    def loss(f, *more):
      def value(*args):
        out, last = f(*args, *more)
        return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(last)), (out, last)
      return jax.jit(jax.grad(value, (0, 1, 2), has_aux=True))

    args = past[:, :width - 1], x, weight[:width]
    more = () if segments is None else (segments,)
    want, got = loss(alone, *more)(*args), loss(sharded, *more)(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5, err_msg="short_conv")
try:
  loss(sharded)(jnp.zeros((B, 7, 2)), x, jnp.ones((8, 2)))
except ValueError as error:
  assert "Split time over fewer devices" in str(error)
else:
  raise AssertionError("6 tokens do not reach 7 back")
print("equal")
"""


@pytest.mark.slow
def test_four_devices_along_time_compute_what_one_does():
  flags = os.environ.get("XLA_FLAGS", "")
  root = pathlib.Path(__file__).resolve().parents[2]
  done = subprocess.run(
    [sys.executable, "-c", _FOUR],
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
    },
    cwd=root,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
