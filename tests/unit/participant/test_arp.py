"""The frames of an ARP probe, held to scapy's reading of them, and which answers count."""

import pytest
from scapy.layers.l2 import ARP, Ether

from netdiag.participant.arp import answered, arp_ask, request
from netdiag.participant.deadline import Deadline
from netdiag.participant.errors import UNSUPPORTED, VerbError

OWN, OTHER = bytes.fromhex("020000000001"), "02:00:00:00:00:02"
TARGET = bytes([192, 0, 2, 2])


def reply(sender=OTHER, address="192.0.2.2", kind=2):
    frame = Ether(src=sender, dst="02:00:00:00:00:01")
    return bytes(frame / ARP(op=kind, hwsrc=sender, psrc=address, hwdst="02:00:00:00:00:01", pdst="0.0.0.0"))


def test_a_probe_names_no_sender_so_that_no_entry_changes():
    frame = Ether(request(OWN, TARGET))
    assert (frame.dst, frame.src, frame[ARP].op) == ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01", 1)
    assert (frame[ARP].psrc, frame[ARP].hwsrc) == ("0.0.0.0", "02:00:00:00:00:01")
    assert (frame[ARP].pdst, frame[ARP].hwdst) == ("192.0.2.2", "00:00:00:00:00:00")


def test_an_answer_is_known():
    assert answered(reply(), OWN, TARGET) == OTHER
    assert answered(reply() + bytes(18), OWN, TARGET) == OTHER


@pytest.mark.parametrize(
    "frame",
    [reply(address="192.0.2.3"), reply(kind=1), reply(sender="02:00:00:00:00:01"), reply()[:41], b""],
    ids=["of another address", "a question", "our own", "cut", "nothing"],
)
def test_what_is_no_answer(frame):
    assert answered(frame, OWN, TARGET) == ""


def test_ipv6_is_not_asked_for_by_arp():
    with pytest.raises(VerbError) as raised:
        arp_ask({"address": "fd00::1", "device": "lo"}, Deadline(1.0))
    assert raised.value.kind == UNSUPPORTED
