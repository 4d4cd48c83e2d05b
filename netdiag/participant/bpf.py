"""Small BPF programs for traffic control, loaded and attached by bpf(2) itself; both vanish with their descriptors.

Sources: linux/bpf.h, kernel/bpf/tcx.c. TCX came with kernel 6.6.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import List, Sequence, Tuple

from netdiag.participant.errors import UNSUPPORTED, VerbError

TCX_INGRESS, TCX_EGRESS = 46, 47
NEXT, DROP = -1, 2
"""Return values at TCX: ask the next program, or drop."""
REDIRECT = 23
_LOAD_BYTES = 26
_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_LOAD, _LINK_CREATE = 5, 28
SCHED_CLS, XDP = 3, 6
"""Kinds of programs."""
_F_BEFORE = 8

_libc = ctypes.CDLL(None, use_errno=True)


def load(program: bytes, kind: int = SCHED_CLS) -> int:
    """The descriptor of a loaded program. Raises OSError, and VerbError unsupported."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"MIT")
    attributes = struct.pack("=IIQQ", kind, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence))
    return _bpf(_PROG_LOAD, attributes + bytes(48))


def attach_tcx(program: int, device: int, where: int) -> int:
    """The descriptor of a link, before all other programs of a device's hook; -1 when the kernel has no TCX."""
    try:
        return _bpf(_LINK_CREATE, struct.pack("=IIII", program, device, where, _F_BEFORE) + bytes(32))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return -1
        raise


def instruction(code: int, register: int, immediate: int, source: int = 0, offset: int = 0) -> bytes:
    """One instruction (struct bpf_insn); ``register`` is its destination."""
    return struct.pack("=BBhi", code, source << 4 | register, offset, immediate)


def drop_matching(alternatives: Sequence[Sequence[Tuple[int, bytes]]]) -> bytes:
    """A program for TCX that drops a frame in which all (offset, bytes) of one alternative are found, and no other.

    A frame that is too short does not match. Needs kernel 5.1 for the comparison of 32 bits.
    """
    program = instruction(0xBF, 6, 0, source=1)  # r6 = the frame: calls keep it
    for places in alternatives:
        steps: List[Tuple[bytes, bool]] = []
        for offset, value in places:
            for at in range(0, len(value), 4):
                steps += _compare(offset + at, value[at : at + 4])
        steps += [(instruction(0xB7, 0, DROP), False), (instruction(0x95, 0, 0), False)]
        for index, (step, leads_on) in enumerate(steps):
            # The offset of a jump counts from the next instruction.
            program += step[:2] + struct.pack("=h", len(steps) - index - 1) + step[4:] if leads_on else step
    return program + instruction(0xB7, 0, NEXT) + instruction(0x95, 0, 0)


_LOAD_SIZES = {1: 0x71, 2: 0x69, 4: 0x61}


def _compare(offset: int, value: bytes) -> List[Tuple[bytes, bool]]:
    """Instructions that go on when the frame has 1, 2 or 4 bytes at an offset; True marks a jump that leads on."""
    number = int.from_bytes(value, sys.byteorder)
    return [
        (instruction(0xBF, 1, 0, source=6), False),
        (instruction(0xB7, 2, offset), False),
        (instruction(0xBF, 3, 0, source=10), False),
        (instruction(0x07, 3, -8), False),  # r3 = room on the stack
        (instruction(0xB7, 4, len(value)), False),
        (instruction(0x85, 0, _LOAD_BYTES), False),
        (instruction(0x55, 0, 0), True),  # r0 != 0: the frame ends before
        (instruction(_LOAD_SIZES[len(value)], 0, 0, source=10, offset=-8), False),
        (instruction(0x56, 0, number - (1 << 32) if number >> 31 else number), True),
    ]


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise VerbError(UNSUPPORTED, "bpf(2) is not known on " + platform.machine())
    raw = ctypes.create_string_buffer(attributes, len(attributes))
    descriptor = _libc.syscall(
        ctypes.c_long(number), ctypes.c_int(command), ctypes.byref(raw), ctypes.c_uint(len(attributes))
    )
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, "bpf(2): " + os.strerror(error))
    return int(descriptor)
