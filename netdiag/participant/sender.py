"""A packet of the host's own: from a real socket where one can send it, else from a raw one."""

import errno
import os
import socket
import struct

from netdiag.participant import packets
from netdiag.participant.errors import from_os_error

TOLD_TO_THE_SENDER = (errno.EPERM, errno.EINPROGRESS, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""How a dropping or rejecting OUTPUT chain shows itself to who sends."""
_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ, _TCP_SEND_QUEUE = 19, 20, 21, 2


def set_initial_sequence(sock: socket.socket, number: int) -> None:
    """Have a closed TCP socket begin with this sequence number, so that its SYN is known by more than its tuple.

    TCP_REPAIR allows it to root (net/ipv4/tcp.c). Raises OSError as the kernel does.
    """
    for option, value in ((_TCP_REPAIR, 1), (_TCP_REPAIR_QUEUE, _TCP_SEND_QUEUE)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, struct.pack("=I", number))
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)


class Sender:
    """The packet of a host's own: a real socket where one can send it, else a raw one."""

    def __init__(self, flow: packets.Flow) -> None:
        self.flow = flow
        self._kind = socket.AF_INET6 if flow.six else socket.AF_INET
        self._whole = False
        try:
            if flow.protocol == 6 and (flow.flags != packets.TCP_FLAGS["syn"] or flow.length):
                self._raw()
            elif flow.protocol == 6:
                self._tcp()
            elif flow.protocol == 17:
                self._bound(socket.SOCK_DGRAM, 0)
            else:
                self._bound(socket.SOCK_RAW, flow.protocol)
        except OSError as error:
            raise from_os_error(error, "open the socket that sends the packet")

    def send(self) -> None:
        """Send it. Raises OSError as the kernel does."""
        flow = self.flow
        if self._whole:
            self._sock.sendto(packets.packet(flow), flow.place(flow.destination, 0))
        elif flow.protocol == 6:
            self._sock.connect(flow.place(flow.destination, flow.dport))
        elif flow.protocol == 17:
            self._sock.sendto(packets.payload(flow), flow.place(flow.destination, flow.dport))
        else:
            self._sock.sendto(packets.after_ip(flow), flow.place(flow.destination, 0))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _bound(self, kind: int, protocol: int) -> None:
        self._sock = socket.socket(self._kind, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        self._sock.bind(self.flow.place(self.flow.source, self.flow.sport))
        if kind != socket.SOCK_RAW:
            self.flow = self.flow._replace(sport=self._sock.getsockname()[1])
        if self.flow.six:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, self.flow.ttl)
        else:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, self.flow.ttl)

    def _tcp(self) -> None:
        self._bound(socket.SOCK_STREAM, 0)
        number = struct.unpack(">I", self.flow.tag)[0] or 1
        set_initial_sequence(self._sock, number)
        self.flow = self.flow._replace(tag=struct.pack(">I", number))

    def _raw(self) -> None:
        self._whole = True
        self._sock = socket.socket(self._kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        self.flow = self.flow._replace(sport=self.flow.sport or 40000 + os.getpid() % 20000)
