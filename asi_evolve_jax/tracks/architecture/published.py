"""Published mixers as genomes: places that the search can be measured from.

Each is given the short convolution of 4 taps that DeltaNet has, so that it
differs from its neighbours in what its paper is about.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Published:
  """Genes that differ from the space's defaults, and where they are from."""

  genes: dict[str, Any]
  motivation: str


PUBLISHED: dict[str, Published] = {
  "linear": Published(
    {"conv": 4, "feature_map": "elu1", "qk_norm": "none"},
    "Linear attention (Katharopoulos et al. 2020, arXiv:2006.16236): the "
    "additive memory with the feature map elu + 1 and no forgetting. Its "
    "normaliser is replaced by an RMS norm of the read-out (TransNormer, "
    "arXiv:2210.10340), as current code does.",
  ),
  "retnet": Published(
    {
      "conv": 4,
      "decay": "fixed",
      "decay_init": "retnet",
      "qk_norm": "none",
      "rotation": "rope",
      "out_norm": "layer",
      "out_gate": "silu",
    },
    "RetNet (Sun et al. 2023, arXiv:2307.08621): one fixed decay a head, "
    "1 - 2^(-5-h), rotated queries and keys, group norm and a SiLU gate on "
    "the read-out.",
  ),
  "scalar_gated": Published(
    {
      "conv": 4,
      "decay": "scalar",
      "feature_map": "silu",
      "qk_norm": "none",
      "write_gate": "head",
      "out_gate": "silu",
    },
    "Scalar-gated linear attention, the recurrence of Mamba-2 (Dao and Gu "
    "2024, arXiv:2405.21060): one data-dependent decay a head, "
    "exp(-e^A softplus(x w + b)), and a gate on what is written, over the "
    "additive memory.",
  ),
  "mamba2": Published(
    {
      "conv": 4,
      "decay": "scalar",
      "step_tie": "write",
      "qk_heads": "shared",
      "feature_map": "silu",
      "qk_norm": "none",
      "local_path": "identity",
      "fusion": "scalar",
      "out_norm": "full",
      "out_gate": "silu",
    },
    "Mamba-2 (Dao and Gu 2024, arXiv:2405.21060): a step of learned length "
    "scales decay and write alike, all heads share B and C, and the value "
    "passes beside the memory (D). Its norm stands before the gate, as "
    "everywhere in this space.",
  ),
  "deltanet": Published(
    {
      "update": "delta",
      "conv": 4,
      "feature_map": "silu",
      "write_gate": "head",
    },
    "DeltaNet (Schlag et al. 2021, arXiv:2102.11174; parallel form Yang et "
    "al. 2024, arXiv:2406.06484): the state is corrected by what it predicts "
    "for an L2-normalised key, at a learned rate. The baseline to beat.",
  ),
  "gated_deltanet": Published(
    {
      "update": "delta",
      "decay": "scalar",
      "conv": 4,
      "feature_map": "silu",
      "write_gate": "head",
      "out_gate": "silu",
    },
    "Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464): DeltaNet with "
    "Mamba-2's decay and a SiLU gate on the read-out.",
  ),
  "gla": Published(
    {
      "conv": 4,
      "decay": "vector",
      "decay_param": "sigmoid",
      "qk_norm": "none",
      "out_gate": "silu",
    },
    "GLA (Yang et al. 2023, arXiv:2312.06635): one decay a channel, "
    "sigmoid(.)^(1/16), over the additive memory.",
  ),
  "hgrn2": Published(
    {
      "conv": 4,
      "decay": "vector",
      "decay_param": "floored",
      "key_tie": "forget",
      "feature_map": "silu",
      "qk_norm": "none",
    },
    "HGRN2 (Qin et al. 2024, arXiv:2404.07904): the key is one minus the "
    "decay, whose floor rises with depth.",
  ),
  "comba": Published(
    {
      "update": "delta",
      "decay": "scalar",
      "conv": 4,
      "feature_map": "silu",
      "write_gate": "head",
      "erase": "feedback",
      "erase_time": "before",
      "read": "corrected",
      "out_gate": "silu",
    },
    "Comba (Hu et al. 2025, arXiv:2506.02475): Gated DeltaNet that erases what "
    "the state held before it decayed, at a feedback strength of its own, and "
    "corrects what is read.",
  ),
  "dplr": Published(
    {
      "update": "delta",
      "decay": "vector",
      "decay_param": "bounded",
      "conv": 4,
      "feature_map": "silu",
      "erase": "channel",
      "erase_time": "before",
      "erase_key": "own",
      "out_gate": "silu",
    },
    "The transition of RWKV-7 (Peng et al. 2025, arXiv:2503.14456), diagonal "
    "plus rank one: a key of its own says what is erased, at a rate a channel, "
    "before one decay a channel. The rest is this space's, as is the decay's "
    "form.",
  ),
  "kda": Published(
    {
      "update": "delta",
      "decay": "vector",
      "conv": 4,
      "feature_map": "silu",
      "write_gate": "head",
      "out_gate": "low_rank",
    },
    "Kimi Delta Attention (2025, arXiv:2510.26692): Gated DeltaNet with one "
    "decay a channel and a low-rank sigmoid gate on the read-out.",
  ),
  "gdn2": Published(
    {
      "update": "delta",
      "decay": "vector",
      "conv": 4,
      "feature_map": "silu",
      "write_gate": "channel",
      "erase": "channel",
      "out_gate": "silu",
    },
    "GDN-2 (2026, arXiv:2605.22791): erase gates over key channels and write "
    "gates over value channels.",
  ),
}
