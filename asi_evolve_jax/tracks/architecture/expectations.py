"""How the literature orders the published mixers, one row a comparison.

Written down before any rung is believed: a rung that says the contrary
measures something else (`python -m launch.report calibrate`).
"""

from __future__ import annotations

from asi_evolve_jax.tracks.base import Expectation

_REBINDING = "dev/rebinding_recall"
_RECALL = "dev/recall"
_PARITY = "dev/parity"
_TEXT = "bits_per_byte"

_DELTA = "delta rule, arXiv:2102.11174 section 6.1, arXiv:2406.06484"
_GATED = "Gated DeltaNet, arXiv:2412.06464"
_DECAY = "decay, arXiv:2307.08621 and arXiv:2405.21060"
_EIGENVALUES = "negative eigenvalues, arXiv:2411.12537"
_KDA = "Kimi Delta Attention, arXiv:2510.26692"
_CONV = "short convolution, arXiv:2406.06484, arXiv:2312.04927"

EXPECTATIONS = (
  # Where a key gets a new value, who can correct is ahead of who can only add.
  Expectation("deltanet", "linear", _REBINDING, _DELTA),
  Expectation("deltanet", "retnet", _REBINDING, _DELTA),
  Expectation("deltanet", "scalar_gated", _REBINDING, _DELTA),
  Expectation("gated_deltanet", "linear", _REBINDING, _GATED),
  Expectation("gated_deltanet", "retnet", _REBINDING, _GATED),
  Expectation("gated_deltanet", "scalar_gated", _REBINDING, _GATED),
  # And who adds without forgetting is last.
  Expectation("retnet", "linear", _REBINDING, _DECAY),
  Expectation("scalar_gated", "linear", _REBINDING, _DECAY),
  Expectation("deltanet", "linear", _RECALL, _DELTA),
  Expectation("gated_deltanet", "scalar_gated", _RECALL, _GATED),
  Expectation("deltanet_negative", "deltanet", _PARITY, _EIGENVALUES),
  Expectation(
    "gated_deltanet_negative", "gated_deltanet", _PARITY, _EIGENVALUES
  ),
  Expectation("gated_deltanet", "deltanet", _TEXT, _GATED, level=True),
  Expectation("kda", "deltanet", _TEXT, _KDA, level=True),
  Expectation("deltanet", "linear", _TEXT, _DELTA),
  Expectation("scalar_gated", "linear", _TEXT, _DECAY),
  Expectation("deltanet", "deltanet_no_conv", _TEXT, _CONV),
  Expectation("gated_deltanet", "gated_deltanet_no_conv", _TEXT, _CONV),
)
