"""Sections that are read from text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from netdiag.facts.bird import decode as decode_bird
from netdiag.facts.calico import gather_calico
from netdiag.facts.context import Context, Options
from netdiag.facts.engine_log import gather_engine_log
from netdiag.facts.firewall import fingerprint
from netdiag.facts.firewall_saved import gather_firewall_saved
from netdiag.facts.level import judge
from netdiag.facts.namespaces import gather_namespaces
from netdiag.facts.sockets import decode as decode_sockets
from netdiag.model.facts import AbsenceKind, Facts, Feature, FeatureState, Identity, Kernel, Section
from netdiag.model.level import Level
from netdiag.model.wire import Answer, Gather, WireError

BIRD = """0001 BIRD 2.0.12 ready.
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     10:12:13.123
 kernel1    Kernel     master4    up     10:12:13.123
 Mesh_192_0_2_7 BGP        ---        start  2026-11-23 10:12:13  Active        Socket: Connection refused
0000
"""


def run(gather: Gather[Any], *rounds: Sequence[Answer]) -> Any:
    answers = iter(rounds)
    try:
        next(gather)
        while True:
            gather.send(next(answers))
    except StopIteration as stop:
        return stop.value


def files(**texts: str) -> Answer:
    return Answer(data={"files": texts, "errors": {}, "truncated": []})


NONE = Answer(error=WireError(AbsenceKind.MISSING, "not here"))


def test_bird() -> None:
    bird = decode_bird("/run/bird/bird.ctl", BIRD)
    assert bird.version == "2.0.12"
    assert [(row.name, row.protocol, row.state) for row in bird.protocols] == [
        ("device1", "Device", "up"),
        ("kernel1", "Kernel", "up"),
        ("Mesh_192_0_2_7", "BGP", "start"),
    ]
    assert bird.protocols[2].since == "2026-11-23 10:12:13"
    assert bird.protocols[2].info == "Active        Socket: Connection refused"


def test_sockets() -> None:
    text = (  # columns as the kernel prints them
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 1595 1 0\n"
        "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1596 1\n"
        "   2: 0100007F:1F\n"
    )
    (socket,) = decode_sockets("tcp", text, {"1595": [7, "web"]})
    assert (socket.address, socket.port, socket.queue, socket.pid, socket.process) == ("127.0.0.1", 8080, 3, 7, "web")
    six = "x\n   0: 00000000000000000000000001000000:0016 0:0 0A 0:0 0 0 0 0 5 1\n"
    (socket,) = decode_sockets("tcp6", six, {})
    assert (socket.protocol, socket.address, socket.port) == ("tcp", "::1", 22)


def test_the_fingerprint_ignores_counters_and_comments() -> None:
    one = "# Generated today\n*filter\n:INPUT ACCEPT [5:6]\n[1:2] -A INPUT -j DROP\nCOMMIT\n"
    two = "# Generated tomorrow\n*filter\n:INPUT ACCEPT [7:8]\n[3:4] -A INPUT -j DROP\nCOMMIT\n"
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(two.replace("DROP", "ACCEPT"))
    assert fingerprint("counter packets 1 bytes 2 drop") == fingerprint("counter packets 3 bytes 4 drop")


def test_the_log_of_the_last_hour() -> None:
    lines = (
        'time="2026-11-23T03:59:59Z" level=info msg="memberlist: old"\n'
        'time="2026-11-23T04:06:40Z" level=warn msg="memberlist: new"\n'
        'time="2026-11-23T04:06:41Z" level=info msg="join SWMTKN-1-abc"\n'
        'time="2026-11-23T04:06:42Z" level=info msg="something else"\n'
    )
    clock = Answer(data={"unix_ns": int(1795410000 * 1e9)})
    tail = Answer(data={"text": lines, "truncated": False})
    log = run(gather_engine_log(Context()), [NONE, clock], [tail, NONE, NONE, NONE, NONE]).value
    assert log.source == "/var/log/docker.log"
    assert [line.text.partition("msg=")[2] for line in log.lines] == ['"memberlist: new"']
    assert log.lines[0].unix_s == 1795406800.0


def test_a_log_that_is_nowhere() -> None:
    section = run(gather_engine_log(Context()), [NONE, NONE], [NONE] * 5)
    assert section.absent.kind is AbsenceKind.MISSING


def test_callers_choose_lines_of_the_journal() -> None:
    journal = Answer(
        data={
            "stdout": "2026-11-23T04:06:40+0000 h dockerd[1]: a\n2026-11-23T04:06:40+0000 h dockerd[1]: b\n",
            "code": 0,
        }
    )
    context = Context(options=Options(keep=lambda line: line.endswith("b")))
    log = run(gather_engine_log(context), [journal, NONE]).value
    assert [line.text[-1] for line in log.lines] == ["b"]
    assert log.lines[0].unix_s == 1795406800.0


def etcd(*nodes: tuple[str, str]) -> Answer:
    body = {"node": {"nodes": [{"key": key, "value": value} for key, value in nodes]}}
    return Answer(data={"status": 200, "headers": {}, "text": json.dumps(body)})


def test_calico_by_variable() -> None:
    context = Context(options=Options(etcd={"ETCD_AUTHORITY": "192.0.2.5:2379"}))
    answer = etcd(
        ("/calico/v1/ipam/v4/pool/10.1.0.0-16", '{"cidr": "10.1.0.0/16", "masquerade": true}'),
        ("/calico/bgp/v1/global/as_num", "64511"),
        ("/calico/bgp/v1/host/a/peer_password", "geheim"),
    )
    calico = run(gather_calico(context), [files()], [answer]).value
    assert calico.endpoints == ("http://192.0.2.5:2379",)
    assert calico.configured_by == "ETCD_AUTHORITY"
    assert calico.version == "v1"
    assert calico.keys["/calico/v1/ipam/v4/pool/10.1.0.0-16"]["masquerade"] is True
    assert "geheim" not in repr(calico)


def test_calico_by_file_and_the_second_endpoint_answers() -> None:
    text = "spec:\n  etcdEndpoints: http://a:2379,http://b:2379\n  etcdPassword: geheim\n"
    missing = Answer(data={"status": 404, "headers": {}, "text": '{"errorCode": 100, "message": "Key not found"}'})
    section = run(gather_calico(Context()), [files(**{"/etc/calico/calicoctl.cfg": text})], [NONE, missing])
    assert section.value.endpoints == ("http://a:2379", "http://b:2379")
    assert section.value.version == ""
    assert list(section.partial) == ["http://a:2379"]


def test_calico_that_is_not_configured() -> None:
    assert "ETCD_AUTHORITY" in run(gather_calico(Context()), [files()]).absent.text


def test_saved_rules() -> None:
    texts = {
        "/etc/sysconfig/iptables": "*filter\nCOMMIT\n",
        "/etc/ufw/ufw.conf": "ENABLED=yes\n",
        "/etc/ufw/user.rules": "*filter\n",
        "/etc/firewalld/zones/public.xml": "<zone/>",
    }
    there = files(**{"/run/firewalld.pid": "1", "/etc/ufw/ufw.conf": "E"})
    saved = run(gather_firewall_saved(Context()), [files(**texts), there, *[NONE] * 8]).value
    assert [(rules.source, rules.path) for rules in saved.rules] == [
        ("firewalld", "/etc/firewalld/zones/public.xml"),
        ("iptables.service", "/etc/sysconfig/iptables"),
        ("ufw", "/etc/ufw/ufw.conf"),
        ("ufw", "/etc/ufw/user.rules"),
    ]
    assert [(service.name, service.active) for service in saved.services] == [("firewalld", True), ("ufw", True)]


def test_processes_that_could_not_be_looked_at_are_told() -> None:
    row = {"inode": 1, "own": True, "paths": ["/proc/9/ns/net"], "pids": [9]}
    section = run(gather_namespaces(Context()), [Answer(data={"namespaces": [row], "unreadable": 3})])
    assert section.partial["processes"].kind is AbsenceKind.PERMISSION
    assert list(section.value) == ["host"]


def test_namespaces_without_an_engine() -> None:
    group = "12:x:/docker/" + "a" * 64 + "\n"
    rows = [
        {"inode": 1, "own": True, "paths": ["/proc/1/ns/net"], "pids": [1]},
        {"inode": 2, "own": False, "paths": ["/run/docker/netns/aaaaaaaaaaaa", "/proc/5/ns/net"], "pids": [5]},
        {"inode": 3, "own": False, "paths": ["/run/docker/netns/1-abcdefghij"], "pids": []},
        {"inode": 4, "own": False, "paths": ["/run/docker/netns/2-abcdefghij"], "pids": []},
        {"inode": 5, "own": False, "paths": ["/run/docker/netns/lb_abcdefghi"], "pids": []},
        {"inode": 6, "own": False, "paths": ["/run/docker/netns/ingress_sbox"], "pids": []},
        {"inode": 7, "own": False, "paths": ["/run/netns/blue"], "pids": []},
        {"inode": 8, "own": False, "paths": ["/proc/9/ns/net"], "pids": [9]},
        {"inode": 9, "own": False, "paths": [], "pids": []},
    ]
    answer = Answer(data={"namespaces": rows, "unreadable": 0})
    about = files(**{"/proc/5/cgroup": group, "/proc/9/comm": "vpn\n"})
    found = run(gather_namespaces(Context()), [answer], [about]).value
    assert list(found) == [
        "host",
        "container:aaaaaaaaaaaa",
        "ingress",
        "lb:abcdefghi",
        "netns:4",
        "netns:blue",
        "netns:pid-9",
        "overlay:abcdefghij",
    ]
    assert found["netns:pid-9"].owner == "vpn"
    assert found["netns:4"].id == "netns:4"


@pytest.mark.parametrize(
    ("root", "release", "state", "level"),
    [
        (True, "5.12.0", FeatureState.BUILTIN, Level.OWNED_TRACE),
        (True, "6.1.0-18-amd64", FeatureState.LOADABLE, Level.OWNED_TRACE),
        (True, "5.4.0", FeatureState.LOADED, Level.SWEPT_TRACE),
        (True, "3.10.0-1160.el7", FeatureState.MISSING, Level.COUNTERS),
        (False, "6.1.0", FeatureState.BUILTIN, Level.FACTS),
    ],
)
def test_levels(root: bool, release: str, state: FeatureState, level: Level) -> None:
    feature = Feature(name="nf_tables", state=state, evidence="seen")
    facts = Facts(
        collected_s=1.0,
        identity=Section(value=Identity(hostname="h", kernel_release=release, is_root=root)),
        kernel=Section(value=Kernel(features={"nf_tables": feature})),
    )
    assert judge(facts).level is level
    assert judge(facts, Level.FACTS).level is Level.FACTS
    assert judge(facts, Level.OWNED_TRACE).level is level
