"""Modelled cycles against length: softmax attention beside a linear mixer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pallas_kernels.ahead_of_time.peers import FLASH_BLOCK
from pallas_kernels.benchmarks import tpu

_GDN = {"operator": "gated_delta_rule", "decay": "scalar"}
_FLASH = "softmax attention, JAX's flash kernel"
# Lengths end where compiling a form takes libtpu some minutes.
FORMS: Mapping[str, tuple[dict[str, Any], tuple[int, ...]]] = {
  "softmax attention, XLA": (
    {"operator": "dense_attention", "implementation": "xla"},
    (256, 512, 1024, 2048, 4096, 8192),
  ),
  _FLASH: (
    {"operator": "flash_attention", "implementation": "jax"},
    (512, 1024, 2048, 4096, 8192, 16384),
  ),
  "Gated DeltaNet, XLA": (
    _GDN | {"implementation": "xla", "chunk_size": 64},
    (256, 512, 1024, 2048),
  ),
  "Gated DeltaNet, Pallas": (
    _GDN,
    (256, 512, 1024, 2048, 4096, 8192, 16384),
  ),
}


def jobs() -> Iterator[dict[str, Any]]:
  """Yields jobs for v5e, one chip, batch 1, 4 heads of 128, bfloat16."""
  for name, (case, lengths) in FORMS.items():
    for time in lengths:
      yield case | {"time": time, "mixer": name}


def run(jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Compiles `jobs`; rows as `tpu.run`'s, with "cycles a head".

  Flash attention does nothing in the grid steps above the diagonal; the
  schedule cannot know, so they are taken out here.
  """
  for row in tpu.run(jobs):
    if "sum" in row:
      time, cycles = row["time"], row["sum"]
      if row["mixer"] == _FLASH:
        blocks = -(-time // FLASH_BLOCK)
        kernels = row["forward kernel"] + row["backward kernel"]
        cycles -= kernels * (1 - (blocks + 1) / (2 * blocks))
      row["cycles a head"] = cycles * time
    yield row


def lines(
  rows: Sequence[Mapping[str, Any]],
) -> dict[str, list[tuple[float, float]]]:
  """Returns (tokens, cycles a head) by form."""
  found: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    if "cycles a head" in row:
      point = (float(row["time"]), float(row["cycles a head"]))
      found.setdefault(row["mixer"], []).append(point)
  return found
