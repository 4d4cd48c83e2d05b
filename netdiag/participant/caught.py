"""Verbs that take a run's probes away behind all filters of this host, so that no program here ever gets them.

A chain of ours stands behind all others at INPUT and drops the datagrams that carry the run's mark. That one came so
far is the proof that every filter let it through, and nobody who listens on its port is disturbed.
"""

import errno
import socket
import struct
import time
from typing import Any, Dict, List, Tuple

from netdiag.participant import nftables, sweep
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import WITHHELD, VerbError
from netdiag.participant.life import new_table_name
from netdiag.participant.marks import Mark, mark_of
from netdiag.participant.netlink import HEADER
from netdiag.participant.netns import in_netns, namespace_of
from netdiag.participant.nftables import META_L4PROTO, TRANSPORT, Chain, meta_is, payload_is
from netdiag.participant.running import Running, result
from netdiag.participant.trace_events import (
    NETWORK_HEADER,
    TABLE,
    TRACE_MESSAGE,
    TRANSPORT_HEADER,
    attributes,
    word,
)

MOST_CAUGHT = 16384


def catch_start(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """Begin to take away what carries the run's mark: datagrams, VXLAN and protocol 50, never TCP.

    Parameters: ``mark`` (see `marks.mark_of`), ``netns``, ``level`` ("owned-trace", or "swept-trace": a table without an owner),
    ``may_load`` (nf_tables may be loaded), ``seconds`` (after which it ends by itself, 120 at most). Data: ``id``.
    Errors: withheld, permission, missing, unsupported, timeout, failed.
    """
    if not params.get("may_load"):
        raise VerbError(WITHHELD, "take probes away behind the filters: it could load nf_tables")
    caught = in_netns(namespace_of(params), lambda: _Caught(params, deadline), deadline)
    running = Running([caught.socket.fileno()], caught.read, caught.close, float(params.get("seconds") or 30.0))
    running.result = caught.row
    return {"id": running.identity}


def catch_stop(params: Dict[str, Any], deadline: Deadline) -> Dict[str, Any]:
    """End it, and tell what came so far.

    Parameters: ``id``; ``settle_ms`` (how long it goes on for what is on the way; default 0); ``keep`` (only tell, and
    go on). Data: ``numbers`` (of the
    probes that came, one for each packet, in order), ``lost`` (the kernel could not tell of all). Errors: missing.
    """
    time.sleep(min(float(params.get("settle_ms") or 0) / 1000.0, deadline.left()))
    return result(params, "stop taking probes away")


class _Caught:
    def __init__(self, params: Dict[str, Any], deadline: Deadline) -> None:
        self._mark = mark_of(str(params["mark"]))
        self._name = new_table_name()
        self._numbers: List[int] = []
        self._lost = False
        sweep.sweep(deadline)
        self.socket: socket.socket = nftables.open_traces("listen to trace events")
        try:
            chains = [Chain(nftables.NFPROTO_INET, "end-input", nftables.INPUT, nftables.LAST, "", _rules(self._mark))]
            self._table = nftables.make_table(str(params.get("level") or ""), self._name, chains, deadline)
        except BaseException:
            self.socket.close()
            raise

    def read(self, _descriptor: int) -> None:
        """Take one datagram of events."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError as error:
            self._lost = self._lost or error.errno == errno.ENOBUFS
            return
        offset = 0
        while offset + HEADER.size + 4 <= len(data):
            length, kind = struct.unpack_from("=IH", data, offset)
            if length < HEADER.size:
                break
            if kind == TRACE_MESSAGE:
                self._take(attributes(data[offset + HEADER.size + 4 : offset + length]))
            offset += (length + 3) & ~3

    def _take(self, found: Dict[int, bytes]) -> None:
        # The headers come with the first event of a packet at a base chain, and with no other.
        if word(found.get(TABLE)) != self._name or TRANSPORT_HEADER not in found or NETWORK_HEADER not in found:
            return
        number = self._mark.number_of(found[TRANSPORT_HEADER][8:])
        if number is not None and len(self._numbers) < MOST_CAUGHT:
            self._numbers.append(number)

    def close(self) -> None:
        """Let go of the table and of the events."""
        self._table.close()
        self.socket.close()

    def row(self) -> Dict[str, Any]:
        """What was seen."""
        return {"numbers": list(self._numbers), "lost": self._lost}


def _rules(mark: Mark) -> Tuple[bytes, ...]:
    udp, esp = (meta_is(META_L4PROTO, bytes([number])) for number in (17, 50))
    plain = payload_is(TRANSPORT, 8, mark.raw)
    matches = (udp + plain, udp + payload_is(TRANSPORT, 16, mark.inner_mac), esp + plain)
    # The first rule of a pair has the second one reported, which takes the packet away.
    return tuple(rule for match in matches for rule in (match + nftables.set_trace(), match + nftables.drop()))
