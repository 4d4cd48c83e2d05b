"""Why a kernel keeps silent when it is asked for a hardware address, and when its silence has another reason."""

import ipaddress
import struct

import pytest

from netdiag.model.facts import Address, Section
from netdiag.model.report import Confidence
from netdiag.path.arp import Heard, Search, heard_of, silence_causes
from tests.unit.path.facts_of import NEAR, facts, host

VIP = "192.0.2.50"


def arp(kind, sender, target):
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, kind)
    packed = [ipaddress.ip_address(each).packed for each in (sender, target)]
    return bytes(12) + b"\x08\x06" + body + b"\2" * 6 + packed[0] + bytes(6) + packed[1]


def test_requests_and_replies_are_counted_for_one_address():
    frames = [arp(1, NEAR, VIP), arp(1, "192.0.2.9", VIP), arp(1, NEAR, "192.0.2.51"), arp(2, VIP, NEAR), b"short"]
    assert heard_of(VIP, frames) == Heard(requests=2, replies=1, askers=(NEAR, "192.0.2.9"))


def test_an_announcement_is_no_question():
    assert heard_of(VIP, [arp(1, VIP, VIP)]).requests == 0


def search(address=VIP, *, own=None, heard=None, leaves_by="", **settings):
    one = facts()
    rows = (*one.addresses.value["host"], *((own,) if own is not None else ()))
    one = type(one)(
        **{
            **{name: getattr(one, name) for name in one.__struct_fields__},
            "addresses": Section(value={**one.addresses.value, "host": rows}),
        }
    )
    values = {"eth0.arp_ignore": 0, "all.arp_ignore": 0, "eth0.proxy_arp": 0, "all.proxy_arp": 0}
    values |= {key.replace("__", "."): value for key, value in settings.items()}
    return Search(
        address=address,
        host=host(one),
        device="eth0",
        heard=heard or Heard(requests=2, askers=("192.0.2.7",)),
        settings={f"net.ipv4.conf.{key}": str(value) for key, value in values.items()},
        leaves_by=leaves_by,
    )


def said(one):
    return [(each.code, each.confidence, each.object["key"]) for each in silence_causes(one)]


ELSEWHERE = Address(device="site0", cidr=f"{VIP}/32")
HERE = Address(device="eth0", cidr=f"{VIP}/24")
BALANCED = Address(device="lo", cidr=f"{VIP}/32")
OWN, ALL = "net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.all.arp_ignore"
PROVEN, LIKELY = Confidence.PROVEN, Confidence.LIKELY


@pytest.mark.parametrize(
    ("own", "settings", "expected"),
    [
        (ELSEWHERE, {"eth0__arp_ignore": 1}, [("sysctl.arp-ignore", PROVEN, OWN)]),
        (ELSEWHERE, {"all__arp_ignore": 1}, [("sysctl.arp-ignore", PROVEN, ALL)]),
        (HERE, {"eth0__arp_ignore": 8}, [("sysctl.arp-ignore", PROVEN, OWN)]),
        (BALANCED, {"eth0__arp_ignore": 1}, [("sysctl.arp-ignore", LIKELY, OWN)]),
        (HERE, {"eth0__arp_ignore": 1}, []),
        (HERE, {"eth0__arp_ignore": 2}, []),
        (ELSEWHERE, {}, []),
        (HERE, {"eth0__arp_ignore": 3}, []),
    ],
)
def test_what_arp_ignore_keeps_silent(own, settings, expected):
    assert said(search(own=own, **settings)) == expected


def test_the_second_mode_looks_at_who_asks():
    stranger = Heard(requests=1, askers=("198.51.100.1",))
    assert said(search(own=HERE, heard=stranger, eth0__arp_ignore=2)) == [("sysctl.arp-ignore", PROVEN, OWN)]


@pytest.mark.parametrize("heard", [Heard(), Heard(requests=2, replies=1)], ids=["never asked", "answered"])
def test_silence_must_have_been_heard(heard):
    assert said(search(own=ELSEWHERE, heard=heard, eth0__arp_ignore=1)) == []


def test_both_settings_are_put_back():
    (one,) = silence_causes(search(own=ELSEWHERE, eth0__arp_ignore=2, all__arp_ignore=1))
    assert one.remedy[0].commands == (f"sysctl -w {OWN}=0", f"sysctl -w {ALL}=0")
    assert one.remedy[0].undo == (f"sysctl -w {ALL}=1", f"sysctl -w {OWN}=2")


GATEWAY, PROXY = "169.254.1.1", "net.ipv4.conf.eth0.proxy_arp"


@pytest.mark.parametrize(
    ("leaves_by", "settings", "expected"),
    [
        ("eth1", {}, [("sysctl.proxy-arp", PROVEN, PROXY)]),
        ("", {}, []),
        ("eth0", {}, []),
        ("eth1", {"eth0__proxy_arp": 1}, []),
        ("eth1", {"all__proxy_arp": 1}, []),
    ],
    ids=["off", "no route", "behind the same device", "on", "on for all"],
)
def test_what_is_answered_for_others(leaves_by, settings, expected):
    assert said(search(GATEWAY, leaves_by=leaves_by, **settings)) == expected
