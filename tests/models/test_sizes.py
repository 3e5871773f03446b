"""Parameter counts, matching and FLOPs of the language model."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from asi_evolve_jax.models import sizes
from asi_evolve_jax.models.language_model import LanguageModel, LMConfig

CONFIG = LMConfig(vocab=64, dim=32, layers=2, heads=2, mlp_width=40)


class Dense:
  def __init__(self, parameters):
    self.parameters = parameters

  def init(self, key):
    return {"w": jnp.zeros(self.parameters)}

  def apply(self, params, x, depth):
    return x * params["w"][0]


@pytest.mark.parametrize("tied", [True, False])
def test_count_is_that_of_the_real_parameters(tied):
  config = dataclasses.replace(CONFIG, tie_embeddings=tied)
  params = jax.eval_shape(
    LanguageModel(config, Dense(77)).init, jax.random.key(0)
  )
  real = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert sizes.parameter_count(config, 77) == real


@pytest.mark.parametrize("mixer_parameters", [1, 3000, 12_345, 20_000])
def test_matched_width_brings_every_mixer_to_the_target(mixer_parameters):
  target = 50_000
  width = sizes.match_mlp_width(CONFIG, mixer_parameters, target)
  config = dataclasses.replace(CONFIG, mlp_width=width)
  total = sizes.parameter_count(config, mixer_parameters)
  assert abs(total - target) <= 0.01 * target


def test_too_large_a_mixer_is_refused_with_the_budget():
  with pytest.raises(ValueError, match=r"30000 parameters a layer") as error:
    sizes.match_mlp_width(CONFIG, 30_000, 50_000)
  budget = int(str(error.value).split("fewer than ")[1].split()[0])
  sizes.match_mlp_width(CONFIG, budget - 1, 50_000)
  with pytest.raises(ValueError, match="a layer"):
    sizes.match_mlp_width(CONFIG, budget + 300, 50_000)


def test_a_target_between_two_widths_is_refused():
  with pytest.raises(ValueError, match="one unit of width"):
    sizes.match_mlp_width(CONFIG, 100, 2 * 100 + 2240 + 192 + 100)


def test_flops_are_those_of_the_matrix_products():
  def forward(params, tokens):
    return LanguageModel(CONFIG, Dense(1)).apply(params, tokens)

  params = jax.eval_shape(
    LanguageModel(CONFIG, Dense(1)).init, jax.random.key(0)
  )
  tokens = jax.ShapeDtypeStruct((3, 10), jnp.int32)
  jaxpr = jax.make_jaxpr(forward)(params, tokens)
  assert sizes.forward_flops(CONFIG, 30) == _dot_flops(jaxpr.jaxpr)


def _dot_flops(jaxpr):
  """Counts 2 m n k of each product, scan bodies times their length."""
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      contracted, _ = eqn.params["dimension_numbers"][0]
      depth = 1
      for axis in contracted:
        depth *= eqn.invars[0].aval.shape[axis]
      total += 2 * eqn.outvars[0].aval.size * depth
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", None)
      if inner is not None:
        total += eqn.params.get("length", 1) * _dot_flops(inner)
  return total
