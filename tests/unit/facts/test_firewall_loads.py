"""What is asked of a host for the comparison: never what could load a module, unless that is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from netdiag.facts.context import Context, Options
from netdiag.facts.firewall_loads import gather_loads
from netdiag.facts.firewall_saved import gather_firewall_saved
from netdiag.facts.saved_modules import Modules, modules_of
from netdiag.model.facts import (
    AbsenceKind,
    Backend,
    Feature,
    FeatureState,
    FirewallSaved,
    FirewallService,
    Kernel,
    SavedRules,
)
from netdiag.model.wire import Answer, Request, WireError

NONE = Answer(error=WireError(AbsenceKind.MISSING, "no such tool"))
VERSION = Answer(data={"stdout": "iptables v1.8.9 (nf_tables)\n", "stderr": "", "code": 0})
LOADED = "nf_tables 1 0\nnft_compat 1 0\nxt_tcpudp 1 0\nxt_conntrack 1 0\nip_set 1 0\n"
RULES = "*filter\n:INPUT DROP\n:mine -\n-A INPUT -p tcp --dport 22 -m state --state NEW -j mine\n-A mine -j ACCEPT\nCOMMIT\n"
V4 = SavedRules(source="netfilter-persistent", path="/etc/iptables/rules.v4", text=RULES)
CONF = SavedRules(source="nftables.service", path="/etc/nftables.conf", text="table inet a { }\n")


def kernel(state: FeatureState = FeatureState.LOADED) -> Kernel:
    names = ("nf_tables", "nft_compat", "ip_tables", "ip6_tables", "ip_set")
    return Kernel(features={name: Feature(name=name, state=state, evidence="") for name in names})


def asked(
    *rules: SavedRules,
    modules: str | None = None,
    state: FeatureState = FeatureState.LOADED,
    services: tuple[FirewallService, ...] = (),
    load_modules: bool = False,
    answers: tuple[Answer, ...] = (),
) -> tuple[list[Request], Any]:
    context = Context(options=Options(load_modules=load_modules), kernel=kernel(state))
    gather = gather_loads(context, FirewallSaved(rules=rules, services=services), "6.1.0")
    next(gather)
    files = {} if modules is None else {"/proc/modules": modules}
    first = [VERSION, Answer(data={"files": files, "errors": {}}), Answer(data={"files": {}, "errors": {}})]
    requests = list(gather.send(first))
    try:
        gather.send([*answers, *(NONE for _ in requests[len(answers) :])])
    except StopIteration as stop:
        return requests, stop.value
    raise AssertionError("a third round")


def test_a_saved_file_is_loaded_by_the_tool_that_loads_it_at_boot() -> None:
    listed = Answer(data={"failed": None, "stdout": "*filter\nCOMMIT\n", "stderr": "", "code": 0})
    (request,), loads = asked(V4, modules=LOADED, answers=(listed,))
    assert request.params["steps"] == [{"argv": ["iptables-restore"], "text": RULES}]
    assert (request.verb, request.params["list"], request.params["may_load"]) == (
        "scratch-rules",
        ["iptables-save"],
        True,
    )
    assert loads.loads[0].text == "*filter\nCOMMIT\n"
    assert loads.plain is Backend.IPTABLES_NFT


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (RULES.replace("-j ACCEPT", "-j LOG"), "xt_log"),
        (RULES.replace("state --state", "recent --name"), "xt_recent"),
        (RULES.replace("*filter", "*nat"), "nft_chain_nat"),
    ],
)
def test_nothing_that_could_load_a_module_is_asked(text: str, missing: str) -> None:
    rules = SavedRules(source=V4.source, path=V4.path, text=text)
    requests, loads = asked(rules, modules=LOADED)
    assert requests == []
    assert missing in loads.loads[0].reason.lower()
    assert "--load-modules" in loads.loads[0].reason
    assert len(asked(rules, modules=LOADED, load_modules=True)[0]) == 1
    assert len(asked(rules)[0]) == 1, "a kernel without modules loads none"


def test_without_nf_tables_nothing_is_asked() -> None:
    requests, loads = asked(V4, CONF, modules=LOADED, state=FeatureState.LOADABLE)
    assert requests == []
    assert all("nf_tables" in load.reason for load in loads.loads)


def test_an_included_file_that_was_not_read_could_hold_anything() -> None:
    conf = SavedRules(source=CONF.source, path=CONF.path, text='include "/opt/site/*.nft"\n')
    requests, loads = asked(conf, modules=LOADED)
    assert requests == []
    assert "/opt/site/*.nft" in loads.loads[0].reason
    (request,) = asked(conf)[0]
    assert request.params["steps"] == [{"argv": ["nft", "-f", "/etc/nftables.conf"]}]


def test_the_tools_own_line_says_why_a_file_does_not_load() -> None:
    stderr = "In file included from x:1:1-9:\n/etc/nftables.conf:3:1-5: Error: syntax error\nmore\n"
    failed = Answer(data={"failed": 0, "stdout": "", "stderr": stderr, "code": 1})
    loads = asked(CONF, answers=(failed,))[1]
    assert loads.loads[0].text is None
    assert loads.loads[0].reason == "/etc/nftables.conf does not load: /etc/nftables.conf:3:1-5: Error: syntax error"


def test_firewalld_is_asked_only_when_it_runs() -> None:
    active = FirewallService(name="firewalld", active=True, evidence="")
    requests, loads = asked(services=(active,))
    assert len(requests) == 7
    assert {request.params["argv"][0] for request in requests} == {"firewall-cmd"}
    assert len(loads.firewalld.failed) == 7
    assert asked()[1].firewalld is None


def test_modules() -> None:
    assert modules_of(Answer(data={"files": {}})).locked
    off = {"/proc/modules": LOADED, "/proc/sys/kernel/modules_disabled": "1\n"}
    assert modules_of(Answer(data={"files": off})).locked
    builtin = {"/proc/modules": "", "/lib/modules/6/modules.builtin": "kernel/net/netfilter/xt_LOG.ko\n"}
    found = modules_of(Answer(data={"files": builtin}))
    assert found.missing(Backend.IPTABLES_NFT, 4, "*filter\n-A INPUT -j LOG\n") == ()
    assert not modules_of(NONE).locked
    text = "table inet a { chain b { ct state new log accept } } # quota is not asked\n"
    assert Modules().missing(Backend.NFT_NATIVE, 0, text) == ("nft_ct", "nft_log")
    assert Modules().missing(Backend.IPSET, 0, "create a hash:ip,port x\n") == ("ip_set_hash_ipport",)


@pytest.mark.parametrize(
    ("stdout", "stderr", "links", "enabled"),
    [
        ("enabled\n", "", (), True),
        ("disabled\n", "", (), False),
        ("masked\n", "", (), False),
        ("", "Failed to get unit file state for x.service: No such file or directory\n", (), False),
        ("not-found\n", "", (), False),
        ("", "System has not been booted with systemd\n", (), None),
        (None, "", ("/etc/systemd/system/multi-user.target.wants/netfilter-persistent.service",), True),
        (None, "", ("/etc/rc2.d/S01netfilter-persistent",), True),
        (None, "", ("/etc/runlevels/default/netfilter-persistent",), True),
        (None, "", ("/etc/rc2.d/S01other",), None),
    ],
)
def test_whether_a_service_starts_at_boot(
    stdout: str | None, stderr: str, links: tuple[str, ...], enabled: bool | None
) -> None:
    answer = NONE if stdout is None else Answer(data={"stdout": stdout, "stderr": stderr, "code": 1})
    saved = Answer(data={"files": {V4.path: RULES}, "errors": {}})
    linked = Answer(data={"files": {}, "errors": {path: {"kind": "missing"} for path in links}})
    gather = gather_firewall_saved(Context())
    requests = next(gather)
    try:
        gather.send([saved, Answer(data={"files": {}}), NONE, linked, *(answer for _ in requests[4:])])
    except StopIteration as stop:
        boot = {each.name: each for each in stop.value.value.boot}
    assert boot["netfilter-persistent"].enabled is enabled
    assert boot["netfilter-persistent"].evidence
