"""Shared by all tests: absl flags count as parsed, JAX stays on the CPU."""

import os

# Before anything imports jax: with libtpu installed a CPU-only process that
# leaves this unset fails at start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests ask whether numbers are right, not how fast: half the compile time.
os.environ.setdefault(
  "XLA_FLAGS",
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
# Threads of small algebra only wait for each other on busy cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from absl import flags

flags.FLAGS.mark_as_parsed()
