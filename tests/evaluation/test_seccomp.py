"""The filter's program, run here for machines that are not here."""

import errno
import struct

import pytest

from asi_evolve_jax.evaluation import seccomp

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
PID = 4321


def verdict(machine, number, argument=0, architecture=None):
  """Runs the program as the kernel does, on (number, first argument)."""
  code = seccomp.assemble(machine, PID)
  lines = list(struct.iter_unpack("=HBBI", code))
  data = {
    0: number,
    4: architecture or ARCHITECTURE[machine],
    16: argument & 0xFFFFFFFF,
  }
  at, held = 0, 0
  while True:
    what, yes, no, constant = lines[at]
    at += 1
    if what == 0x20:  # load a word
      held = data[constant]
    elif what == 0x06:  # return
      return constant
    else:
      true = {
        0x15: held == constant,
        0x25: held > constant,
        0x45: bool(held & constant),
      }[what]
      at += yes if true else no


def refused(machine, *call):
  result = verdict(machine, *call)
  return result & 0xFFFF if result & 0x7FFF0000 == 0x00050000 else 0


@pytest.mark.parametrize("machine", ARCHITECTURE)
def test_what_is_listed_is_refused_and_the_rest_is_not(machine):
  column = list(ARCHITECTURE).index(machine)
  listed = {n[column] for n in seccomp._DENIED.values()} - {None}
  special = {n[column] for n in seccomp._ONLY_SELF.values()}
  special |= {seccomp._CLONE[column], 435}
  assert len(listed) > 90
  assert not listed & special
  for number in range(451):
    if number in special:
      continue
    expected = errno.EPERM if number in listed else 0
    assert refused(machine, number) == expected, number
    assert expected or verdict(machine, number) == ALLOW
  assert refused(machine, 451) == refused(machine, 435) == errno.ENOSYS
  assert refused(machine, 0x40000000) == errno.ENOSYS  # x32


@pytest.mark.parametrize("machine", ARCHITECTURE)
def test_threads_are_made_and_processes_are_not(machine):
  clone = seccomp._CLONE[list(ARCHITECTURE).index(machine)]
  thread = 0x003D0F00  # as the C library makes one
  assert verdict(machine, clone, thread) == ALLOW
  for flags in (17, 0, 0x01200011, thread | 0x10000000, thread | 0x40000000):
    assert refused(machine, clone, flags) == errno.EPERM


@pytest.mark.parametrize("machine", ARCHITECTURE)
def test_signals_go_to_itself(machine):
  column = list(ARCHITECTURE).index(machine)
  for numbers in seccomp._ONLY_SELF.values():
    assert verdict(machine, numbers[column], PID) == ALLOW
    for pid in (1, 0, -1, -PID, PID + 1):
      assert refused(machine, numbers[column], pid) == errno.EPERM


def test_another_architecture_is_killed():
  other = ARCHITECTURE["aarch64"]
  assert verdict("x86_64", 1, architecture=other) == KILL
  assert verdict("x86_64", 1, architecture=0x40000003) == KILL  # 32 bits
