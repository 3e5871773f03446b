"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

# Writes 64 MiB ten times over; a page that was given back faults again.
PROBE = """
import resource, sys
if sys.argv[1] == "keep":
  from asi_evolve_jax.training import allocator
  if not allocator.keep_freed_memory():
    sys.exit(3)
for _ in range(2):
  bytearray(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
  bytearray(b"x") * 2**26
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
  done = subprocess.run(
    [sys.executable, "-c", PROBE, mode], capture_output=True, text=True
  )
  if done.returncode == 3:
    pytest.skip("the C library is not glibc")
  assert done.returncode == 0, done.stderr
  return int(done.stdout)


def test_large_blocks_are_not_given_back():
  assert faults("default") > 8 * 1000
  assert faults("keep") < 1000
