"""Published token mixers as Flax NNX modules; `MIXERS` names them.

Each is constructed from a `MixerConfig` and rngs and called with x [batch,
time, dim] and a `MixerContext`; its recurrence alone is a function in
additive.py, delta.py or dplr.py. The class attribute `paper` is an arXiv id.
All but the attentions are `LinearMixer`s, with `init_state` and `step`.
"""

from asi_evolve_jax.models.mixers import (
  additive_mixers,
  attention,
  delta_mixers,
)
from asi_evolve_jax.models.mixers.base import (
  LinearMixer,
  Mixer,
  MixerConfig,
  MixerContext,
)

__all__ = ["MIXERS", "LinearMixer", "Mixer", "MixerConfig", "MixerContext"]

MIXERS: dict[str, type[Mixer]] = {
  "softmax": attention.SoftmaxAttention,
  "sliding_window": attention.SlidingWindowAttention,
  "linear_attention": additive_mixers.LinearAttention,
  "retnet": additive_mixers.RetNet,
  "mamba2": additive_mixers.Mamba2,
  "mamba3": additive_mixers.Mamba3,
  "gla": additive_mixers.GLA,
  "hgrn2": additive_mixers.HGRN2,
  "rwkv6": additive_mixers.RWKV6,
  "deltanet": delta_mixers.DeltaNet,
  "deltanet_negative": delta_mixers.DeltaNetNegative,
  "gated_deltanet": delta_mixers.GatedDeltaNet,
  "kda": delta_mixers.KDA,
  "gdn2": delta_mixers.GDN2,
  "deltaproduct": delta_mixers.DeltaProduct,
  "gated_deltaproduct": delta_mixers.GatedDeltaProduct,
  "comba": delta_mixers.Comba,
  "rwkv7": delta_mixers.RWKV7,
}
