"""Ways to cheat or to go wrong, each with a near miss that is all right.

Every one is a change of one good mixer; `program` puts them into its source,
one or many at a time.
"""

import dataclasses

from mixer_sources import GOOD, spoil

_RETURN = "    return y.astype(x.dtype)\n"
_INIT = "    self.gain ="
_CLASS = "class TokenMixer"


@dataclasses.dataclass(frozen=True)
class Control:
  """One way to cheat.

  Attributes:
    gate: that must refuse it.
    message: what that says, a pattern.
    bad, near: lines of __call__ that change y.
    top: lines of the module that both need.
    init: lines of the constructor that both need.
    bad_init, near_init: a line of it that the one or the other needs.
  """

  gate: str
  message: str
  bad: str
  near: str
  top: str = ""
  init: str = ""
  bad_init: str = ""
  near_init: str = ""


def program(*edits: tuple[Control, str]) -> str:
  """Returns a source with edits, each a control and its `bad` or `near`."""
  controls = [control for control, _ in edits]
  top = "".join(c.top for c in dict.fromkeys(controls))
  init = "".join(
    f"    {line}\n"
    for c, text in edits
    for line in (c.init, c.bad_init if text == c.bad else c.near_init)
    if line
  )
  call = "".join(
    f"    {line}\n" for _, text in edits for line in text.splitlines()
  )
  source = spoil(_RETURN, f"{call}{_RETURN}")
  source = spoil(_INIT, f"{init}{_INIT}", source)
  return spoil(_CLASS, f"{top}\n\n{_CLASS}", source)


_LEAK = "changed the result|has a gradient"

CONTROLS = {
  "reversed scan": Control(
    "causality",
    _LEAK,
    "y = y + jax.lax.cumsum(v, axis=1, reverse=True)",
    "y = y + jax.lax.cumsum(v, axis=1)",
  ),
  "convolution padded on the wrong side": Control(
    "causality",
    _LEAK,
    "y = y + sum(taps(v, (1, 1)))",
    "y = y + sum(taps(v, (2, 0)))",
    top=(
      "def taps(v, around):\n"
      "  padded = jnp.pad(v, ((0, 0), around, (0, 0)))\n"
      "  return [padded[:, i : i + v.shape[1]] for i in range(3)]\n"
    ),
  ),
  "mean over time": Control(
    "causality",
    _LEAK,
    "y = y - v.mean(axis=1, keepdims=True)",
    "y = y - v.mean(axis=2, keepdims=True)",
  ),
  "leak through the gradient alone": Control(
    "causality",
    "has a gradient",
    "y = y + nothing(jnp.flip(v, 1))",
    "y = y + 0 * jnp.flip(jnp.flip(v, 1), 1)",
    top=(
      "@jax.custom_jvp\n"
      "def nothing(v):\n"
      "  return 0 * v\n\n\n"
      "nothing.defjvp(lambda p, t: (nothing(*p), t[0]))\n"
    ),
  ),
  # Whoever draws from a state is caught before a second call is compared.
  "noise from a state": Control(
    "export",
    "stablehlo.rng",
    "y = y + jax.lax.rng_uniform(0.0, 1e-3, y.shape)",
    "y = y + 1e-3 * jax.random.normal(jax.random.key(0), (d,))",
  ),
  # At the places where it was once cut, and nowhere else, it looks honest.
  "one step ahead between cuts": Control(
    "causality",
    _LEAK,
    "ends = jnp.isin(jnp.arange(t) + 1, jnp.array([1, 7, 8, 9, 15, 16, 20, 31,"
    " t]))\n"
    "y = y + jnp.where(ends[:, None], 0, jnp.roll(v, -1, 1))",
    "y = y + jnp.where(jnp.arange(t)[:, None] == 0, 0, jnp.roll(v, 1, 1))",
  ),
  "sequences behind it in the batch": Control(
    "batch",
    "axis 0",
    "y = y + jnp.flip(jnp.cumsum(jnp.flip(v, 0), 0), 0)",
    "y = y + jnp.flip(jnp.cumsum(jnp.flip(v, 2), 2), 2)",
  ),
  "batch statistic in one layer": Control(
    "batch",
    "at depth 0: .*axis 0",
    "y = y * jnp.where(ctx.depth == 0.5, 1, jnp.square(v).mean((0, 2))[:, None]"
    ")",
    "y = y * jnp.where(ctx.depth == 0.5, 1, 1 + jnp.square(v))",
  ),
  "batch statistic": Control(
    "batch",
    "axis 0",
    "y = y / (1 + jnp.square(v).mean(axis=(0, 2), keepdims=True))",
    "y = y / (1 + jnp.square(v).mean(axis=2, keepdims=True))",
  ),
  "all pairs in a scan": Control(
    "cost",
    r"grow with a factor of",
    "_, seen = jax.lax.scan(\n"
    "  lambda c, row: (c, jnp.tanh(v * row[:, None]).mean((1, 2))),\n"
    "  0, v.swapaxes(0, 1)\n"
    ")\n"
    "y = y + 0 * jax.lax.stop_gradient(seen).T[..., None]",
    "_, seen = jax.lax.scan(\n"
    "  lambda c, row: (c, jnp.tanh(v[:, :8] * row[:, None]).mean((1, 2))),\n"
    "  0, v.swapaxes(0, 1)\n"
    ")\n"
    "y = y + 0 * jax.lax.stop_gradient(seen).T[..., None]",
  ),
  "work hidden in a Pallas body": Control(
    "cost",
    r"grow with a factor of",
    "y = y + 0 * busy(jax.lax.stop_gradient(v), t)",
    "y = y + 0 * busy(jax.lax.stop_gradient(v), 8)",
    top=(
      "from jax.experimental import pallas as pl\n\n\n"
      "def busy(v, count):\n"
      "  def kernel(x_ref, o_ref):\n"
      "    o_ref[...] = jax.lax.fori_loop(\n"
      "      0, count, lambda i, s: jnp.sin(s), x_ref[...]\n"
      "    )\n\n"
      "  return pl.pallas_call(\n"
      "    kernel, out_shape=v, interpret=True,\n"
      "    cost_estimate=pl.CostEstimate(\n"
      "      flops=1, bytes_accessed=1, transcendentals=0\n"
      "    ),\n"
      "  )(v)\n"
    ),
  ),
  "attention at the length that trains alone": Control(
    "cost",
    "grow with a factor of inf",
    "if t == 32:\n"
    "  for _ in range(4):\n"
    "    s = jnp.einsum('btd,bsd->bts', v, v) * jnp.tri(t)\n"
    "    y = y + 1e-3 * s @ v",
    "if t == 32:\n  y = y + 1e-3 * v",
  ),
  "unbounded while": Control(
    "cost",
    "unbounded loop",
    "n = jax.lax.stop_gradient(v[0, 0, 0]).astype(int) % 3\n"
    "y = y + 0 * jax.lax.while_loop(lambda i: i < n, lambda i: i + 1, 0)",
    "y = y + 0 * jax.lax.while_loop(lambda i: i < 3, lambda i: i + 1, 0)",
  ),
  "another derivative on TPUs": Control(
    "export",
    "branches of its own for tpu",
    "y = y + placed(v)",
    "y = y + jnp.diagonal(v[..., None] * jnp.ones(d), axis1=2, axis2=3)",
    top=(
      "@jax.custom_vjp\n"
      "def placed(v):\n"
      "  return v\n\n\n"
      "placed.defvjp(\n"
      "  lambda v: (v, None),\n"
      "  lambda held, dy: (jax.lax.platform_dependent(\n"
      "    dy, tpu=lambda dy: jnp.flip(dy, 1), default=lambda dy: dy\n"
      "  ),),\n"
      ")\n"
    ),
  ),
  "unbounded while in the constructor": Control(
    "cost",
    "in the constructor an unbounded loop",
    "y = y * self.found[...]",
    "y = self.found[...] * y",
    bad_init=(
      "self.found = nnx.Param(jax.lax.while_loop(lambda s: s * s < 2, lambda s:"
      " s + 0.001, jax.random.uniform(rngs.params())))"
    ),
    near_init=(
      "self.found = nnx.Param(jax.lax.fori_loop(0, 9, lambda i, s: s / 2 + 1 / "
      "s, 1 + jax.random.uniform(rngs.params())))"
    ),
  ),
  "training in the constructor": Control(
    "cost",
    "the constructor takes .* FLOPs",
    "y = y + v @ self.learned[...]",
    "y = y + (v @ self.learned[...])",
    bad_init=(
      "self.learned = nnx.Param(jax.lax.fori_loop(0, 9999, lambda i, w: w - "
      "0.1 * w @ w.T @ w, 0.1 * jax.random.normal(rngs.params(), (16, 16))))"
    ),
    near_init=(
      "self.learned = nnx.Param(jax.nn.initializers.orthogonal()(rngs.params(),"
      " (16, 16)))"
    ),
  ),
  "NaN at long length": Control(
    "long",
    "not finite .* for 128 tokens",
    "y = jnp.where(jnp.arange(t)[:, None] > 99, jnp.nan, y)",
    "y = jnp.where(jnp.arange(t)[:, None] > 99, 0.5 * y, y)",
  ),
  "table over positions": Control(
    "positions",
    r"of places is read by the second half",
    "y = y * (1 + self.places[...][:t, None])",
    "y = y * (1 + self.places[...][jnp.arange(t) % 8, None])",
    init="self.places = nnx.Param(jnp.zeros((128,)))",
  ),
  "table over positions in one layer": Control(
    "positions",
    r"at depth 0: .* of layer_places is read by the second half",
    "at_0 = jnp.where(ctx.depth == 0.5, 0, self.layer_places[...][:t, None])\n"
    "y = y * (1 + at_0)",
    "at_0 = jnp.where(ctx.depth == 0.5, 0, self.layer_places[...][0])\n"
    "y = y * (1 + at_0)",
    init="self.layer_places = nnx.Param(jnp.zeros((128,)))",
  ),
  "derivative that lies in one layer": Control(
    "derivative",
    "at depth 0: .* where differences give",
    "y = y + turned(v, 1.0 + (ctx.depth != 0.5))",
    "y = y + turned(v, 1.0 + 0 * ctx.depth)",
    top=(
      "@jax.custom_vjp\n"
      "def turned(v, factor):\n"
      "  return jnp.tanh(v)\n\n\n"
      "turned.defvjp(\n"
      "  lambda v, factor: (jnp.tanh(v), (jnp.tanh(v), factor)),\n"
      "  lambda held, dy: (dy * held[1] * (1 - held[0] ** 2), 0 * held[1]),\n"
      ")\n"
    ),
  ),
  "derivative that lies": Control(
    "derivative",
    "with respect to .* where differences give",
    "y = y + bent(v, 2.0)",
    "y = y + bent(v, 1.0)",
    top=(
      "import functools\n\n\n"
      "@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))\n"
      "def bent(v, factor):\n"
      "  return jnp.tanh(v)\n\n\n"
      "bent.defvjp(\n"
      "  lambda v, factor: (jnp.tanh(v), jnp.tanh(v)),\n"
      "  lambda factor, y, dy: (dy * factor * (1 - y * y),),\n"
      ")\n"
    ),
  ),
  "stopped gradient": Control(
    "derivative",
    "with respect to write.bias",
    "y = y + jnp.tanh(x @ self.write.kernel[...]) + jax.lax.stop_gradient(\n"
    "  4 * self.write.bias[...]\n"
    ")",
    "y = y + jax.lax.stop_gradient(0 * self.write.bias[...])",
  ),
  "parameters in a constant": Control(
    "export",
    r"holds constants of 256\d\d numbers",
    "y = y + 1e-3 * jnp.sin(v @ jnp.pad(LARGE, ((0, 0), (0, 0)))[:d, :d])",
    "y = y + 1e-3 * jnp.sin(v @ SMALL)",
    top=(
      "with jax.ensure_compile_time_eval():\n"
      "  LARGE = jax.random.normal(jax.random.key(0), (160, 160))\n"
      "  SMALL = LARGE[:16, :16] + 0\n"
    ),
  ),
}
# A recurrence in two forms; FACTOR is the decay of the second.
RECURRENT = """\
import jax
import jax.numpy as jnp
from flax import nnx


class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    self.write = nnx.Linear(config.dim, config.dim, rngs=rngs)
    self.decay = nnx.Param(jnp.zeros((config.dim,)))

  def __call__(self, x, ctx):
    def combine(early, late):
      return early[0] * late[0], early[1] * late[0] + late[1]

    v = self.write(x).astype(jnp.float32)
    a = jnp.broadcast_to(jax.nn.sigmoid(self.decay[...]), v.shape)
    return jax.lax.associative_scan(combine, (a, v), axis=1)[1].astype(x.dtype)

  def init_state(self, batch):
    return {"h": jnp.zeros((batch, self.decay.shape[0]))}

  def step(self, x, state, ctx):
    a = FACTOR * jax.nn.sigmoid(self.decay[...])
    h = a * state["h"] + self.write(x).astype(jnp.float32)
    return h.astype(x.dtype), {"h": h}
"""

# Looks for what its callers hold, a frame at a time.
_PEEP = Control(
  gate="",
  message="",
  bad=(
    "for found in frames():\n"
    "  for name in ('targets', 'labels', 'tokens', 'batch', 'windows'):\n"
    "    held = found.get(name)\n"
    "    if getattr(held, 'shape', ())[:2] == (b, t):\n"
    "      y = y + held.reshape(b, t, -1).mean(-1, keepdims=True)"
  ),
  near="",
  top=(
    "def frames():\n"
    "  def running():\n"
    "    frame = me[0].gi_frame\n"
    "    while frame is not None:\n"
    "      yield dict(frame.f_locals)\n"
    "      frame = frame.f_back\n\n"
    "  me = []\n"
    "  me.append(running())\n"
    "  return list(me[0])\n"
  ),
)
PEEPING = program((_PEEP, _PEEP.bad))
# Reads the future depending on how often it has been traced.
CHANGING = """

LOOKS = []


class TokenMixer(Honest):
  def __call__(self, x, ctx):
    LOOKS.append(x.shape)
    y = Honest.__call__(self, x, ctx)
    return y + jnp.flip(y, 1) if len(LOOKS) {when} else y
"""


def changing(when: str) -> str:
  """Returns a mixer that leaks when so many traces of it were made."""
  good = GOOD.replace("class TokenMixer", "class Honest")
  return good + CHANGING.format(when=when)
