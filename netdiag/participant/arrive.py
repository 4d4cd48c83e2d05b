"""Putting a frame on a real interface as if it had come over the wire, without a peer.

A non-persistent TAP carries a BPF program of a few instructions that redirects what is written to it into another
device's receive path (bpf_redirect with BPF_F_INGRESS). The device is held by a descriptor only, and the program hangs
on the device: the kernel removes both with the process. From kernel 6.6 the program is attached by TCX, before that by a
clsact qdisc (4.5) with a filter. Sources: linux/if_tun.h, linux/bpf.h, net/core/filter.c, net/sched/cls_bpf.c.
"""

import errno
import fcntl
import os
import socket
import struct
from typing import List, Optional

from netdiag.participant import bpf
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_errno, from_os_error
from netdiag.participant.netlink import (
    NETLINK_ROUTE,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    attribute,
    open_netlink,
    request,
)

NAME = "netdiag-t%d"
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8914, 0x8927
_IFF_UP = 1
_ARPHRD_ETHER = 1
_NEWQDISC, _NEWTFILTER = 36, 44
_CLSACT, _CLSACT_INGRESS = 0xFFFFFFF1, 0xFFFFFFF2
_ETH_P_ALL = 3
_ATTACH_S = 2.0


class Arrival:
    """A way into one device of the calling thread's namespace; `close` it, or let the process end."""

    def __init__(self, device: str, clsact: bool = False) -> None:
        """Make it. Raises VerbError: missing (no such device, no /dev/net/tun), unsupported (kernel), permission.

        ``clsact`` takes the way of kernels before 6.6 on any kernel.
        """
        self._clsact = clsact
        self._descriptors: List[int] = []
        self._tried = "have a packet arrive on " + device
        try:
            index = socket.if_nametoindex(device)
            self.mac = self._address(device)
            self._tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            self._descriptors.append(self._tap)
            raw = struct.pack("16sH22x", NAME.encode("ascii"), _IFF_TAP | _IFF_NO_PI)
            name = fcntl.ioctl(self._tap, _TUNSETIFF, raw)[:16].split(b"\0")[0].decode("ascii")
            self._redirect(socket.if_nametoindex(name), index)
            self._raise(name)
        except OSError as error:
            self.close()
            raise from_os_error(error, self._tried)
        except BaseException:
            self.close()
            raise

    def send(self, source: bytes, kind: int, packet: bytes, destination: Optional[bytes] = None) -> None:
        """Have one packet arrive in a frame from the MAC address ``source``. Raises OSError as the kernel refuses.

        ``destination`` is the frame's other address, by default the device's own. The kernel judges it as it does for
        a frame from the wire: what is addressed to another station reaches a bridge, but not this host's IP.
        """
        os.write(self._tap, (destination or self.mac) + source + struct.pack(">H", kind) + packet)

    def close(self) -> None:
        """Remove device and program."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _address(self, device: str) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("16s24x", device.encode("utf-8")))
        kind = struct.unpack_from("=H", answer, 16)[0]
        if kind != _ARPHRD_ETHER:
            raise VerbError(UNSUPPORTED, self._tried + ": it is no Ethernet device")
        return bytes(answer[18:24])

    def _raise(self, name: str) -> None:
        # Our own device must not speak: without this it would send router solicitations.
        try:
            with open("/proc/sys/net/ipv6/conf/{}/disable_ipv6".format(name), "w") as setting:
                setting.write("1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES):
                raise
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode("ascii")))
            flags = struct.unpack_from("=H", answer, 16)[0] | _IFF_UP
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode("ascii"), flags))

    def _redirect(self, tap: int, target: int) -> None:
        """Load and attach: what is written to the TAP belongs to ``target``'s receive path.

        Whom the packet is for is left to the kernel: dev_forward_skb forgets what the TAP made of the frame's
        destination and compares it with the target's own address.
        """
        program = b"".join(
            (
                bpf.instruction(0xB7, 1, target),
                bpf.instruction(0xB7, 2, 1),  # BPF_F_INGRESS
                bpf.instruction(0x85, 0, bpf.REDIRECT),
                bpf.instruction(0x95, 0, 0),
            )
        )
        loaded = bpf.load(program)
        self._descriptors.append(loaded)
        link = -1 if self._clsact else bpf.attach_tcx(loaded, tap, bpf.TCX_INGRESS)
        if link < 0:
            self._attach_clsact(loaded, tap)
        else:
            self._descriptors.append(link)

    def _attach_clsact(self, loaded: int, tap: int) -> None:
        """Attach by a qdisc and a filter on the TAP, which go with it."""
        kind = attribute(1, b"clsact\0")
        self._route(_NEWQDISC, struct.pack("=BxxxiIII", 0, tap, 0xFFFF0000, _CLSACT, 0) + kind)
        # TCA_BPF_FD 6, TCA_BPF_NAME 7, TCA_BPF_FLAGS 8 with TCA_BPF_FLAG_ACT_DIRECT
        options = attribute(6, struct.pack("=I", loaded)) + attribute(7, b"netdiag\0")
        options += attribute(8, struct.pack("=I", 1))
        info = 1 << 16 | socket.htons(_ETH_P_ALL)
        head = struct.pack("=BxxxiIII", 0, tap, 0, _CLSACT_INGRESS, info)
        self._route(_NEWTFILTER, head + attribute(1, b"bpf\0") + attribute(2 | NLA_F_NESTED, options))

    def _route(self, kind: int, body: bytes) -> None:
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        with open_netlink(NETLINK_ROUTE, self._tried, 1 << 16, False) as sock:
            answer = request(sock, kind, flags, body, Deadline(_ATTACH_S), self._tried)
        if answer["errno"] in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
            text = "{}: the kernel has neither TCX (6.6) nor clsact with cls_bpf".format(self._tried)
            raise VerbError(UNSUPPORTED, "{} ({})".format(text, answer["text"]))
        if answer["errno"]:
            raise from_errno(answer["errno"], self._tried)
