"""The addresses that this host has, in every network namespace."""

import ipaddress
import struct
import threading
import time
from typing import Any, Dict, List, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import VerbError
from netdiag.participant.netlink import netlink_dump
from netdiag.participant.system import namespaces
from netdiag.participant.trace_events import attributes

FRESH_S = 3.0
"""How long the addresses are taken to be what they were."""
RTM_GETADDR = 22


class OwnAddresses:
    """The addresses of this host's namespaces, read anew when they are not fresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Dict[str, Tuple[float, List[Any]]] = {}
        self._everywhere: Tuple[float, List[Any]] = (0.0, [])

    def of(self, netns: str) -> List[Any]:
        """The interfaces' addresses (`ipaddress.ip_interface`) in a namespace; none when it cannot be read."""
        now_s = time.monotonic()
        with self._lock:
            read_s, found = self._found.get(netns, (-FRESH_S, []))
        if now_s - read_s < FRESH_S:
            return found
        try:
            found = _interfaces(netlink_dump({"type": RTM_GETADDR, "netns": netns}, Deadline(2.0))["messages"])
        except VerbError:
            found = []
        with self._lock:
            self._found[netns] = (now_s, found)
        return found

    def anywhere(self, address: Any) -> bool:
        """Whether a namespace of this host has the address."""
        now_s = time.monotonic()
        with self._lock:
            read_s, paths = self._everywhere
        if not paths or now_s - read_s >= FRESH_S:
            rows = namespaces({}, Deadline(3.0))["namespaces"]
            paths = [row["paths"][0] for row in rows if row["paths"] and not row["own"]]
            with self._lock:
                self._everywhere = (now_s, paths)
        return any(address == here.ip for path in [""] + paths for here in self.of(path))


def _interfaces(messages: bytes) -> List[Any]:
    """What RTM_NEWADDR messages say (rtnetlink(7): struct ifaddrmsg; IFA_LOCAL is the own end of a pair)."""
    found: List[Any] = []
    offset = 0
    while offset + 24 <= len(messages):
        (length,) = struct.unpack_from("=I", messages, offset)
        if length < 24:
            break
        prefix = messages[offset + 17]
        values = attributes(messages[offset + 24 : offset + length])
        packed = values.get(2) or values.get(1)
        if packed and len(packed) in (4, 16):
            found.append(ipaddress.ip_interface("{}/{}".format(ipaddress.ip_address(packed), prefix)))
        offset += (length + 3) & ~3
    return found
