"""Small BPF programs for traffic control, loaded and attached by bpf(2) itself; both vanish with their descriptors.

Sources: linux/bpf.h, kernel/bpf/tcx.c. TCX came with kernel 6.6.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Any, List, Sequence, Tuple

from netdiag.participant.errors import UNSUPPORTED, VerbError

TCX_INGRESS, TCX_EGRESS = 46, 47
NEXT, DROP = -1, 2
"""Return values at TCX: ask the next program, or drop."""
REDIRECT = 23
_LOAD_BYTES = 26
_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _LINK_CREATE = 5, 8, 9, 28
_PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _PROG_QUERY = 13, 15, 16
_MOST_PROGRAMS = 64
"""At one hook (BPF_MPROG_MAX)."""
_INFO_BYTES, _NAME_AT, _NAME_BYTES = 80, 64, 16
"""Of struct bpf_prog_info, as far as its name."""
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


def hang_tcx(program: int, device: int, where: int) -> None:
    """Attach a program (its descriptor) to a hook without a link: it stays when the descriptor is closed. Raises OSError."""
    _bpf(_PROG_ATTACH, struct.pack("=IIII", device, program, where, 0) + bytes(16))


def take_off_tcx(program: int, device: int, where: int) -> None:
    """Detach what `hang_tcx` attached. Raises OSError."""
    _bpf(_PROG_DETACH, struct.pack("=IIII", device, program, where, 0) + bytes(16))


def attached(device: int, where: int) -> List[Tuple[int, int]]:
    """The ids of the programs at one TCX hook of a device of the calling thread's namespace, and of their links.

    Raises OSError: EINVAL where the kernel has no TCX.
    """
    programs, links = (ctypes.create_string_buffer(4 * _MOST_PROGRAMS) for _ in range(2))
    attributes = struct.pack(
        "=IIIIQIIQQQQ",
        *(device, where, 0, 0, ctypes.addressof(programs), _MOST_PROGRAMS, 0),
        *(0, ctypes.addressof(links), 0, 0),
    )
    raw = ctypes.create_string_buffer(attributes, len(attributes))
    _call(_PROG_QUERY, raw)
    count = min(struct.unpack_from("=I", raw.raw, 24)[0], _MOST_PROGRAMS)
    numbers = [struct.unpack_from("={}I".format(count), each.raw) for each in (programs, links)]
    return list(zip(*numbers))


def by_id(program: int) -> int:
    """A descriptor of a loaded program. Raises OSError when it has gone."""
    return _bpf(_PROG_GET_FD_BY_ID, struct.pack("=III", program, 0, 0))


def name_of(program: int) -> str:
    """The name with which a program (its descriptor) was loaded; empty for one without. Raises OSError."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", program, _INFO_BYTES, ctypes.addressof(info)))
    return info.raw[_NAME_AT : _NAME_AT + _NAME_BYTES].split(b"\0")[0].decode("ascii", "replace")


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
    return _call(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _call(command: int, raw: Any) -> int:
    """bpf(2); the kernel may write into ``raw``."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise VerbError(UNSUPPORTED, "bpf(2) is not known on " + platform.machine())
    descriptor = _libc.syscall(ctypes.c_long(number), ctypes.c_int(command), ctypes.byref(raw), ctypes.c_uint(len(raw)))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, "bpf(2): " + os.strerror(error))
    return int(descriptor)
