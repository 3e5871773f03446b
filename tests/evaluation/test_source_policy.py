import pytest

from asi_evolve_jax.evaluation import source_policy
from asi_evolve_jax.evaluation.source_policy import PolicyError, check

ALLOWED = ("jax", "flax", "math")

GOOD = """
from __future__ import annotations
import math
import jax.numpy as jnp
from flax import nnx
from jax.experimental import pallas as pl


class TokenMixer(nnx.Module):
  def __init__(self, config, *, rngs):
    super().__init__()
    self.config = config
    for i in range(2):
      setattr(self, f"w{i}", nnx.Param(jnp.ones(config.dim)))

  def __call__(self, x, ctx):
    debug = self.config.dim * math.pi
    return x * getattr(self, "w0") * debug
"""


def test_ordinary_source_passes():
  check(GOOD, ALLOWED)


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    ("def f(:\n  pass", r"line 1: .*`def f\(:`"),
    ("x = 1\0", "parse|null"),
    ("import os", "line 1: os cannot be imported; use only flax, jax, math"),
    ("from subprocess import run", "subprocess cannot be imported"),
    ("from . import x", "relative"),
    ("from jax.numpy import *", "one by one"),
    ("from jax._src import core", "private"),
    ("import jax\njax._src.core", "private"),
    ("import jax\njax.debug.print('x')", "line 2: jax.debug"),
    ("from jax import debug as d", "jax.debug"),
    ("import jax as j\nj.pure_callback", "jax.pure_callback"),
    ("from jax.experimental import io_callback", "io_callback"),
    ("import jax\njax.config.update('x', 1)", "jax.config"),
    ("open('/etc/passwd')", "open cannot be used"),
    ("eval('1')", "eval cannot be used"),
    ("f = exec", "exec cannot be used"),
    ("().__class__.__bases__", "__bases__"),
    ("getattr(f, '__globals__')", "__globals__"),
    ("__import__('os')", "__import__"),
    ("import math\nmath.sys.modules", "line 2: sys is not part"),
    ("from jax.numpy import os", "os is not part"),
  ],
)
def test_refuses(bad, message):
  with pytest.raises(PolicyError, match=message):
    check(bad, ALLOWED)


@pytest.mark.parametrize(
  "near",
  [
    "import math as os",
    "class A:\n  def eval(self):\n    return self.config.debug",
    "import jax\njax.numpy.exp(1.0)",
    "class A:\n  def sys(self):\n    return self.sys",
    "import jax\ny = jax.lax.scan.__name__",
    "exports = 'open'",
  ],
)
def test_near_misses_pass(near):
  check(near, ALLOWED)


def test_deep_nesting_is_refused_not_a_crash():
  with pytest.raises(PolicyError):
    check("(" * 5000 + ")" * 5000, ALLOWED)


def test_explains_with_the_programs_own_line():
  source = "def f(x):\n  y = x + 1\n  return y['a']\n"
  try:
    exec(compile(source, "program.py", "exec"), space := {})
    space["f"](1)
  except TypeError as error:
    text = source_policy.explain(error, "program.py")
  assert "line 3, in f" in text
  assert "TypeError: 'int' object is not subscriptable" in text
  assert "test_source_policy" not in text


def test_explains_briefly():
  text = source_policy.explain(ValueError("\n".join("abcdefgh")), "p", lines=3)
  assert text == "ValueError: a\nb\nc"
