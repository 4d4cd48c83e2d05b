"""The error queue of a socket: which ICMP error came, from whom, about what (ip(7), IP_RECVERR)."""

import os
import socket
import struct
from typing import Any, Dict, List

IP_MTU_DISCOVER, IP_RECVERR = 10, 11
IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_DONTFRAG = 23, 25, 62
PMTUDISC_PROBE = 3
"""Set DF and ignore what the kernel has learnt of the path's MTU (both families)."""
MSG_ERRQUEUE = 0x2000
ORIGINS = {1: "local", 2: "icmp", 3: "icmp6"}
_EXTENDED_ERROR = struct.Struct("=IBBBBII")


def report_icmp_errors(sock: socket.socket) -> None:
    """Have the kernel queue every ICMP error for ``sock``, not only those that it finds fatal."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def read_errors(sock: socket.socket) -> List[Dict[str, Any]]:
    """All queued errors of a non-blocking socket, oldest first.

    Each is {``errno``, ``origin`` (local, icmp, icmp6), ``type``, ``code``, ``info`` (the MTU, for "too big"),
    ``offender`` (address of the sender, "" when local), ``payload`` (bytes: the beginning of what was sent)}.
    """
    errors: List[Dict[str, Any]] = []
    while True:
        try:
            payload, control, _, _ = sock.recvmsg(2048, 1024, MSG_ERRQUEUE)
        except OSError:
            return errors
        for level, kind, data in control:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                error = _decode(data)
                error["payload"] = payload
                errors.append(error)


def _decode(data: bytes) -> Dict[str, Any]:
    number, origin, kind, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
    return {
        "errno": number,
        "error": os.strerror(number),
        "origin": ORIGINS.get(origin, str(origin)),
        "type": kind,
        "code": code,
        "info": info,
        "offender": _address(data[_EXTENDED_ERROR.size :]),
    }


def _address(raw: bytes) -> str:
    """The address in a struct sockaddr_in or sockaddr_in6; "" when there is none."""
    if len(raw) < 2:
        return ""
    family = struct.unpack_from("=H", raw)[0]
    if family == socket.AF_INET and len(raw) >= 8:
        return socket.inet_ntop(family, raw[4:8])
    if family == socket.AF_INET6 and len(raw) >= 24:
        return socket.inet_ntop(family, raw[8:24])
    return ""
