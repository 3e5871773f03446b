"""A filter of system calls: what no candidate needs, the kernel refuses.

A deny-list in classic BPF (seccomp(2)), assembled by hand for x86_64 and
aarch64. A refused call fails with EPERM, so that Python reports where; a call
newer than this file fails with ENOSYS, as on an older kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from asi_evolve_jax.evaluation import kernel

# Name -> number on x86_64 and on aarch64; None: there is no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
  # Other processes, their memory and descriptors.
  "ptrace": (101, 117),
  "process_vm_readv": (310, 270),
  "process_vm_writev": (311, 271),
  "process_madvise": (440, 440),
  "process_mrelease": (448, 448),
  "kcmp": (312, 272),
  "pidfd_open": (434, 434),
  "pidfd_getfd": (438, 438),
  "pidfd_send_signal": (424, 424),
  "tkill": (200, 130),
  "move_pages": (279, 239),
  "migrate_pages": (256, 238),
  # New processes: a candidate is one, and its limits are per process.
  "fork": (57, None),
  "vfork": (58, None),
  "execve": (59, 221),
  "execveat": (322, 281),
  # The network and other sockets; what it has can still be read and written.
  "socket": (41, 198),
  "socketpair": (53, 199),
  "bind": (49, 200),
  "listen": (50, 201),
  "accept": (43, 202),
  "accept4": (288, 242),
  "connect": (42, 203),
  "sendmsg": (46, 211),
  "sendmmsg": (307, 269),
  # Memory that no limit of this process counts.
  "memfd_create": (319, 279),
  "memfd_secret": (447, 447),
  "shmget": (29, 194),
  "semget": (64, 190),
  "msgget": (68, 186),
  "mq_open": (240, 180),
  # Namespaces and mounts.
  "unshare": (272, 97),
  "setns": (308, 268),
  "mount": (165, 40),
  "umount2": (166, 39),
  "pivot_root": (155, 41),
  "chroot": (161, 51),
  "open_tree": (428, 428),
  "move_mount": (429, 429),
  "fsopen": (430, 430),
  "fsconfig": (431, 431),
  "fsmount": (432, 432),
  "fspick": (433, 433),
  "mount_setattr": (442, 442),
  "name_to_handle_at": (303, 264),
  "open_by_handle_at": (304, 265),
  # What Landlock leaves open: it watches how files are opened, not these.
  "truncate": (76, 45),
  "chmod": (90, None),
  "fchmod": (91, 52),
  "fchmodat": (268, 53),
  "chown": (92, None),
  "fchown": (93, 55),
  "lchown": (94, None),
  "fchownat": (260, 54),
  "setxattr": (188, 5),
  "lsetxattr": (189, 6),
  "fsetxattr": (190, 7),
  "removexattr": (197, 14),
  "lremovexattr": (198, 15),
  "fremovexattr": (199, 16),
  "utime": (132, None),
  "utimes": (235, None),
  "futimesat": (261, None),
  "utimensat": (280, 88),
  # Large parts of the kernel with a history of faults.
  "bpf": (321, 280),
  "perf_event_open": (298, 241),
  "userfaultfd": (323, 282),
  "io_uring_setup": (425, 425),
  "io_uring_enter": (426, 426),
  "io_uring_register": (427, 427),
  "add_key": (248, 217),
  "request_key": (249, 218),
  "keyctl": (250, 219),
  "fanotify_init": (300, 262),
  "personality": (135, 92),
  # The machine.
  "kexec_load": (246, 104),
  "kexec_file_load": (320, 294),
  "init_module": (175, 105),
  "finit_module": (313, 273),
  "delete_module": (176, 106),
  "reboot": (169, 142),
  "swapon": (167, 224),
  "swapoff": (168, 225),
  "acct": (163, 89),
  "syslog": (103, 116),
  "quotactl": (179, 60),
  "quotactl_fd": (443, 443),
  "settimeofday": (164, 170),
  "clock_settime": (227, 112),
  "clock_adjtime": (305, 266),
  "adjtimex": (159, 171),
  "sethostname": (170, 161),
  "setdomainname": (171, 162),
  "iopl": (172, None),
  "ioperm": (173, None),
  # Its share of the machine: what others measure depends on it.
  "sched_setaffinity": (203, 122),
  "sched_setscheduler": (144, 119),
  "sched_setparam": (142, 118),
  "sched_setattr": (314, 274),
  "setpriority": (141, 140),
  "ioprio_set": (251, 30),
}
# Allowed for this process alone; the first argument says which is meant.
_ONLY_SELF = {
  "kill": (62, 129),
  "tgkill": (234, 131),
  "rt_sigqueueinfo": (129, 138),
  "rt_tgsigqueueinfo": (297, 240),
}
_CLONE = (56, 220)
_CLONE3 = 435
_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000 | 0x80  # a namespace of any kind
_LAST = 450  # the newest call that was looked at for this list

# <linux/audit.h>, by column above.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# <linux/bpf_common.h>, <linux/seccomp.h>
_LOAD, _EQUAL, _GREATER, _SET, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_FILTER_MODE = 2


class _Program(ctypes.Structure):
  _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def supported() -> bool:
  """Whether the filter is written for this machine."""
  return os.uname().sysname == "Linux" and platform.machine() in _MACHINES


def install() -> None:
  """Puts the filter on this process, for good.

  Raises:
    OSError: if the kernel has no such filters, or the machine is not known.
  """
  if not supported():
    raise OSError(errno.ENOSYS, f"seccomp: not for {platform.machine()}")
  code = assemble(platform.machine(), os.getpid())
  kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
  program = _Program(len(code) // 8, code)
  kernel.prctl(kernel.PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program))


def assemble(machine: str, pid: int) -> bytes:
  """Returns the filter's instructions, 8 bytes each.

  Args:
    machine: "x86_64" or "aarch64".
    pid: the process that may signal itself.
  """
  column, architecture = _MACHINES[machine]
  refuse = _ERROR | errno.EPERM
  unknown = _ERROR | errno.ENOSYS
  # (code, jump if true, jump if false, constant); jumps count instructions.
  lines = [
    (_LOAD, 0, 0, _ARCHITECTURE),
    (_EQUAL, 1, 0, architecture),
    (_RETURN, 0, 0, _KILL),
    (_LOAD, 0, 0, _NUMBER),
    (_GREATER, 0, 1, _LAST),  # x32 calls are too
    (_RETURN, 0, 0, unknown),
    # Its flags are in memory that changes; the C library falls back to clone.
    (_EQUAL, 0, 1, _CLONE3),
    (_RETURN, 0, 0, unknown),
    (_EQUAL, 0, 5, _CLONE[column]),
    (_LOAD, 0, 0, _FIRST_ARGUMENT),
    (_SET, 2, 0, _CLONE_NEW),
    (_SET, 0, 1, _CLONE_THREAD),
    (_RETURN, 0, 0, _ALLOW),
    (_RETURN, 0, 0, refuse),
  ]
  for numbers in _ONLY_SELF.values():
    lines += [
      (_EQUAL, 0, 4, numbers[column]),
      (_LOAD, 0, 0, _FIRST_ARGUMENT),
      (_EQUAL, 0, 1, pid),
      (_RETURN, 0, 0, _ALLOW),
      (_RETURN, 0, 0, refuse),
    ]
  for numbers in _DENIED.values():
    number = numbers[column]
    if number is not None:
      lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
  lines.append((_RETURN, 0, 0, _ALLOW))
  return b"".join(struct.pack("=HBBI", *line) for line in lines)
