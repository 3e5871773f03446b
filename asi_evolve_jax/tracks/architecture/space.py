"""The symbolic space of token mixers: what published ones differ in.

Genes follow the order in which a mixer is read, apart from update and decay,
which come first because others depend on them. There are more than 4e12
distinct mixers. The last four are schedules: how the kernels compute them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from asi_evolve_jax.programs.genome import Gene, Genome, Move, Space, feature
from asi_evolve_jax.tracks.architecture.published import PUBLISHED
from asi_evolve_jax.tracks.architecture.render import render, scales_both

Condition = Callable[[Mapping[str, Any]], bool]


def is_delta(genome: Mapping[str, Any]) -> bool:
  """Whether the state is corrected by what it predicts (delta rule)."""
  return genome["update"] == "delta"


def is_data_dependent(genome: Mapping[str, Any]) -> bool:
  """Whether the decay is computed from the token."""
  return genome["decay"] in ("scalar", "vector")


def has_step(genome: Mapping[str, Any]) -> bool:
  """Whether the decay is that of a step of learned length, one a head."""
  scalar = genome["decay"] == "scalar" and genome["decay_param"] == "exp"
  return scalar and not is_delta(genome)


def forgets(genome: Mapping[str, Any]) -> bool:
  """Whether a corrected state decays, so that the two have an order."""
  return is_delta(genome) and genome["decay"] != "none"


def erases_first(genome: Mapping[str, Any]) -> bool:
  """Whether what is erased is read before the state decays."""
  return genome["erase_time"] == "before"


def has_rate_gate(genome: Mapping[str, Any]) -> bool:
  """Whether a learned gate says how much is written or erased."""
  return genome["write_gate"] != "none" or genome["erase"] in (
    "head",
    "channel",
  )


def has_paths(genome: Mapping[str, Any]) -> bool:
  """Whether anything runs beside the main recurrence."""
  return genome["second_path"] != "none" or genome["local_path"] != "none"


def has_path_gate(genome: Mapping[str, Any]) -> bool:
  """Whether paths are weighted anew for each token."""
  return genome["fusion"] not in ("sum", "scalar")


GENES = (
  Gene(
    "update",
    ("additive", "delta"),
    "additive",
    doc="whether a write adds to the state or corrects what it predicts",
  ),
  Gene(
    "decay",
    ("none", "fixed", "scalar", "vector"),
    "none",
    ordered=True,
    doc="forgetting: none, fixed a head, one gate a head, one a channel",
  ),
  Gene(
    "decay_param",
    ("exp", "sigmoid", "bounded", "floored"),
    "exp",
    active=is_data_dependent,
    doc="how the decay is computed: Mamba-2, GLA, KDA's bound, HGRN2's floor",
  ),
  Gene(
    "decay_init",
    ("even", "retnet", "spread"),
    "spread",
    active=lambda g: g["decay"] != "none",
    doc="time scales of the heads at the start",
  ),
  Gene(
    "key_tie",
    ("none", "forget"),
    "none",
    active=lambda g: g["decay"] == "vector",
    doc="whether the key is what the decay leaves free (HGRN2)",
  ),
  Gene(
    "step_tie",
    ("none", "write"),
    "none",
    active=has_step,
    doc="whether what is written has the length of the decay's step (Mamba-2)",
  ),
  Gene(
    "heads",
    ("half", "config", "double"),
    "config",
    ordered=True,
    doc="number of heads at equal total width",
  ),
  Gene(
    "qk_heads",
    ("own", "shared"),
    "own",
    active=lambda g: g["key_tie"] == "none",
    doc="whether heads share queries and keys (Mamba-2's B and C)",
  ),
  Gene(
    "token_shift",
    ("none", "lerp"),
    "none",
    doc="whether channels blend in the token before (RWKV)",
  ),
  Gene(
    "conv",
    (0, 2, 3, 4),
    0,
    ordered=True,
    doc="taps of the short convolution, 0 for none",
  ),
  Gene(
    "conv_on",
    ("qkv", "qk", "v"),
    "qkv",
    active=lambda g: g["conv"] > 0,
    doc="what the short convolution acts on",
  ),
  Gene(
    "feature_map",
    ("identity", "silu", "relu", "relu2", "elu1", "softmax"),
    "identity",
    doc="non-linearity on queries and keys",
  ),
  Gene(
    "qk_norm",
    ("none", "clip", "l1", "l2"),
    "l2",
    doc="normalisation of queries and keys",
  ),
  Gene(
    "rotation",
    ("none", "rope", "data"),
    "none",
    doc="rotation of queries and keys: none, by position, by content",
  ),
  Gene(
    "expand_v",
    (1, 2),
    1,
    ordered=True,
    doc="width of the values over that of the keys",
  ),
  Gene(
    "write_gate",
    ("none", "head", "channel"),
    "none",
    ordered=True,
    doc="gate on what is written: none, one a head, one a value channel",
  ),
  Gene(
    "erase",
    ("tied", "feedback", "head", "channel"),
    "tied",
    active=is_delta,
    doc="gate on what is erased: the write gate, a learned share of it "
    "(Comba), its own a head, its own a key channel (GDN-2)",
  ),
  Gene(
    "erase_time",
    ("after", "before"),
    "after",
    active=forgets,
    doc="whether what is erased is read after the decay or before it (Comba, "
    "RWKV-7)",
  ),
  Gene(
    "erase_key",
    ("write", "own"),
    "write",
    active=erases_first,
    doc="what is erased: the key that writes, or one of its own (RWKV-7)",
  ),
  Gene(
    "beta",
    ("unit", "negative"),
    "unit",
    active=lambda g: is_delta(g) and has_rate_gate(g),
    doc="range of the erase rate: (0, 1), or (0, 2) for negative eigenvalues",
  ),
  Gene(
    "gate_bias",
    ("zero", "open", "closed", "deep"),
    "zero",
    active=has_rate_gate,
    doc="where write and erase gates start; deep: more open in later layers",
  ),
  Gene(
    "read",
    ("plain", "corrected", "bonus"),
    "plain",
    doc="read-out: plain, query minus a share of the key (Comba), extra "
    "weight on the current token (RWKV-6)",
  ),
  Gene(
    "second_path",
    ("none", "fast", "slow"),
    "none",
    doc="second additive memory with a half-life of its own",
  ),
  Gene(
    "local_path",
    ("none", "identity", "short", "long", "multi"),
    "none",
    doc="path past the memory: the value, a filter over values, or several",
  ),
  Gene(
    "fusion",
    ("sum", "scalar", "sigmoid", "softmax", "softmax_temperature"),
    "sum",
    active=has_paths,
    doc="how paths are weighted: not, by learned scalars, by gates a token",
  ),
  Gene(
    "gate_input",
    ("token", "statistics"),
    "token",
    active=has_path_gate,
    doc="what path gates see: the token, or also the size of every path",
  ),
  Gene(
    "gate_floor",
    (0.0, 0.05),
    0.0,
    ordered=True,
    active=has_path_gate,
    doc="least weight that every path keeps",
  ),
  Gene(
    "path_norm",
    ("none", "rms"),
    "none",
    active=has_paths,
    doc="whether each path is normalised before fusion",
  ),
  Gene(
    "out_norm",
    ("none", "rms", "layer", "full"),
    "rms",
    doc="norm of the read-out: none, RMS a head, centred a head (RetNet), "
    "RMS over all heads",
  ),
  Gene(
    "out_gate",
    ("none", "silu", "sigmoid", "low_rank"),
    "none",
    doc="gate on the read-out; low_rank: sigmoid through a bottleneck (KDA)",
  ),
  Gene(
    "out_scale",
    ("none", "learned", "depth"),
    "none",
    doc="scale of the mixer's output: none, learned a channel, falls by depth",
  ),
  Gene(
    "chunk",
    ("half", "config", "double", "quadruple"),
    "config",
    ordered=True,
    schedule=True,
    doc="tokens a chunk of the parallel form, over what the platform takes",
  ),
  Gene(
    "block",
    (0, 1, 2, 4, 8),
    0,
    ordered=True,
    schedule=True,
    doc="heads that one program of a TPU kernel computes, 0 for its default",
  ),
  Gene(
    "sub_chunk",
    ("most", "half", "quarter"),
    "most",
    ordered=True,
    schedule=True,
    active=lambda g: g["decay"] == "vector",
    doc="tokens that share a reference token under a decay a channel, of "
    "what its strength allows",
  ),
  Gene(
    "scaling",
    ("kernel", "outside"),
    "kernel",
    schedule=True,
    active=scales_both,
    doc="where the rate scales keys and values: in the kernel or before it",
  ),
)

# (gene, value, where it cannot stand, what stands there instead). No other
# gene's condition may hang on the replacement.
RULES: tuple[tuple[str, str, Condition, str], ...] = (
  # The delta rule diverges once |p||k| exceeds 2.
  ("qk_norm", "none", is_delta, "l2"),
  # A gate over value channels has no counterpart over key channels.
  (
    "erase",
    "tied",
    lambda g: is_delta(g) and g["write_gate"] == "channel",
    "head",
  ),
  (
    "erase",
    "feedback",
    lambda g: is_delta(g) and g["write_gate"] == "channel",
    "head",
  ),
  # A rate of 2 on a state that then decays to nothing has an eigenvalue of -2.
  ("beta", "negative", erases_first, "unit"),
)


# Gate -> genes that bear on what it checks, most likely ones first.
SUSPECTS: dict[str, tuple[str, ...]] = {
  "parameters": ("expand_v", "decay", "erase", "write_gate", "out_gate"),
  "cost": ("chunk", "sub_chunk", "local_path", "second_path", "expand_v"),
  "flops": ("chunk", "sub_chunk", "local_path", "second_path", "expand_v"),
  "finite": (
    *("qk_norm", "feature_map", "decay_param", "beta", "rotation"),
    *("out_norm", "path_norm", "gate_bias"),
  ),
  "batch": ("gate_input", "path_norm", "out_norm"),
  "causality": ("local_path", "conv", "token_shift", "second_path", "read"),
}


class ArchitectureSpace(Space):
  """Token mixers over the recurrences of pallas_kernels and `short_conv`.

  Args:
    schedule: whether schedule genes are searched; see Space.
  """

  genes = GENES

  def __init__(self, *, schedule: bool = False) -> None:
    self.schedule = schedule
    self._landmarks = {
      name: self.genome(**published.genes)
      for name, published in PUBLISHED.items()
    }

  def genome(self, **genes: Any) -> Genome:
    """Returns the canonical genome with `genes` set, defaults elsewhere."""
    return self.repair(genes)

  def render(self, genome: Genome) -> str:
    genome = self.repair(genome)
    return render(genome, self.title(genome))

  def title(self, genome: Genome) -> str:
    """Returns the nearest published mixer and what differs from it.

    For example "gated_deltanet", "gated_deltanet, decay=vector" or
    "retnet, conv=0, expand_v=2, +3".
    """
    # Ties go to the first, the simplest.
    name = min(
      self._landmarks,
      key=lambda n: len(self.difference(self._landmarks[n], genome)),
    )
    moves = self.difference(self._landmarks[name], genome)
    parts = [name, *(feature(m.gene, m.new) for m in moves[:2])]
    if len(moves) > 2:
      parts.append(f"+{len(moves) - 2}")
    return ", ".join(parts)

  def repair(self, genome: Mapping[str, Any]) -> Genome:
    fixed = super().repair(genome)
    for gene, value, impossible, instead in RULES:
      if fixed[gene] == value and impossible(fixed):
        fixed[gene] = instead
    return fixed

  def suspects(self, gate: str, message: str) -> tuple[str, ...]:
    del message
    return SUSPECTS.get(gate, ())

  def sample(self, rng: random.Random) -> Genome:
    """Draws genes uniformly, but half of all Programs with one path.

    Paths have many ways to differ: drawn evenly, mixers of one memory, which
    is what most published ones are, would be one in fifteen.
    """
    genome = {g.name: rng.choice(g.values) for g in self.searched()}
    if rng.random() < 0.5:
      genome.update(second_path="none", local_path="none")
    return self.repair(genome)

  def moves(self, genome: Genome) -> list[Move]:
    return [
      move
      for move in super().moves(genome)
      if self.apply(genome, [move])[move.gene] == move.new
    ]
