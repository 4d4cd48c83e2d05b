"""Peers that answer badly, late or not at all: what could not be read is unknown, and never an absence."""

import socket
import sys

import pytest

from netdiag.host.meet import Target
from netdiag.model.two_sided import Unmet
from netdiag.model.wire import Answer
from tests.lab.asking import ask
from tests.lab.odd_carriers import Dying, Hanging, Odd, Slow
from tests.lab.participants import carrier_into
from tests.lab.relay import ADDRESSES, relay
from tests.lab.two_sides import examined, target

IN, OUT = "two-sides.inbound", "two-sides.outbound"


@pytest.fixture
def look(pair_lab, sides):
    """Examine the path to host two over any carrier to it."""

    def run(carrier, **sought):
        peer = target(pair_lab.host("two"), carrier, control_port=2377)
        said, (view,), _ = examined(sides[0], [peer], **{"manager": True, **sought})
        return said, view

    return run


def told(said, *states):
    """The lines about paths in these states, with their reasons."""
    return [
        f"{one['summary']}: {one.get('reason') or ''}"
        for check in (IN, OUT, "two-sides.sizes")
        for one in said.findings(check)
        if one["state"] in states
    ]


@pytest.mark.parametrize("first", [1, 3])
def test_counts_that_cannot_be_read_are_no_losses(pair_lab, sides, look, first):
    pair_lab.break_("drop", host="two", chain="INPUT", proto="tcp", dport=7946)
    said, _ = look(Odd(sides[1], "release-port", first))
    (lost,) = told(said, "fail", "warn")
    assert "tcp/7946" in lost
    assert "udp" not in lost
    (cause,) = said.document["causes"]
    assert (cause["code"], cause["object"]["chain"]) == ("firewall.rule", "INPUT")


def test_frames_that_cannot_be_read_prove_nobody_between(pair_lab, sides, look):
    pair_lab.break_("drop", host="two", chain="INPUT", proto="tcp", dport=7946)
    said, _ = look(Odd(sides[1], "capture-read"))
    assert said.document["causes"] == []
    assert told(said, "fail", "warn") == []
    assert any("tcp/7946" in line and "no answer within 3 s" in line for line in told(said, "unknown"))


def test_frames_that_cannot_be_read_later_are_no_black_hole(pair_lab, sides, look):
    pair_lab.break_("mtu-blackhole", path_mtu=1400, host_mtu=1500)
    said, _ = look(Odd(sides[1], "capture-read", 4))
    for cause in said.document["causes"]:
        assert cause["code"] == "underlay.mtu-blackhole"
        assert cause["object"]["largest_bytes"] in (1400, 1404)


@pytest.mark.parametrize(("verb", "count"), [("send-probe", 1), ("capture-read", 1)])
def test_a_peer_that_goes_away_is_said_to_have_gone(pair_lab, look, verb, count):
    pair_lab.break_("drop", host="two", chain="INPUT", proto="tcp", dport=7946)
    with carrier_into(pair_lab.host("two")) as two:
        said, view = look(Dying(two, verb, count))
    assert "went away" in view.why_not
    assert said.document["causes"] == []
    assert said.states(IN) == said.states(OUT) == set()
    (one,) = said.findings("two-sides.examined")
    assert (one["state"], "went away" in one["reason"]) == ("unknown", True)


# --- one host under two names ---


def test_a_host_that_is_named_twice_is_asked_once(pair_lab, sides):
    two = pair_lab.host("two")
    with carrier_into(two) as again:
        twice = [Target(given="alias", carrier=again, address=two.address), target(two, sides[1], control_port=2377)]
        said, views, _ = examined(sides[0], twice, manager=True)
    assert [view.why_not for view in views] == [f"it is the same host as {two.address}", ""]
    assert said.document["causes"] == []
    assert said.states(IN) == said.states(OUT) == {"ok"}
    found = said.findings("two-sides.examined")
    assert [one["state"] for one in found] == ["skip", "ok"]
    assert "1 of 1" in found[1]["summary"]


@pytest.mark.parametrize("address", ["", "10.71.0.99"], ids=["its own address", "a translated one"])
def test_this_host_is_no_peer_of_its_own(pair_lab, sides, address):
    one, two = pair_lab.host("one"), pair_lab.host("two")
    with carrier_into(one) as again:
        named = [Target(given="me", carrier=again, address=address or one.address), target(two, sides[1])]
        said, views, _ = examined(sides[0], named)
    assert [view.why_not for view in views] == ["it is this host itself", ""]
    assert said.states("two-sides.examined") == {"skip", "ok"}


# --- a peer that lies ---


def replaced(value, before, after):
    """A value with an address in it exchanged, as text and as bytes."""
    if isinstance(value, dict):
        return {key: replaced(each, before, after) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, before, after) for each in value]
    if isinstance(value, str):
        return value.replace(before, after)
    return value.replace(socket.inet_aton(before), socket.inet_aton(after)) if isinstance(value, bytes) else value


class Lying:
    """Says that another host's address is its own."""

    def __init__(self, carrier, own, claimed):
        self._carrier, self._own, self._claimed = carrier, own, claimed

    def ask(self, requests):
        return [
            Answer(data=replaced(each.data, self._own, self._claimed), error=each.error)
            for each in self._carrier.ask(requests)
        ]


def test_nobody_is_sent_anything_because_a_peer_says_so(pair_lab, sides):
    two, third = pair_lab.host("two"), "10.71.0.254"
    peer = Target(given="alias", carrier=Lying(sides[1], two.address, third))
    said, (view,), _ = examined(sides[0], [peer])
    assert pair_lab.host("one").exec(["ip", "neigh", "show", "to", third]).stdout == ""
    assert view.unmet is Unmet.UNNAMED
    assert said.states("two-sides.examined") == {"unknown"}


def test_a_name_that_only_ssh_knows_is_where_ssh_goes(ssh_pair):
    one, two = ssh_pair
    one.exec(["sh", "-c", f"printf 'Host alias\\n  HostName {two.address}\\n' > /root/.ssh/config"])
    one.exec(["sh", "-c", "echo alias > /run/peers"])
    try:
        assert one.exec(["getent", "hosts", "alias"], check=False).stdout == ""
        hint = "from netdiag.carrier.via import *; print(host_of(parse_via('ssh:root@'), 'alias'))"
        assert one.exec([sys.executable, "-c", hint]).stdout == f"{two.address}\n"
        said = ask(one, "verify", "swarm", "--peers", "/run/peers", "--via", "alias=ssh:root@two")
    finally:
        one.exec(["rm", "/root/.ssh/config", "/run/peers"])
    assert said.states("two-sides.examined") == {"ok"}
    assert said.states(OUT) == {"ok"}


# --- answers that nobody understands ---


@pytest.mark.parametrize(
    ("verb", "first", "data"),
    [
        ("send-probe", 1, {"probes": []}),
        ("send-probe", 2, {"probes": []}),
        ("firewall-trace", 1, {}),
        ("capture-read", 1, {"points": [{"name": "all", "frames": [{"data": "x"}], "dropped": 0, "more": 0}]}),
        ("capture-read", 2, {}),
        ("release-port", 1, {"ports": [{}]}),
        ("bind-port", 2, {}),
    ],
)
def test_an_odd_answer_is_said_to_be_odd_and_blames_nobody(pair_lab, sides, look, verb, first, data):
    """Were a thread to die of it, pytest would say so as a warning, which is an error here."""
    pair_lab.break_("drop", host="one", chain="INPUT", proto="udp", dport=7946)
    pair_lab.break_("drop", host="two", chain="INPUT", proto="tcp", dport=7946)
    said, view = look(Odd(sides[1], verb, first, Answer(data=data)))
    if verb == "firewall-trace":
        # Where no trace tells, the rules are read.
        assert [one["confidence"] for one in said.document["causes"] if one["host"] == "two"] == ["likely"]
    else:
        odd = [view.why_not, *(f"{one['summary']} {one.get('reason')}" for one in said.document["findings"])]
        assert any("could not be understood" in text for text in odd)
    for cause in said.document["causes"]:
        wanted = {"udp": "one", "tcp": "two"}["udp" if "udp" in cause["object"]["text"] else "tcp"]
        assert (cause["code"], cause["host"]) == ("firewall.rule", wanted)
    assert not any("few hosts" in line for line in told(said, "fail", "warn", "unknown"))


# --- far away ---


def test_a_far_peer_is_asked_to_the_end(pair_lab, sides):
    """Probes and what the participant is asked both take their time: a round trip of 300 ms."""
    delay_s = 0.15
    for protocol in ("tcp", "udp"):
        pair_lab.break_("drop", host="two", chain="INPUT", proto=protocol, dport=7946)
    with relay([pair_lab.host(name) for name in ("one", "two")], "tap", delay_s=delay_s):
        peer = Target(given="two", carrier=Slow(sides[1], 2 * delay_s), address=ADDRESSES[1], control_port=2377)
        said, (view,), took_s = examined(sides[0], [peer], manager=True)
    assert view.unfinished == ()
    found = {(one["host"], one["object"]["text"].split()[3]) for one in said.document["causes"]}
    assert found == {("two", "tcp"), ("two", "udp")}
    assert said.states(IN) == {"ok"}
    assert took_s < 8.0 + 30 * 2 * delay_s


def test_what_a_peer_that_becomes_slow_has_told_is_told(pair_lab, sides):
    """It hangs once the first probes were sent: what they found is not lost."""
    pair_lab.break_("drop", host="two", chain="INPUT", proto="udp", dport=7946)
    with carrier_into(pair_lab.host("two")) as two:
        peer = target(pair_lab.host("two"), Hanging(two, "firewall-trace"), control_port=2377)
        said, (view,), _ = examined(sides[0], [peer], manager=True)
    assert view.unfinished != ()
    (lost,) = told(said, "fail", "warn")
    assert "udp/7946" in lost
    assert said.states(IN) == {"ok"}
    assert {"unknown"} < said.states("two-sides.examined")
