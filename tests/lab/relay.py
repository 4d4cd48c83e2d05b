"""A link of its own between two lab hosts, through this process: any kind of device, any delay."""

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import select
import struct
import threading
import time
from pathlib import Path

ADDRESSES = ("172.31.9.1", "172.31.9.2")
_TUNSETIFF, _KINDS, _NO_PI = 0x400454CA, {"tun": 1, "tap": 2}, 0x1000
_NEWNET = 0x40000000


def _device(host, kind, address):
    """A tun (no link header) or tap device in a host; the descriptor holds it."""
    made = []

    def work():
        with Path(f"/proc/{host.pid}/ns/net").open("rb") as namespace:
            assert ctypes.CDLL(None).setns(namespace.fileno(), _NEWNET) == 0
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"tn", _KINDS[kind] | _NO_PI))
        made.append(descriptor)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    host.exec(["sh", "-c", f"ip addr add {address}/30 dev tn; ip link set tn up"])
    return made[0]


@contextlib.contextmanager
def relay(hosts, kind, delay_s=0.0):
    """Give two hosts a device ``tn`` each, with `ADDRESSES`, and carry what one sends to the other."""
    ends = [_device(host, kind, address) for host, address in zip(hosts, ADDRESSES, strict=True)]
    stop = threading.Event()
    thread = threading.Thread(target=_carry, args=(ends, delay_s, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for end in ends:
            os.close(end)


def _carry(ends, delay_s, stop):
    order, waiting = itertools.count(), []
    while not stop.is_set():
        now_s = time.monotonic()
        while waiting and waiting[0][0] <= now_s:
            _, _, end, data = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(end, data)
        left_s = min(0.05, max(0.0, waiting[0][0] - now_s)) if waiting else 0.05
        for end in select.select(ends, [], [], left_s)[0]:
            item = (time.monotonic() + delay_s, next(order), ends[end == ends[0]], os.read(end, 65536))
            heapq.heappush(waiting, item)
