"""Parameter counts and FLOPs of the language model, and matching them."""

from __future__ import annotations

import dataclasses

from asi_evolve_jax.models.language_model import LMConfig

MATCH_TOLERANCE = 0.01  # of the target, on the total


def parameter_count(config: LMConfig, mixer_parameters: int) -> int:
  """Returns the parameters of the whole model.

  Args:
    config: the model.
    mixer_parameters: parameters of one layer's mixer.
  """
  tables = (1 if config.tie_embeddings else 2) * config.vocab * config.dim
  block = 3 * config.dim * config.mlp_width + 2 * config.dim
  return tables + config.dim + config.layers * (block + mixer_parameters)


def match_mlp_width(
  config: LMConfig, mixer_parameters_per_layer: int, target_total: int
) -> int:
  """Returns the MLP width that brings the model to `target_total` parameters.

  Args:
    config: the model; its mlp_width is not used.
    mixer_parameters_per_layer: parameters of one layer's mixer.
    target_total: parameters that every model of the comparison has.

  Raises:
    ValueError: if no width of at least 1 comes within 1 %.
  """
  narrow = dataclasses.replace(config, mlp_width=1)
  least = parameter_count(narrow, mixer_parameters_per_layer)
  each = 3 * config.dim * config.layers
  width = 1 + max(0, round((target_total - least) / each))
  total = least + (width - 1) * each
  if abs(total - target_total) > MATCH_TOLERANCE * target_total:
    if least > target_total:
      budget = (
        mixer_parameters_per_layer - (least - target_total) // config.layers
      )
      raise ValueError(
        f"The mixer has {mixer_parameters_per_layer} parameters a layer; with "
        f"{config.layers} layers of dim {config.dim} the model cannot have "
        f"{target_total} in total. Use fewer than {budget} a layer."
      )
    raise ValueError(
      f"No MLP width brings the model within {MATCH_TOLERANCE:.0%} of "
      f"{target_total} parameters: one unit of width is {each}. Raise the "
      "target or lower dim or layers."
    )
  return width


def flops_per_token(config: LMConfig, mixer_flops: float, tokens: int) -> float:
  """Returns FLOPs of the whole model's forward pass over one token.

  Args:
    config: the model.
    mixer_flops: of one layer's mixer over `tokens`.
    tokens: of the whole batch.
  """
  return forward_flops(config, 1) + config.layers * mixer_flops / tokens


def forward_flops(config: LMConfig, tokens: int) -> int:
  """Returns FLOPs of one forward pass over `tokens`, the mixer left out.

  Convention: a multiply-add counts 2, matrix products only (MLP and logits);
  norms, activations, the embedding lookup and the loss are not counted. A
  training step without recomputation is three times this.
  """
  mlp = 6 * config.dim * config.mlp_width
  return tokens * (config.layers * mlp + 2 * config.dim * config.vocab)
