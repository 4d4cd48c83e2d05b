"""What a peer that has only a key may have from this host."""

import json
import os
import time
from pathlib import Path

import pytest

from netdiag.host.bundles import read_bundle
from netdiag.host.drive import Replay
from netdiag.model.wire import Request
from netdiag.participant.guard import NOT_SERVED, RULES, Guard
from netdiag.participant.verbs import VERBS

BUNDLE = Path(__file__).parents[1] / "facts" / "data" / "swarm-manager.bundle"
PEER = "192.0.2.77"
FAR = "198.51.100.9"
OWN = f"/proc/{os.getpid()}/ns/net"


@pytest.fixture
def ran():
    return []


@pytest.fixture
def guard(ran):
    def answer(request):
        ran.append(request)
        return {"data": {"files": {}}, "duration_s": 0.0}

    return Guard(PEER, ("203.0.113.0/24",), answer=answer)


def test_it_is_decided_for_each_verb_whether_it_is_served():
    """A new verb needs a rule in `RULES`, or a reason in `NOT_SERVED`."""
    assert set(RULES) | set(NOT_SERVED) == set(VERBS)
    assert not set(RULES) & set(NOT_SERVED)


def test_every_reading_of_a_swarm_manager_is_served(guard, ran):
    """All requests that a recorded collection made, except the system's common logs and the file with a password."""
    refused = set()
    for key in read_bundle(BUNDLE).answers:
        verb, _, params = key.partition(" ")
        answer = guard.answer({"verb": verb, "params": json.loads(params), "timeout_s": 2.0})
        if "error" in answer:
            refused.add(answer["error"]["text"].split()[1].rstrip(":"))
            assert answer["error"]["kind"] == "permission"
    assert refused == {"/etc/calico/calicoctl.cf[g]", "/var/log/syslog", "/var/log/messages"}
    assert len(ran) > 140


def test_a_bundle_and_a_guard_agree_on_keys():
    """The test above reads keys as `Request.key` writes them."""
    request = Request("file", {"path": "/proc/uptime"})
    assert "error" not in Guard(PEER, answer=lambda request: {"data": {}}).answer(
        {"verb": request.key().partition(" ")[0], "params": json.loads(request.key().partition(" ")[2])}
    )
    assert Replay({}).ask([request])[0].error is not None


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        ("file", {"path": "/etc/shadow"}),
        ("file", {"path": "/proc/net/../../etc/shadow"}),
        ("file", {"path": "/proc/net/..//1/environ"}),
        ("file", {"path": "/proc/1/environ"}),
        ("file", {"path": "/proc/self/environ"}),
        ("file", {"path": "/proc/1/root/etc/shadow"}),
        ("file", {"path": "/proc/kcore"}),
        ("file", {"path": "/proc/sys/net/ipv6/conf/all/stable_secret"}),
        ("file", {"path": "/etc/iptables/a/b"}),
        ("file", {"path": "/etc/machine-id\n/etc/shadow"}),
        ("file", {"path": "etc/machine-id"}),
        ("file", {"path": b"/etc/shadow"}),
        ("files", {"globs": ["/etc/machine-id", "/etc/shadow"]}),
        ("files", {"globs": ["/etc/shado[w]"]}),
        ("files", {"globs": ["/proc/*/environ"]}),
        ("files", {"globs": ["/proc/*/comm"]}),
        ("files", {"globs": ["/*/shadow"]}),
        ("files", {"globs": ["/etc/iptables/[.][.]/shadow"]}),
        ("files", {"globs": ["/proc/net/[.]./1/environ"]}),
        ("file-tail", {"path": "/var/log/auth.log"}),
        ("list-dir", {"path": "/root"}),
        ("list-dir", {"path": "/var/lib/docker/swarm/../volumes"}),
        ("list-dir", {"path": "/run/bird/.."}),
        ("docker-get", {"path": "/distribution/evil.example/x/json"}),
        ("docker-get", {"path": "/info", "socket": "/run/other.sock"}),
        ("identity", {"netns": "/etc/shadow"}),
        ("netlink-dump", {"type": 18, "netns": "/run/netns/../../etc/shadow"}),
        ("netlink-dump", {"type": 18, "netns": "/proc/1/ns/mnt"}),
        ("create-device", {"kind": "vxlan", "may_load": True}),
        ("scratch-rules", {"steps": [], "list": ["nft", "-s", "list", "ruleset"], "may_load": True}),
        ("http-get", {"url": "http://127.0.0.1:2379/version"}),
        ("no-such-verb", {}),
        ("resolve", {"name": "a" * 300}),
    ],
)
def test_what_is_refused(guard, ran, verb, params):
    answer = guard.answer({"verb": verb, "params": params})
    assert answer["error"]["kind"] == "permission"
    assert "\n" not in answer["error"]["text"]
    assert ran == []
    assert guard.refused == 1


def flows(far, near):
    """Every verb that sends, traces or watches, for a flow between two addresses."""
    yield "tcp-connect", {"address": far, "port": 80}
    yield "tcp-follow", {"address": far, "port": 80}
    yield "tls-exchange", {"address": far, "port": 80}
    yield "tls-hello", {"address": far, "port": 80}
    yield "echo-sizes", {"address": far, "sizes": [100]}
    yield "firewall-trace", {"path": "out", "src": near, "dst": far, "proto": "tcp", "may_load": True}
    yield "firewall-burst", {"path": "out", "src": near, "dst": far, "proto": "tcp", "may_load": True}
    yield "firewall-watch", {"path": "in", "src": far, "wait_ms": 100, "may_load": True}
    yield "firewall-watch", {"path": "out", "dst": far, "wait_ms": 100, "may_load": True}


@pytest.mark.parametrize("netns", ["", OWN], ids=["none", "own"])
@pytest.mark.parametrize(
    "far", [FAR, "127.0.0.2", "169.254.169.254", "::ffff:127.0.0.1", "::1", "example.org", "2130706433", ""]
)
def test_no_flow_to_a_third_host_or_to_loopback(guard, ran, far, netns):
    for verb, params in flows(far, "127.0.0.1"):
        answer = guard.answer({"verb": verb, "params": {**params, "netns": netns}})
        assert answer["error"]["kind"] == "permission", (verb, params)
    assert ran == []


@pytest.mark.parametrize("far", [PEER, "203.0.113.200"])
def test_flows_to_the_peer_and_to_what_the_operator_named(guard, ran, far):
    for verb, params in flows(far, "127.0.0.1"):
        assert "error" not in guard.answer({"verb": verb, "params": params}), verb
    assert len(ran) == len(list(flows(far, "")))


def test_the_refusal_says_how_to_allow_it(guard):
    answer = guard.answer({"verb": "tcp-connect", "params": {"address": FAR, "port": 80}})
    assert answer["error"]["text"].endswith(f"to allow it: netdiag listen … --reach {FAR}")


def test_only_flows_with_an_end_here_are_traced_and_watched(guard, ran):
    def watch(a, b):
        return guard.answer(
            {"verb": "capture-start", "params": {"points": [{"device": "lo", "flow": {"a": a, "b": b, "proto": 6}}]}}
        )

    def arrive(path, source, destination):
        params = {"path": path, "src": source, "dst": destination, "proto": "tcp", "may_load": True}
        return guard.answer({"verb": "firewall-trace", "params": params})

    assert "error" not in watch("127.0.0.1", FAR)
    assert "error" not in watch(PEER, "127.0.0.1")
    assert "error" not in arrive("in", FAR, "127.0.0.1")
    assert len(ran) == 3
    assert "neither is an address of this host" in watch(PEER, FAR)["error"]["text"]
    assert "both its ends must be said" in watch(None, "127.0.0.1")["error"]["text"]
    assert "neither is an address of this host" in arrive("in", PEER, FAR)["error"]["text"]
    assert "neither is an address of this host" in arrive("forward", PEER, FAR)["error"]["text"]
    anything = guard.answer({"verb": "firewall-watch", "params": {"path": "in", "wait_ms": 1, "may_load": True}})
    assert "its far end must be said" in anything["error"]["text"]
    assert len(ran) == 3


@pytest.mark.parametrize(
    ("request_", "count"),
    [({"verb": "clock"}, 1000), ({"verb": "tcp-connect", "params": {"address": PEER, "port": 1}}, 250)],
    ids=["any", "that send"],
)
def test_requests_are_answered_at_a_bounded_rate(guard, ran, request_, count):
    """A burst of four seconds' worth passes at once; what is more has to wait: 200 a second, 50 that send."""
    start_s = time.monotonic()
    for _ in range(count):
        guard.answer(request_)
    assert time.monotonic() - start_s >= 0.95
    assert len(ran) == count


@pytest.mark.parametrize(
    ("asked", "given"), [(2.0, 2.0), (1e9, 150.0), (-1, 150.0), (float("nan"), 150.0), (None, 5.0)]
)
def test_a_request_takes_only_so_long(guard, ran, asked, given):
    guard.answer({"verb": "clock", "timeout_s": asked})
    assert ran[0]["timeout_s"] == given


def test_a_wildcard_gives_only_what_may_be_read():
    everything = {"/etc/iptables/rules.v4": "a", "/etc/shadow": "b", "/proc/sys/net/ipv6/conf/all/stable_secret": "c"}
    guard = Guard(PEER, answer=lambda request: {"data": {"files": everything, "errors": {}, "truncated": []}})
    answer = guard.answer({"verb": "files", "params": {"globs": ["/etc/iptables/*"]}})
    assert answer["data"]["files"] == {"/etc/iptables/rules.v4": "a"}


def test_a_pattern_for_an_answers_end_is_not_the_peers_to_choose(guard, ran):
    guard.answer(
        {"verb": "unix-ask", "params": {"path": "/run/bird/bird.ctl", "send": "show protocols", "until": "(a+)+$"}}
    )
    assert ran[0]["params"] == {"path": "/run/bird/bird.ctl", "send": "show protocols"}


def test_real_answers():
    guard = Guard(PEER)
    assert "text" in guard.answer({"verb": "file", "params": {"path": "/proc/uptime"}, "timeout_s": 2.0})["data"]
    connected = guard.answer({"verb": "tcp-connect", "params": {"address": "127.0.0.1", "port": 1}, "timeout_s": 1.0})
    assert connected["error"]["kind"] == "permission"
    here = Guard("127.0.0.1").answer({"verb": "tcp-connect", "params": {"address": "127.0.0.1", "port": 1}})
    assert here["data"]["errno"] != 0


def test_reach_must_be_addresses():
    with pytest.raises(ValueError, match="does not appear to be"):
        Guard(PEER, ("everywhere",))
