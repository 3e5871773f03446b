"""The judge of a packing: the trusted stage of this track."""

from __future__ import annotations

import numpy as np

from asi_evolve_jax.evaluation.stages import StageReply, StageRequest
from asi_evolve_jax.tracks.circle_packing import packing
from asi_evolve_jax.tracks.circle_packing.run import CPU_GATE

METRIC = "sum_of_radii"
GATE = "valid_packing"
# What a worker takes to start, beside the Program.
_START_S = 2.0


def run(request: StageRequest) -> StageReply:
  """Validates the packings at margin 0 and sums their radii.

  `request.options["circles"]` is the number of circles, "cpu_seconds" what a
  seed may take: all of the run stage is held against it, by the CPU time that
  was measured from outside. The payload is what `packing.encode` made, one
  packing a seed. The reply keeps the packings as
  the curve "packing" [seeds, circles, 3] (x, y, radius; float64).
  """
  circles = int(request.options["circles"])
  seeds = len(request.seeds)
  allowed = seeds * float(request.options["cpu_seconds"]) + _START_S
  used = request.facts.get("run_cpu_seconds", 0.0)
  if used > allowed:
    return StageReply(
      status="rejected",
      gate=CPU_GATE,
      error=(
        f"{seeds} seeds took {used:.3g} CPU seconds of {allowed:.3g} in all: "
        "do less for one unit of `work`, and nothing outside of `pack`."
      ),
    )
  try:
    packings = packing.decode(request.payload)
  except packing.PackingError as e:
    return StageReply(status="failed", error=f"Unreadable output: {e}.")
  if len(packings) != len(request.seeds):
    return StageReply(
      status="failed",
      error=(
        f"Unreadable output: {len(packings)} packings for "
        f"{len(request.seeds)} seeds."
      ),
    )
  for seed, (centers, radii) in zip(request.seeds, packings, strict=True):
    wrong = packing.fault(centers, radii, circles)
    if wrong:
      return StageReply(
        status="rejected", gate=GATE, error=f"Seed {seed}: {wrong}"
      )
  sums = [packing.sum_of_radii(radii) for _, radii in packings]
  kept = [
    np.column_stack([np.reshape(c.values, c.shape), r.values])
    for c, r in packings
  ]
  return StageReply(
    metrics=tuple({METRIC: value} for value in sums),
    report={"circles": circles, "best_of_seeds": max(sums)},
    curves={"packing": np.array(kept)},
  )
