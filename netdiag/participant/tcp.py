"""Verbs that resolve a name and connect: a real socket, and everything that came back told apart."""

import errno
import os
import select
import socket
import struct
import time
from typing import Any, Dict, Optional, Tuple

from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import FAILED, MISSING, TIMEOUT, VerbError
from netdiag.participant.errqueue import read_errors, report_icmp_errors
from netdiag.participant.netns import call_within, in_netns, namespace_of
from netdiag.participant.user import owned_socket

TCP_MAXSEG, TCP_INFO = 2, 11


def resolve(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """The addresses of a name, as this host's own resolver orders them. An address resolves to itself.

    Parameters: ``name``. Data: ``addresses`` (text, without repeats). Errors: missing (the name does not exist, or has
    no address), timeout (also: the resolver gave up for now), failed.
    """
    name = str(params["name"])
    tried = "resolve " + name

    def work() -> Dict[str, Any]:
        try:
            rows = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
        except socket.gaierror as error:
            kind = TIMEOUT if error.errno == socket.EAI_AGAIN else MISSING
            raise VerbError(kind, "{}: {}".format(tried, error.strerror))
        except UnicodeError:
            raise VerbError(FAILED, tried + ": not a name")
        addresses = []
        for row in rows:
            if row[4][0] not in addresses:
                addresses.append(row[4][0])
        return {"addresses": addresses}

    return call_within(work, deadline, tried)


def tcp_connect(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """One TCP connection attempt, closed again at once.

    Parameters: ``address``, ``port``, ``source`` (optional local address), ``netns``, and whose the socket is: ``as_pid``
    (the user and group of this process), or ``as_user`` and ``as_group``; by default this process's own. The request's time-out is how
    long to wait. Data: ``connected`` (bool); ``timed_out`` (bool: nothing decisive came); ``errno`` and ``error`` (0
    and "" unless it failed); ``source``, ``source_port`` (what routing chose, "" and 0 when it chose nothing);
    ``elapsed_us``; ``user`` (whose it was); ``syns`` (how often the SYN was sent, None when the kernel does not say); ``icmp``: the ICMP errors
    that came, each {``errno``, ``error``, ``origin``, ``type``, ``code``, ``info``, ``offender``}. ECONNREFUSED with no
    ICMP error is a RST; EHOSTUNREACH whose offender is ``source`` itself is a neighbour that answers neither ARP nor
    ND. Errors: missing (namespace), failed (an address that is none).
    """

    def work() -> Dict[str, Any]:
        sock, report = connect(params, deadline)
        if sock is not None:
            sock.close()
        return report

    return in_netns(namespace_of(params), work, Deadline(deadline.left() + 0.2))


def connect(params: Dict[str, Any], deadline: Deadline) -> Tuple[Optional[socket.socket], Dict[str, Any]]:
    """A connected, non-blocking socket or None, and the report of ``tcp-connect``."""
    address, port = str(params["address"]), int(params["port"])
    source = str(params.get("source") or "")
    tried = "connect to {} port {}".format(address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        target = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]
        with owned_socket(params) as user:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise VerbError(FAILED, "{}: {}".format(tried, error.strerror))
    report: Dict[str, Any] = {
        "connected": False,
        "timed_out": False,
        "errno": 0,
        "error": "",
        "source": "",
        "source_port": 0,
        "elapsed_us": 0,
        "syns": None,
        "user": user,
        "icmp": [],
    }
    start_s = time.monotonic()
    try:
        sock.setblocking(False)
        report_icmp_errors(sock)
        if source:
            sock.bind((source, 0))
        number = sock.connect_ex(target)
        if number == errno.EINPROGRESS:
            report["source"], report["source_port"] = sock.getsockname()[:2]
            number = _await(sock, deadline, report)
        elif number == 0:
            report["source"], report["source_port"] = sock.getsockname()[:2]
            report["connected"] = True
    except OSError as error:
        # A source address that this host does not have, most often.
        number = error.errno or errno.EIO
    report["elapsed_us"] = int((time.monotonic() - start_s) * 1e6)
    if report["connected"]:
        return sock, report
    report["errno"], report["error"] = number, os.strerror(number) if number else ""
    for error_row in read_errors(sock):
        del error_row["payload"]
        report["icmp"].append(error_row)
    sock.close()
    return None, report


def _await(sock: socket.socket, deadline: Deadline, report: Dict[str, Any]) -> int:
    """Wait for the handshake's end; the errno that ended it, 0 when it succeeded or when time is up."""
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    while True:
        left_s = deadline.left()
        # An error queue that is not empty wakes poll too, so a soft ICMP error must not be taken for the end.
        events = poller.poll(int(left_s * 1000) + 1) if left_s > 0 else []
        info = tcp_info(sock)
        report["syns"] = info["total_retransmits"] + 1 if info else None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            return number
        if events and _has_peer(sock):
            report["connected"] = True
            return 0
        if left_s <= 0:
            report["timed_out"] = True
            return 0
        if events:
            time.sleep(0.001)


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def tcp_info(sock: socket.socket) -> Dict[str, int]:
    """What struct tcp_info says of a connection (linux/tcp.h); empty when the kernel does not say.

    ``retransmits`` of the oldest unacknowledged segment, ``unacked`` segments, ``send_mss`` and ``path_mtu`` in bytes,
    ``total_retransmits``.
    """
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 192)
    except OSError:
        return {}
    if len(raw) < 104:
        return {}
    send_mss, _, unacked = struct.unpack_from("=III", raw, 16)
    return {
        "state": raw[0],
        "retransmits": raw[2],
        "send_mss": send_mss,
        "unacked": unacked,
        "path_mtu": struct.unpack_from("=I", raw, 60)[0],
        "total_retransmits": struct.unpack_from("=I", raw, 100)[0],
    }


def send_all(sock: socket.socket, data: bytes, deadline: Deadline) -> bool:
    """Send everything on a non-blocking socket; False when time was up first. Raises OSError as send does."""
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            if not poller.poll(int(deadline.left() * 1000) + 1) and deadline.left() <= 0:
                return False
    return True


def receive(sock: socket.socket, deadline: Deadline) -> Optional[bytes]:
    """What came next on a non-blocking socket; b"" when the peer closed, None when time was up."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while True:
        try:
            return sock.recv(65536)
        except BlockingIOError:
            left_s = deadline.left()
            if left_s <= 0:
                return None
            poller.poll(int(left_s * 1000) + 1)
