"""Counters of a namespace, read from what kernels show."""

import socket
import struct
from pathlib import Path

from netdiag.facts.counters import gather_counters, proc_table, qdisc_drops, stat_table
from netdiag.facts.sockets import connections
from netdiag.host.drive import drive
from netdiag.host.local import LocalHost

NETSTAT = """TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 12 13
IpExt: InNoRoutes InOctets
IpExt: 3 98765432101
"""


def test_names_and_numbers_by_their_prefix():
    values = proc_table(NETSTAT)
    assert (values["TcpExt.ListenDrops"], values["IpExt.InOctets"]) == (13, 98765432101)


def test_a_table_that_is_cut_short_gives_what_is_whole():
    assert proc_table("TcpExt: A B\nTcpExt: 1") == {"TcpExt.A": 1}
    assert proc_table("TcpExt: A\nOther: 1") == {}
    assert proc_table("") == {}


def test_processors_are_added_up():
    assert stat_table("entries drop\n0000000a 00000001\n0000000a 00000002\n") == {"entries": 20, "drop": 3}


def test_what_hooks_dropped():
    def attribute(kind, value):
        return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def message(index, kind, drops):
        queue = attribute(7, attribute(3, struct.pack("<5I", 0, 0, drops, 0, 0)))
        body = struct.pack("<BxxxiIII", 0, index, 0, 0, 0) + attribute(1, kind + b"\0") + queue
        return struct.pack("<IHHII", 16 + len(body), 36, 0, 0, 0) + body

    data = message(2, b"clsact", 7) + message(2, b"fq_codel", 9) + message(3, b"ingress", 1)
    assert qdisc_drops(data, {2: "eth0"}) == {"qdisc.eth0.clsact.drops": 7, "qdisc.if3.ingress.drops": 1}
    assert qdisc_drops(data[:40], {2: "eth0"}) == {}


def test_this_host_shows_its_own():
    found = drive(gather_counters("", ["lo"]), LocalHost())
    assert found.values["link.lo.rx_packets"] >= 0
    assert "Ip.InReceives" in found.values
    assert found.settings["net.ipv4.conf.lo.rp_filter"].isdigit()


def test_a_connection_is_known_as_accepted_by_its_inode():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port, peer_port = server.getsockname()[1], client.getsockname()[1]

        def held():
            rows = connections(Path("/proc/net/tcp").read_text(encoding="ascii"))
            return [row for row in rows if (row.port, row.peer_port) == (port, peer_port)]

        (waiting,) = held()
        assert (waiting.address, waiting.state, waiting.accepted) == ("127.0.0.1", "established", False)
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"12345")
            (taken,) = held()
            assert (taken.accepted, taken.unread_bytes) == (True, 5)
