"""Verbs that hold ports of this host for a bounded time, so that a probe to one finds somebody.

A port that a program here holds is left alone. Whoever holds one answers nothing but the tag of a probe of the run.
"""

import errno
import os
import socket
import struct
import time
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, VerbError
from netdiag.participant.marks import ANSWER, Mark, mark_of
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.running import Running, result

MOST_PORTS = 16
MOST_GOT = 16384
_BACKLOG = 256
_SO_RCVBUFFORCE, _ROOM_BYTES = 33, 8 << 20


def bind_port(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Hold ports of this host. Answers when every one that is free is held.

    Parameters: ``ports`` (each with ``proto``: tcp, udp or esp, and ``port``; 0 is any that is free), ``mark`` (see
    `marks.mark_of`), ``address`` (on which they are held; by default every one of the host's), ``six`` (IPv6 instead of
    IPv4, where there is no ``address``), ``peers`` (addresses whose datagrams are answered; by default nobody's),
    ``netns``, ``seconds`` (after which they are released, 120 at most). A port that somebody here holds on any address is
    left to him. To a datagram of the mark from a peer its tag is sent back as an answer, from the port it came to; a
    connection is accepted and closed; everything else, answers too, is left without one. Data: ``id`` and ``ports``, each with ``proto``, ``port``,
    ``bound``, ``errno`` and ``error`` (of one that could not be had: mostly that somebody holds it). Errors: failed.
    """
    wanted = [(str(each["proto"]), int(each.get("port") or 0)) for each in params["ports"]]
    if not wanted or len(wanted) > MOST_PORTS:
        raise VerbError(FAILED, "hold {} ports: 1 to {}".format(len(wanted), MOST_PORTS))
    mark = mark_of(str(params["mark"]))
    address = str(params.get("address") or ("::" if params.get("six") else "0.0.0.0"))
    peers = frozenset(str(each) for each in params.get("peers") or ())

    def hold() -> List["_Port"]:
        listed = {proto: _listed(proto) for proto in ("tcp", "udp")}
        taken = {(proto, port) for proto, rows in listed.items() for _, port in rows}
        return [_Port(proto, port, address, mark, peers, (proto, port) in taken) for proto, port in wanted]

    held = in_netns(namespace_of(params), hold, deadline)
    by_descriptor = {each.socket.fileno(): each for each in held if each.socket is not None}
    start_s = time.monotonic()

    def close() -> None:
        for each in held:
            if each.socket is not None:
                each.socket.close()

    running = Running(
        list(by_descriptor),
        lambda descriptor: by_descriptor[descriptor].take(start_s),
        close,
        float(params.get("seconds") or 30.0),
    )
    running.result = lambda: {"ports": [each.row() for each in held]}
    rows = [
        {"proto": each.proto, "port": each.port, "bound": each.bound, "errno": each.errno, "error": each.error}
        for each in held
    ]
    return {"id": running.identity, "ports": rows}


def release_port(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Let go of ports that were held, and tell what came to them.

    Parameters: ``id``; ``settle_ms`` (how long they are held on for what is on the way; default 0); ``keep`` (only
    tell, and hold them on). Data: ``ports``:
    each with ``proto``, ``port``, ``got`` (datagrams of the mark, each ``number`` (of the probe), ``source``, ``sport``,
    ``t_us`` since the start) and ``others`` (how many connections there were, and datagrams of anybody else).
    Errors: missing.
    """
    time.sleep(min(float(params.get("settle_ms") or 0) / 1000.0, deadline.left()))
    return result(params, "release ports")


def port_holders(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Who holds ports of this host, from the kernel's tables of sockets: none is held or tried.

    Parameters: ``ports`` (each with ``proto``: tcp or udp, and ``port``), ``netns``. Data: ``ports``, each with
    ``proto``, ``port`` and ``addresses`` (on which it is listened to, or which a datagram socket is bound to; "0.0.0.0"
    and "::" are all of the host's). Errors: missing, permission, failed.
    """
    wanted = [(str(each["proto"]), int(each["port"])) for each in params["ports"]]
    found = in_netns(namespace_of(params), lambda: {proto: _listed(proto) for proto in ("tcp", "udp")}, deadline)
    rows = [
        {"proto": proto, "port": port, "addresses": sorted({each for each, at in found.get(proto, []) if at == port})}
        for proto, port in wanted
    ]
    return {"ports": rows}


def _listed(proto: str) -> List[Tuple[str, int]]:
    """Address and port of every listener, or of every datagram socket that has no peer (net/ipv4/tcp_ipv4.c, udp.c)."""
    state = {"tcp": "0A", "udp": "07"}[proto]
    rows: List[Tuple[str, int]] = []
    for table in (proto, proto + "6"):
        try:
            with open("/proc/thread-self/net/" + table, encoding="ascii") as lines:
                next(lines, None)
                for line in lines:
                    words = line.split(None, 4)
                    if len(words) > 3 and words[3] == state:
                        address, _, port = words[1].partition(":")
                        rows.append((_address(address), int(port, 16)))
        except FileNotFoundError:
            continue  # a kernel without IPv6
    return rows


def _address(text: str) -> str:
    """An address of /proc/net: words of 32 bits in the host's own order."""
    raw = struct.pack("={}I".format(len(text) // 8), *(int(text[at : at + 8], 16) for at in range(0, len(text), 8)))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


class _Port:
    """One port."""

    def __init__(self, proto: str, port: int, address: str, mark: Mark, peers: FrozenSet[str], taken: bool) -> None:
        self.proto, self.port = proto, port
        self.bound, self.errno, self.error = False, 0, ""
        self._mark = mark
        self._address = address
        self._peers = peers
        self._got: List[Dict[str, Any]] = []
        self._others = 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kinds: Dict[str, Tuple[int, int]] = {
            "tcp": (socket.SOCK_STREAM, 0),
            "udp": (socket.SOCK_DGRAM, 0),
            "esp": (socket.SOCK_RAW, socket.IPPROTO_ESP),
        }
        if proto not in kinds:
            raise VerbError(FAILED, "hold a port of {}: only {}".format(proto, ", ".join(sorted(kinds))))
        self.socket: Optional[socket.socket] = None
        try:
            if taken:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            self.socket = self._opened(family, *kinds[proto])
            self.bound = True
        except OSError as error:
            self.errno, self.error = error.errno or 0, os.strerror(error.errno or 0)

    def _opened(self, family: int, kind: int, number: int) -> socket.socket:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, number)
        try:
            if self.proto == "tcp":
                # Connections that have ended do not keep a port from being free; whoever listens does.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_BYTES)
                except PermissionError:
                    pass  # what is lost for want of room is seen by its absence only, and only root may ask for more
            if family == socket.AF_INET6 and self.proto != "esp":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((self._address, self.port if self.proto != "esp" else 0))
            if self.proto == "tcp":
                sock.listen(_BACKLOG)
            if self.proto != "esp":
                self.port = sock.getsockname()[1]
        except OSError:
            sock.close()
            raise
        return sock

    def take(self, start_s: float) -> None:
        """Answer whatever has come."""
        if self.socket is None:
            return
        try:
            if self.proto == "tcp":
                connection, _ = self.socket.accept()
                connection.close()
                self._others += 1
                return
            data, address = self.socket.recvfrom(65536)
        except OSError:
            return
        if self.proto == "esp":
            data = data[8 + ((data[0] & 15) * 4 if self.socket.family == socket.AF_INET else 0) :]
        number = self._mark.number_of(data)
        if number is None:
            self._others += 1
            return
        if len(self._got) < MOST_GOT:
            t_us = int((time.monotonic() - start_s) * 1e6)
            self._got.append({"number": number, "source": address[0], "sport": address[1], "t_us": t_us})
        if self.proto == "udp" and not number & ANSWER and address[0] in self._peers:
            try:
                self.socket.sendto(self._mark.tag(number | ANSWER), address)
            except OSError:
                pass  # a filter of this host: the requester sees that no answer came

    def row(self) -> Dict[str, Any]:
        """What came to it."""
        return {"proto": self.proto, "port": self.port, "got": list(self._got), "others": self._others}
