"""Shared by all tests: absl flags count as parsed, JAX stays on the CPU."""

import os

# Before anything imports jax: with libtpu installed a CPU-only process that
# leaves this unset fails at start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import flags

flags.FLAGS.mark_as_parsed()
