"""The delta rule with a free read vector and no, scalar or vector decay."""

from pallas_kernels.delta_rule.api import (
  delta_rule,
  gated_delta_rule,
  gated_step,
  step,
)

__all__ = ["delta_rule", "gated_delta_rule", "gated_step", "step"]
