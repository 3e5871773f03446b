"""The table of modelled cycles for TPUs, from a process with libtpu."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pallas_kernels.ahead_of_time.peers import PEERS
from pallas_kernels.benchmarks.mixers import KDA_DECAY, RWKV7_DECAY

TOPOLOGIES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")
_MESH_TOPOLOGIES = ("v5e:4x4", "v5p:4x4x1", "v6e:4x4")


def _mixer(operator: str, decay: str, **options: Any) -> dict[str, Any]:
  return {"operator": operator, "decay": decay, **options}


_GLA = _mixer("linear_attention", "vector")
_KDA = _mixer("gated_delta_rule", "vector")
# Fields of ahead_of_time.cases.Case by the mixer that they make: one a
# recurrence and decay, the same as mixers.MIXERS.
_TIMED = {
  "linear attention": _mixer("linear_attention", "none"),
  "scalar decay (Mamba-2)": _mixer("linear_attention", "scalar"),
  "GLA": _GLA,
  "GLA, bounded decay": _GLA | {"min_log_decay": KDA_DECAY},
  "DeltaNet": _mixer("gated_delta_rule", "none"),
  "Gated DeltaNet": _mixer("gated_delta_rule", "scalar"),
  "KDA": _KDA,
  "KDA, bounded decay": _KDA | {"min_log_decay": KDA_DECAY},
  "RWKV-7": _mixer("dplr_delta_rule", "vector", min_log_decay=RWKV7_DECAY),
}
MIXERS = _TIMED | {
  # What they read is no multiple of what they write: GDN-2 erases and writes
  # at gates a channel, Comba reads before the decay.
  "GDN-2": _mixer("delta_rule", "vector"),
  "Comba": _mixer("dplr_delta_rule", "scalar"),
}
# Whose rows hold several sequences too, with a state before and one after: one
# an operator. The first alone in the small table.
_PACKED = ("Gated DeltaNet", "scalar decay (Mamba-2)", "GDN-2", "RWKV-7")
# Searched beyond the grid that all are: one an operator that models are of.
_SEARCHED = ("linear attention", "Gated DeltaNet", "KDA")


class NotCheckedError(RuntimeError):
  """libtpu is not installed."""


def jobs(forms: Sequence[str], *, full: bool) -> Iterator[dict[str, Any]]:
  """Yields the table's jobs.

  Args:
    forms: "pallas_tpu" and peers to compile at one chip's sizes.
    full: else one small shape a mixer, of our kernel for v5e.

  Rows of _PACKED come last: they tell whether segment ids and both states
  compile, and what they cost, on v5e.
  """
  for mixer, case in MIXERS.items():
    base = case | {"mixer": mixer}
    if not full:
      yield base | {"time": 256, "heads": 1}
      continue
    for topology in TOPOLOGIES:
      for implementation in forms:
        if _has(implementation, case):
          yield base | {
            "topology": topology,
            "implementation": implementation,
          }
    if "pallas_tpu" not in forms:
      continue
    for topology in _MESH_TOPOLOGIES:
      sizes = {"mesh": [4, 4], "batch": 4, "heads": 16}
      yield base | {"topology": topology, **sizes}
    # Time over four chips, which exchange transitions, heads over four.
    sizes = {"mesh": [1, 4], "time_shards": 4, "time": 8192, "heads": 16}
    yield base | {"topology": _MESH_TOPOLOGIES[0], **sizes}
    for dim in (64, 256):
      yield base | {"key_dim": dim, "value_dim": dim}
  if full and "pallas_tpu" not in forms:
    return
  for mixer in _PACKED if full else _PACKED[:1]:
    packed = {"mixer": f"{mixer}, packed", "packed": True, "states": True}
    yield MIXERS[mixer] | packed | ({} if full else {"time": 256, "heads": 1})


def _has(form: str, case: Mapping[str, Any]) -> bool:
  if form not in PEERS:
    return True
  known = (case["operator"], case["decay"]) in PEERS[form][1]
  return known and "min_log_decay" not in case


def search_jobs() -> Iterator[dict[str, Any]]:
  """Yields the choices of chunk and heads a program that defaults rest on.

  Every mixer at dim 128; three of them at the other dims, and with enough heads
  for eight a program and a chunk of 256.
  """
  for mixer in _TIMED:
    yield from _choices(mixer, 128, 4, (64, 128), (1, 2, 4))
  for mixer in _SEARCHED:
    yield from _choices(mixer, 128, 8, (64, 128, 256), (4, 8))
    # One head of 64 is half a tile: TPUs take two.
    yield from _choices(mixer, 64, 4, (64, 128), (2, 4))
    yield from _choices(mixer, 256, 4, (64, 128), (1, 2, 4))


def _choices(
  mixer: str,
  dim: int,
  heads: int,
  sizes: Sequence[int],
  groups: Sequence[int],
) -> Iterator[dict[str, Any]]:
  base = MIXERS[mixer] | {"mixer": mixer, "heads": heads}
  base |= {"key_dim": dim, "value_dim": dim}
  for size, group in itertools.product(sizes, groups):
    yield base | {"chunk_size": size, "block_heads": group}


def xla_jobs() -> Iterator[dict[str, Any]]:
  """Yields our kernels beside the XLA forms on one chip, at a short length.

  libtpu takes minutes for an XLA form of 2,048 tokens.
  """
  for mixer, case in _TIMED.items():
    base = case | {"mixer": mixer, "time": 512}
    yield base | {"implementation": "pallas_tpu"}
    yield base | {"implementation": "xla", "chunk_size": 64}


def require_libtpu() -> None:
  """Raises NotCheckedError if this Python has no libtpu."""
  if importlib.util.find_spec("libtpu") is None:
    raise NotCheckedError(
      "not checked: libtpu is not installed (pip install "
      "'asi-evolve-jax[tpu-aot]' in an environment of its own)"
    )


def run(jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Compiles the jobs in another process; yields a row each as it comes.

  Raises:
    NotCheckedError: if libtpu is not installed.
  """
  require_libtpu()
  command = [sys.executable, "-m", "pallas_kernels.ahead_of_time"]
  text = "".join(
    json.dumps({k: v for k, v in job.items() if k != "mixer"}) + "\n"
    for job in jobs
  )
  with subprocess.Popen(
    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text)
    process.stdin.close()
    for job, line in zip(jobs, process.stdout, strict=False):
      yield _row(job["mixer"], json.loads(line))
    code = process.wait()
  if code:
    raise RuntimeError(f"{' '.join(command)} ended with code {code}")


def search(jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
  """Compiles `search_jobs`; rows as `run`'s, but nothing is "refused".

  A choice that has no room "does not fit": that is what the search finds out,
  and no kernel of ours fails by it.
  """
  for row in run(jobs):
    if "refused" in row:
      row["does not fit"] = row.pop("refused")
    yield row


def _row(mixer: str, result: dict[str, Any]) -> dict[str, Any]:
  case = result["case"]
  shape = case["mesh"][0], case["time_shards"], case["mesh"][1]
  devices = math.prod(shape)
  row = {
    "mixer": mixer,
    "topology": case["topology"],
    "mesh": "x".join(map(str, shape)),  # along batch, time and heads
    "form": case["implementation"],
    "time": case["time"],
    "heads": case["heads"],
    "dim": case["key_dim"],
    "chunk": case["chunk_size"],
    "heads a program": case["block_heads"],
  }
  if "refused" in result:
    return row | {"refused": result["refused"].splitlines()[0][:160]}
  compiled = result["compiled"]
  if compiled["unread"]:
    return row | {"not checked": str(compiled["unread"])}
  tokens = case["batch"] * case["time"] * case["heads"] / devices
  cycles = {"forward": 0, "backward": 0}
  for name, (each, steps) in compiled["kernels"].items():
    back = "backward" in name or "transpose" in name
    cycles["backward" if back else "forward"] += each * steps
  total = sum(cycles.values()) + compiled["xla_cycles"]
  return row | {
    "forward kernel": cycles["forward"] / tokens,
    "backward kernel": cycles["backward"] / tokens,
    "xla": compiled["xla_cycles"] / tokens,
    "sum": total / tokens,
    "temporaries MiB": compiled["temp_bytes"] / 2**20,
    "compile s": compiled["seconds"],
  }
