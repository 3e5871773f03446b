"""Which gate refuses what, from source to Artifact."""

import re

import pytest
from judging import DIM, LAYERS, TIME, options, run
from mixer_sources import GOOD, SOFTMAX, spoil

from asi_evolve_jax.evaluation.stages import StageRequest
from asi_evolve_jax.models.sizes import parameter_count
from asi_evolve_jax.programs import artifact
from asi_evolve_jax.programs.source import program_id
from asi_evolve_jax.settings import plain
from asi_evolve_jax.tracks.architecture import contract, judge, trace


@pytest.fixture(scope="module")
def good():
  return run(GOOD)


def test_a_good_program_becomes_an_artifact(good):
  assert (good.status, good.gate, good.error) == ("ok", "", "")
  mixer = artifact.load(good.payload)
  report = good.report
  per_layer = 2 * (DIM * DIM + DIM) + DIM
  assert report["mixer_parameters"] == per_layer
  assert report["artifact_hash"] == mixer.header.artifact_hash
  assert report["parameters"] == report["reference_parameters"]
  assert report["state_size"] is None  # it has no recurrent form
  assert report["platform"] == "cpu"
  model = contract.model_config(options(), per_layer)
  assert model.mlp_width == report["mlp_width"] == 2 * DIM
  assert report["parameters"] == parameter_count(model, per_layer)
  # Two projections, and the harness: more than these, less than twice.
  least = LAYERS * 2 * 2 * DIM * DIM + 2 * DIM * 64 + LAYERS * 6 * DIM * 2 * DIM
  assert least < report["flops_per_token"] < 1.2 * least


def test_gates_run_in_the_order_they_are_listed(good):
  listed = [g.name for g in judge.Case(b"", options()).gates()]
  assert list(good.report["gate_seconds"]) == listed
  before = trace.run(
    StageRequest(GOOD, b"", (), plain(options()), "", "", 60.0)
  )
  listed = [g.name for g in trace.Candidate(GOOD, options()).gates()]
  assert list(before.report["gate_seconds"]) == listed


RETURN = "    return y.astype(x.dtype)\n"
SPOILED = {
  "syntax": (
    "source",
    spoil("def __call__(self, x, ctx):", "def __call__(self, x, ctx)"),
    r"line 13: .*def __call__",
  ),
  "import": (
    "source",
    spoil("import jax\n", "import os\nimport jax\n"),
    "os cannot be imported",
  ),
  "raises on import": (
    "contract",
    spoil("class TokenMixer", "limit = 1 // 0\n\n\nclass TokenMixer"),
    r"line 6, in <module>: `limit = 1 // 0`\nZeroDivisionError",
  ),
  "no class": (
    "contract",
    spoil("class TokenMixer", "class Mixer"),
    r"define `class TokenMixer\(nnx\.Module\)`",
  ),
  "no module": (
    "contract",
    spoil("TokenMixer(nnx.Module)", "TokenMixer"),
    "define `class TokenMixer",
  ),
  "constructor": (
    "contract",
    spoil("(self, config, *, rngs)", "(self, dim, heads, *, rngs)"),
    r"__init__ must take \(self, config, \*, rngs\)",
  ),
  "call": (
    "contract",
    spoil("(self, x, ctx)", "(self, x)").replace("ctx.depth", "0.0"),
    r"__call__ must take \(self, x, ctx\)",
  ),
  "constructor raises": (
    "contract",
    spoil("config.chunk_size", "config.chunk_length"),
    r"line 8, in __init__: .*\nAttributeError: .*chunk_length",
  ),
  "state": (
    "variables",
    spoil(
      "self.gain =", "self.seen = nnx.Variable(jnp.zeros(3))\n    self.gain ="
    ),
    "keeps seen outside of nnx.Param",
  ),
  "plain array": (
    "variables",
    spoil(
      "self.gain = nnx.Param(jnp.ones((config.dim,)))",
      "self.gain = jnp.ones((config.dim,))",
    ),
    "keeps gain outside",
  ),
  "half parameters": (
    "variables",
    spoil("jnp.ones((config.dim,))", "jnp.ones((config.dim,), jnp.bfloat16)"),
    r"float32, these are not: gain \(bfloat16\)",
  ),
  "call raises": (
    "shapes",
    spoil("    b, t, d = x.shape\n", "    b, t, d = x.shape\n    x @ x\n"),
    r"line 15, in __call__: `x @ x`\nTypeError: dot_general",
  ),
  "wrong shape": (
    "shapes",
    spoil(RETURN, "    return y[:, 1:]\n"),
    r"returns \[2, 31, 16\] for x of \[2, 32, 16\]",
  ),
  "wrong dtype": (
    "shapes",
    spoil(RETURN, "    return y.astype(jnp.bfloat16)\n"),
    r"bfloat16 .* end with \.astype",
  ),
  "two results": (
    "shapes",
    spoil(RETURN, "    return y, b\n"),
    "one array .* it returns tuple",
  ),
  "branch on depth": (
    "shapes",
    spoil(RETURN, "    return y if ctx.depth else x\n"),
    r"in __call__: `return y if ctx\.depth else x`",
  ),
  "too many parameters": (
    "parameters",
    spoil(
      "jnp.ones((config.dim,))", "jnp.ones((64 * config.dim, config.dim))"
    ).replace("self.gain[...]", "self.gain[...].mean(0)"),
    "Use fewer than",
  ),
  "attention": ("cost", SOFTMAX, r"(flops|bytes) grow with a factor of 3\."),
  "root of zero": (
    "finite",
    spoil(
      RETURN, "    return y / jnp.linalg.norm(x, axis=-1, keepdims=True)\n"
    ),
    "not finite .* for inputs that are all zero",
  ),
  "root at initialisation": (
    "finite",
    spoil("jnp.ones((config.dim,))", "jnp.zeros((config.dim,))").replace(
      "self.gain[...]", "jnp.sqrt(self.gain[...])"
    ),
    "gradient of gain is not finite",
  ),
  "division by depth": (
    "finite",
    spoil("(1 + ctx.depth)", "(1 / ctx.depth)"),
    "not finite",
  ),
  "behind a closed gate": (
    # At its own initialisation this computes nothing but x.
    "causality",
    spoil("jnp.ones((config.dim,))", "jnp.zeros((config.dim,))").replace(
      RETURN, "    return x + y[:, ::-1] * self.gain[...]\n"
    ),
    "position",
  ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_refused_at_the_gate_that_says_why(name):
  gate, source, message = SPOILED[name]
  reply = run(source)
  assert (reply.status, reply.gate) == ("rejected", gate), reply.error
  assert reply.payload == b""
  assert re.search(message, reply.error), reply.error


NEAR = {
  "epsilon under the root": spoil(
    RETURN,
    "    return y * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-6)\n",
  ),
  "closed gate": spoil("jnp.ones((config.dim,))", "jnp.zeros((config.dim,))"),
}


@pytest.mark.parametrize("name", NEAR)
def test_near_misses_pass(name):
  reply = run(NEAR[name])
  assert reply.status == "ok", reply.error


def test_the_mlp_pays_for_a_larger_mixer(good):
  reply = run(
    spoil(
      "self.gain =",
      "self.more = nnx.Linear(config.dim, config.dim, rngs=rngs)\n"
      "    self.gain =",
    ).replace("v = self.write(x)", "v = self.more(self.write(x))")
  )
  assert reply.status == "ok", reply.error
  larger = reply.report
  assert larger["mixer_parameters"] > good.report["mixer_parameters"]
  assert larger["mlp_width"] < good.report["mlp_width"]
  assert larger["parameters"] == pytest.approx(
    larger["reference_parameters"], rel=0.01
  )


def test_a_yardstick_may_be_quadratic():
  reply = run(SOFTMAX, yardsticks=(program_id(SOFTMAX),))
  assert reply.status == "ok", reply.error
  assert reply.report["state_size"] == 2 * DIM * TIME


@pytest.mark.slow
def test_bfloat16_needs_a_cast():
  half = {"compute_dtype": "bfloat16"}
  assert run(GOOD, model=half).status == "ok"
  careless = spoil(RETURN, "    return y\n")
  assert run(careless).status == "ok"
  reply = run(careless, model=half)
  assert (reply.gate, reply.status) == ("shapes", "rejected")


def test_equal_computations_share_a_hash(good):
  renamed = GOOD.replace("inside", "within").replace("self.read", "self.query")
  assert program_id(renamed) != program_id(GOOD)
  assert run(renamed).report["artifact_hash"] == good.report["artifact_hash"]
