"""Which exported forms of a Program its gates need.

The trace stage makes them, the judge accepts no others: both ask here.
"""

from __future__ import annotations

import dataclasses

from asi_evolve_jax.records.schema import VERIFY
from asi_evolve_jax.tracks.architecture.options import CPU, StageOptions

# Forms that are compared: one with the kernels of the target as plain
# operations, one as the CPU runs it, at the same small shape.
KERNELS, PLAIN = "kernels", "plain"
TPU = "tpu"
_BATCH = 2  # a kernel may mix its rows up
# Blocks of a kernel must meet at least once: some hold 64 tokens.
_LEAST_TIME = 128


@dataclasses.dataclass(frozen=True)
class Form:
  """One export.

  Attributes:
    platform: that it runs on.
    batch: sequences.
    times: tokens; the first is its own.
    kernels_of: platform whose kernels it computes, as plain operations; "":
      its own.
    recurrent: whether init_state and step are exported too.
  """

  platform: str
  batch: int
  times: tuple[int, ...]
  kernels_of: str = ""
  recurrent: bool = False


def forms(options: StageOptions) -> dict[str, Form]:
  """Returns what a bundle holds, by name.

  "cpu" is what most gates run; the one named after the platform trains.
  """
  run, platform = options.run, options.platform
  made = {CPU: Form(CPU, run.batch, options.lengths(), recurrent=True)}
  if platform != CPU:
    made[platform] = Form(platform, run.batch, options.kept_lengths())
  if options.check_kernels or platform != CPU:
    times = (probe_time(options.model.chunk_size, run.time),)
    target = TPU if platform == CPU else platform
    made[PLAIN] = Form(CPU, _BATCH, times)
    made[KERNELS] = Form(CPU, _BATCH, times, kernels_of=target)
  if check_target(options):
    made.setdefault(TPU, Form(TPU, run.batch, (run.time,)))
  return made


def check_target(options: StageOptions) -> bool:
  """Whether it must compile for the topologies of the config."""
  wanted = options.purpose == VERIFY or options.modelled_cycles_weight > 0
  return bool(options.preflight) and wanted


def probe_time(chunk: int, longest: int) -> int:
  """Returns the tokens at which forms are compared.

  Args:
    chunk: tokens a chunk of the mixer's config.
    longest: tokens of the rung, a multiple of `chunk`.
  """
  wanted = max(2 * chunk, _LEAST_TIME)
  return min(longest, -(-wanted // chunk) * chunk)
