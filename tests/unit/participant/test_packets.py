"""Packets byte by byte, beside scapy's own."""

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from netdiag.participant.packets import flow_of, packet


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {"proto": "tcp", "sport": 5, "dport": 80},
        {"proto": "tcp", "sport": 5, "dport": 80, "tcp_flags": "syn,ack", "length": 101},
        {"proto": "udp", "sport": 7, "dport": 53, "ttl": 3},
        {"proto": "udp", "sport": 7, "dport": 53, "length": 77},
        {"proto": "icmp", "icmp_type": 8},
    ],
)
def test_lengths_and_checksums_are_right(six, params):
    ends = {"src": "fd00::1", "dst": "fd00::2"} if six else {"src": "10.0.0.1", "dst": "10.0.0.2"}
    proto = "icmpv6" if six and params["proto"] == "icmp" else params["proto"]
    flow = flow_of({**params, **ends, "proto": proto, **({"icmp_type": 128} if proto == "icmpv6" else {})})
    raw = packet(flow)
    if "length" in params:
        assert len(raw) == params["length"]
    head = 40 if six else 20
    assert raw[head + flow.tag_at :][: len(flow.tag)] == flow.tag
    parsed = (IPv6 if six else IP)(raw)
    assert (parsed.hlim if six else parsed.ttl) == params.get("ttl", 64)
    for layer in (parsed, parsed.payload):
        for field in ("len", "plen", "chksum", "cksum"):
            if field in layer.fields:
                delattr(layer, field)
    # Without lengths and checksums scapy makes them anew, and must come to the same bytes.
    assert bytes(parsed) == raw


def test_a_syn_carries_what_a_kernel_s_own_carries():
    """Filters ask for options: a SYN without them meets rules that no real one meets."""

    made = IP(packet(flow_of({"proto": "tcp", "src": "192.0.2.1", "dst": "192.0.2.2", "dport": 80})))
    names = [name for name, _ in made["TCP"].options]
    assert names == ["MSS", "SAckOK", "Timestamp", "NOP", "WScale"]
    assert dict(made["TCP"].options)["MSS"] == 1460
    plain = {"proto": "tcp", "src": "192.0.2.1", "dst": "192.0.2.2", "dport": 80}
    for more in ({"length": 40}, {"tcp_flags": "ack"}):
        assert IP(packet(flow_of({**plain, **more})))["TCP"].options == []
