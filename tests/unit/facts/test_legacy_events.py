"""What nfnetlink_log says of legacy chains, as a kernel 6.18 wrote it."""

import base64
import struct

from netdiag.facts.legacy_events import decode_legacy
from netdiag.firewall.legacy_trace import LegacyEvent

RECORDED = base64.b64decode(
    "uAAAAAAEAAAAAAAAAAAAAAIAAAAIAAEACAABACAACgBUUkFDRTogZmlsdGVyOklOUFVUOnJ1bGU6MiAACAAEAAAAAAIQAAgAAAYAAAJuZXRkZwAABgAP"
    "AAABAAAGABEAAA4AABIAEAAW13NDmZUCbmV0ZGcIAAAAFAADAAAAAABrBhv+AAAAAAAD21IsAAkARQAAKIPHQABABqJ4CkcAAgpHAAGCNQlJg8dAMAAA"
    "AABQAvrwUOsAALQAAAAABAAAAAAAAAAAAAACAAAACAABAAgAAQAcAAoAVFJBQ0U6IGZpbHRlcjpDOnJ1bGU6MSAACAAEAAAAAAIQAAgAAAYAAAJuZXRk"
    "ZwAABgAPAAABAAAGABEAAA4AABIAEAAW13NDmZUCbmV0ZGcIAAAAFAADAAAAAABrBhv+AAAAAAAD21UsAAkARQAAKIPHQABABqJ4CkcAAgpHAAGCNQlJ"
    "g8dAMAAAAABQAvrwUOsAALwAAAAABAAAAAAAAAAAAAACAAAACAABAAgAAQAcAAoAVFJBQ0U6IGZpbHRlcjpDOnJ1bGU6MiAACAAEAAAAAAIIAAIAAAAA"
    "AxAACAAABgAAAm5ldGRnAAAGAA8AAAEAAAYAEQAADgAAEgAQABbXc0OZlQJuZXRkZwgAAAAUAAMAAAAAAGsGG/4AAAAAAAPbVywACQBFAAAog8dAAEAG"
    "ongKRwACCkcAAYI1CUmDx0AwAAAAAFAC+vBQ6wAA"
)


def message(prefix, family=10, hook=3, port=0):
    attributes = struct.pack("=HHHBB", 8, 1, 0, hook, 0)
    attributes += struct.pack("=HH", 8, 7) + struct.pack(">I", port) if port else b""
    text = prefix.encode() + b"\0"
    attributes += struct.pack("=HH", 4 + len(text), 10) + text + b"\0" * (-len(text) % 4)
    return struct.pack("=IHHIIBBH", 20 + len(attributes), 4 << 8, 0, 0, 0, family, 0, 0) + attributes


def test_recorded_messages():
    assert decode_legacy(RECORDED).rows == (
        LegacyEvent(family="ip", hook="input", table="filter", chain="INPUT", number=2),
        LegacyEvent(family="ip", hook="input", table="filter", chain="C", number=1),
        LegacyEvent(family="ip", hook="input", table="filter", chain="C", number=2),
    )


def test_a_chain_with_colons():
    (event,) = decode_legacy(message("TRACE: mangle:of:me:return:12 ")).rows
    assert event == LegacyEvent(family="ip6", hook="output", table="mangle", chain="of:me", number=12)


def test_the_port_of_a_bridge():
    (event,) = decode_legacy(message("TRACE: filter:FORWARD:rule:1 ", hook=2, port=300)).rows
    assert (event.hook, event.port) == ("forward", 300)


def test_what_is_no_report_is_passed_over():
    for prefix in (
        "dropped: ",
        "TRACE: ",
        "TRACE: filter:INPUT:rule:x ",
        "TRACE: filter:rule:1 ",
        "TRACE: raw:A:rule:0 ",
    ):
        assert decode_legacy(message(prefix)).rows == ()
    assert decode_legacy(message("TRACE: raw:A:rule:1 ", family=7)).rows == ()
    assert decode_legacy(message("TRACE: raw:A:rule:1 ", hook=9)).rows == ()


def test_no_bytes_raise():
    for end in range(len(RECORDED)):
        assert len(decode_legacy(RECORDED[:end]).rows) <= 3
