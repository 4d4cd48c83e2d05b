"""The verb that asks on a network who has an address, and tells every hardware address that answers.

The question is an ARP probe (RFC 5227): it names no sender address, so that no neighbour's entries change by it.
"""

import select
import socket
import struct
import time
from typing import Any, Dict, List

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError, from_os_error
from netdiag.participant.netns import in_netns, namespace_of

MOST_ATTEMPTS, MOST_WAIT_MS = 5, 2000
_ETH_P_ARP, _ETH_P_IP = 0x0806, 0x0800
_ETHERNET = 1
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6


def arp_ask(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Ask who has an IPv4 address, on one device.

    Parameters: ``address``, ``device``, ``netns``; ``attempts`` (how often it is asked, default 2, 5 at most),
    ``wait_ms`` (how long answers are waited for after each, default 150). All answers are waited for: two machines may
    have one address. Data: ``sent``; ``answers``: each ``mac`` and ``count``, the first to answer first. Errors:
    unsupported (an address of IPv6, a device that has no ARP), permission, missing, failed.
    """
    address, device = str(params["address"]), str(params["device"])
    if ":" in address:
        raise VerbError(UNSUPPORTED, "ask by ARP for {}: only IPv4".format(address))
    attempts = max(1, min(MOST_ATTEMPTS, int(params.get("attempts") or 2)))
    wait_s = min(MOST_WAIT_MS, float(params.get("wait_ms") or 150)) / 1000.0

    def work() -> Dict[str, Any]:
        return _ask(socket.inet_aton(address), device, attempts, wait_s, deadline)

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))


def _ask(target: bytes, device: str, attempts: int, wait_s: float, deadline: Deadline) -> Dict[str, Any]:
    counts: Dict[str, int] = {}
    order: List[str] = []
    sent = 0
    tried = "ask by ARP on " + device
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except OSError as error:
        raise from_os_error(error, tried)
    with sock:
        try:
            sock.bind((device, _ETH_P_ARP))
            own, kind = sock.getsockname()[4][:6], sock.getsockname()[3]
            if kind != _ETHERNET:
                raise VerbError(UNSUPPORTED, tried + ": it has no ARP")
            sock.setblocking(False)
            frame = request(own, target)
            for _ in range(attempts):
                sock.send(frame)
                sent += 1
                end_s = time.monotonic() + min(wait_s, deadline.left())
                while True:
                    left_s = end_s - time.monotonic()
                    if left_s <= 0 or not select.select([sock], [], [], left_s)[0]:
                        break
                    mac = answered(sock.recv(128), own, target)
                    if mac:
                        counts[mac] = counts.get(mac, 0) + 1
                        if mac not in order:
                            order.append(mac)
        except OSError as error:
            raise from_os_error(error, tried)
    return {"sent": sent, "answers": [{"mac": mac, "count": counts[mac]} for mac in order]}


def request(own: bytes, target: bytes) -> bytes:
    """The frame of a probe for ``target`` (RFC 826, RFC 5227 §2.1.1)."""
    head = _BROADCAST + own + struct.pack(">H", _ETH_P_ARP)
    return head + struct.pack(">HHBBH", _ETHERNET, _ETH_P_IP, 6, 4, _REQUEST) + own + bytes(4) + bytes(6) + target


def answered(frame: bytes, own: bytes, target: bytes) -> str:
    """The hardware address in a reply that says who has ``target``; empty for any other frame, our own too."""
    if len(frame) < 42 or struct.unpack_from(">HHBBH", frame, 14) != (_ETHERNET, _ETH_P_IP, 6, 4, _REPLY):
        return ""
    sender, address = frame[22:28], frame[28:32]
    if address != target or sender == own:
        return ""
    return ":".join("{:02x}".format(byte) for byte in sender)
