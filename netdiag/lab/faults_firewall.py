"""Faults of packet filters: rules of iptables in both variants and of nft, and filters in the fabric."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence

from netdiag.errors import UsageError
from netdiag.lab.faults import HOST, Fault, Kind, Parameter, Values, Work
from netdiag.lab.topology import FABRIC

_NFT = "nft"
_BACKENDS = ("iptables", "iptables-nft", "iptables-legacy", "ip6tables", "ip6tables-legacy", _NFT)
_BACKEND = Parameter(
    "backend",
    Kind.CHOICE,
    "which filter: iptables is the host's default; nft makes a table of its own; in the fabric always nft",
    default="iptables",
    choices=_BACKENDS,
)
_TABLE = Parameter("table", Kind.TEXT, "iptables table", default="filter")
MATCH = (
    Parameter("proto", Kind.TEXT, "protocol: tcp, udp, icmp, or a number"),
    Parameter("dport", Kind.PORTS, "destination ports"),
    Parameter("sport", Kind.PORTS, "source ports"),
    Parameter("source", Kind.PREFIX, "source addresses"),
    Parameter("destination", Kind.PREFIX, "destination addresses"),
)
NETNS = Parameter("netns", Kind.TEXT, "in this network namespace of the host: container:NAME or overlay:NETWORK")
_SET = (
    Parameter("set", Kind.TEXT, "make a set of this name"),
    Parameter("members", Kind.TEXT, "what is in the set: ADDRESS[/BITS],…"),
)
_RULE = (
    HOST,
    Parameter("chain", Kind.TEXT, "chain; it must exist", default="INPUT"),
    _TABLE,
    *MATCH,
    Parameter("interface", Kind.TEXT, "only packets of this interface (out of it for OUTPUT and POSTROUTING)"),
    Parameter("extra", Kind.ARGUMENTS, 'more matches in iptables\' words, such as "-m state --state NEW"'),
    Parameter("position", Kind.NUMBER, "number that the rule gets in its chain; 0: at the end", default="1"),
    Parameter("called", Kind.TEXT, "put the rule into a new chain of this name, which CHAIN jumps to"),
    *_SET,
    NETNS,
    _BACKEND,
)
_REJECT_WITH = (
    *("icmp-port-unreachable", "icmp-host-prohibited", "icmp-admin-prohibited", "icmp-host-unreachable"),
    *("icmp-net-unreachable", "tcp-reset"),
)
_FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")
_NFT_HOOKS = ("ingress", "prerouting", "input", "forward", "output", "postrouting", "egress")
_HOOKS = {name.upper(): name for name in ("input", "output", "forward", "prerouting", "postrouting")}


def _drop(work: Work, values: Values) -> None:
    _add_rule(work, values, ["-j", "DROP"], "drop")


def _reject(work: Work, values: Values) -> None:
    kind = values["with"]
    native = "reject with tcp reset" if kind == "tcp-reset" else f"reject with icmp type {kind.removeprefix('icmp-')}"
    _add_rule(work, values, ["-j", "REJECT", "--reject-with", kind], native)


def _add_rule(work: Work, values: Values, verdict: list[str], native: str) -> None:
    """Add one rule with either tool."""
    if ("dport" in values or "sport" in values) and values.get("proto") not in {"tcp", "udp", "sctp", "dccp"}:
        raise UsageError("dport and sport need proto=tcp or proto=udp")
    if values["host"] == FABRIC and verdict[1] == "REJECT":
        # The bridge family rejects on few kernels; iptables sees a bridge's packets and answers from its address.
        work.run(FABRIC, ["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"])
        _add_iptables(work, {**values, "chain": "FORWARD", "backend": "iptables"}, verdict)
    elif values["host"] == FABRIC or values["backend"] == _NFT:
        _add_native(work, values, native)
    else:
        _add_iptables(work, values, verdict)


def _add_iptables(work: Work, values: Values, verdict: list[str]) -> None:
    host, chain, called = values["host"], values["chain"], values.get("called")
    within = netns_words(work, values)
    tool = [*within, values["backend"], "-w", "-t", values["table"]]
    rule = [*_iptables_match(values), *verdict]
    if "set" in values:
        rule = ["-m", "set", "--match-set", _add_ipset(work, values, within), "src", *rule]
    if called is not None:
        work.run(host, [*tool, "-N", called], undo=[*tool, "-X", called], only_if=[*tool, "-L", called, "-n"])
        _append(work, host, tool, called, rule)
        rule = ["-j", called]
    if values["position"] == "0":
        _append(work, host, tool, chain, rule)
        return
    where = [*tool, "-I", chain, values["position"]]
    work.run(host, [*where, *rule], undo=[*tool, "-D", chain, *rule], only_if=[*tool, "-C", chain, *rule])


def netns_words(work: Work, values: Values) -> list[str]:
    """The words that run a command in the namespace that ``netns`` names; none for the host's own."""
    named = values.get("netns")
    if named is None:
        return []
    kind, _, name = named.partition(":")
    if kind == "container":
        asked = ["docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name]
        path = work.run(values["host"], asked).stdout.strip()
    elif kind == "overlay":
        asked = ["docker", "network", "inspect", "-f", "{{.Id}}", name]
        path = f"/run/docker/netns/1-{work.run(values['host'], asked).stdout.strip()[:10]}"
    else:
        raise UsageError(f"netns={named}: accepted is container:NAME or overlay:NETWORK")
    return ["nsenter", f"--net={path}", "--"]


def _add_ipset(work: Work, values: Values, within: Sequence[str]) -> str:
    """Make an ipset and give its name."""
    name, tool = values["set"], [*within, "ipset"]
    family = "inet6" if values["backend"].startswith("ip6") else "inet"
    create = [*tool, "create", name, "hash:net", "family", family]
    work.run(values["host"], create, undo=[*tool, "destroy", name], only_if=[*tool, "list", "-n", name])
    for member in values.get("members", "").split(","):
        if member:
            work.run(values["host"], [*tool, "add", name, member])
    return name


def _append(work: Work, host: str, tool: list[str], chain: str, rule: Sequence[str]) -> None:
    work.run(host, [*tool, "-A", chain, *rule], undo=[*tool, "-D", chain, *rule], only_if=[*tool, "-C", chain, *rule])


def _iptables_match(values: Values) -> list[str]:
    match: list[str] = []
    for key, option in (("source", "-s"), ("destination", "-d"), ("proto", "-p")):
        if key in values:
            match += [option, values[key]]
    if "interface" in values:
        match += ["-o" if values["chain"] in {"OUTPUT", "POSTROUTING"} else "-i", values["interface"]]
    for key in ("sport", "dport"):
        if key in values:
            several = "," in values[key]
            match += ["-m", "multiport", f"--{key}s", values[key]] if several else [f"--{key}", values[key]]
    return [*match, *shlex.split(values.get("extra", ""))]


def _add_native(work: Work, values: Values, verdict: str) -> None:
    """A table of its own, in the bridge family for the fabric: frames of a bridge pass no other."""
    for key in ("extra", "called", "set", "netns"):
        if key in values:
            raise UsageError(f"{key}={values[key]} is for iptables, and here the filter is nft")
    fabric = values["host"] == FABRIC
    chain = "FORWARD" if fabric and values["chain"] == "INPUT" else values["chain"]
    hook = _HOOKS.get(chain)
    if hook is None:
        raise UsageError(f"chain={chain}: nft has {', '.join(_HOOKS)}")
    family = "bridge" if fabric else "inet"
    add_native_table(work, values["host"], family, hook, [*native_match(values, hook), verdict])


def add_native_table(work: Work, host: str, family: str, hook: str, rule: Sequence[str]) -> None:
    """Add a table with one base chain and one rule, under a name that repeats nowhere."""
    table = f"site_{secrets.token_hex(3)}"
    text = f"table {family} {table} {{ chain {hook} {{ type filter hook {hook} priority 0; {' '.join(rule)}; }}; }}\n"
    name = [_NFT, "delete", "table", family, table]
    work.run(host, [_NFT, "-f", "-"], stdin=text, undo=name, only_if=[_NFT, "list", "table", family, table])


def native_match(values: Values, hook: str) -> list[str]:
    """The match parameters in nft's words."""
    match: list[str] = []
    if "interface" in values:
        match += ["oifname" if hook in {"output", "postrouting"} else "iifname", f'"{values["interface"]}"']
    for key, field in (("source", "saddr"), ("destination", "daddr")):
        if key in values:
            match += ["ip6" if ":" in values[key] else "ip", field, values[key]]
    if "proto" in values and not ("dport" in values or "sport" in values):
        match += ["meta", "l4proto", values["proto"]]
    for key in ("sport", "dport"):
        if key in values:
            match += [values["proto"], key, "{", values[key].replace(":", "-"), "}"]
    return match


def _nft(work: Work, values: Values) -> None:
    """A table with one base chain, in nft's own words."""
    family, hook, table = values["family"], values["hook"], values["table"]
    if (family == "netdev") != ("device" in values):
        raise UsageError(f"family={family}: device= belongs to netdev, and netdev needs it")
    device = f' device "{values["device"]}"' if "device" in values else ""
    members = f"elements = {{ {values['members']} }};" if values.get("members") else ""
    kind = "ipv6_addr" if ":" in values.get("members", "") else "ipv4_addr"
    named = f"set {values['set']} {{ type {kind}; flags interval; {members} }}\n" if "set" in values else ""
    base = f"type filter hook {hook}{device} priority {values['priority']}; policy {values['policy']};"
    rules = "\n".join(rule.strip() for rule in values["rules"].split(";"))
    # Made with "create", so that a table of the host's own is refused and never deleted by the undo.
    text = (
        f"create table {family} {table}\ntable {family} {table} {{\n{named}chain {hook} {{\n{base}\n{rules}\n}}\n}}\n"
    )
    tool = [*netns_words(work, values), _NFT]
    gone, there = [*tool, "delete", "table", family, table], [*tool, "list", "table", family, table]
    work.run(values["host"], [*tool, "-f", "-"], stdin=text, undo=gone, only_if=there)


def _policy(work: Work, values: Values) -> None:
    host, table, chain = values["host"], values["table"], values["chain"]
    tool = [*netns_words(work, values), values["backend"], "-w", "-t", table]
    first = work.run(host, [*tool, "-S", chain]).stdout.splitlines()[0].split()
    if first[0] != "-P":
        raise UsageError(f"chain={chain} is no chain with a policy")
    before = [*tool, "-P", chain, first[2]]
    work.run(host, [*tool, "-P", chain, values["policy"]], undo=before, only_if=[*tool, "-S", chain])


def _stateful_input(work: Work, values: Values) -> None:
    """As Red Hat's iptables-services installs it, in that order."""
    rules = [
        ["-m", "state", "--state", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
        ["-p", "icmp", "-j", "ACCEPT"],
        ["-i", "lo", "-j", "ACCEPT"],
        ["-p", "tcp", "-m", "state", "--state", "NEW", "-m", "tcp", "--dport", "22", "-j", "ACCEPT"],
        ["-j", "REJECT", "--reject-with", values["with"]],
    ]
    for rule in rules:
        _append(work, values["host"], [values["backend"], "-w"], "INPUT", rule)


def _flush(work: Work, values: Values) -> None:
    """Undone from what the table held, whole: jumps and counters of other tables stay."""
    host, table, backend = values["host"], values["table"], values["backend"]
    saved = work.run(host, [f"{backend}-save", "-t", table]).stdout
    flush = [backend, "-w", "-t", table, "-F", *([values["chain"]] if "chain" in values else [])]
    work.run(host, flush, undo=[f"{backend}-restore", "-w", "-T", table], undo_stdin=saved)


def _loss(work: Work, values: Values) -> None:
    rule = [*native_match(values, "forward"), "numgen", "random", "mod", "100", "<", values["percent"], "drop"]
    add_native_table(work, FABRIC, "bridge", "forward", rule)


_WITH = Parameter("with", Kind.CHOICE, "how it is refused", default="icmp-port-unreachable", choices=_REJECT_WITH)
_PROHIBITED = Parameter("with", Kind.CHOICE, "how it is refused", default="icmp-host-prohibited", choices=_REJECT_WITH)
_IPTABLES = Parameter("backend", Kind.CHOICE, "which iptables", default="iptables", choices=_BACKENDS[:-1])

FAULTS = (
    Fault("drop", "A rule that drops.", _RULE, _drop, "host=manager chain=INPUT proto=tcp dport=2377"),
    Fault(
        "reject",
        "A rule that rejects.",
        (*_RULE, _WITH),
        _reject,
        "host=worker proto=udp dport=4789 with=icmp-host-prohibited",
    ),
    Fault(
        "nft",
        "A table in nft's own words: any family, hook and priority.",
        (
            HOST,
            Parameter("family", Kind.CHOICE, "address family", "inet", choices=_FAMILIES),
            Parameter("hook", Kind.CHOICE, "where it sees packets", "input", choices=_NFT_HOOKS),
            Parameter("device", Kind.TEXT, "the device, in family netdev"),
            Parameter("priority", Kind.TEXT, "before or after whom: a number or a name", default="0"),
            Parameter("rules", Kind.TEXT, 'its rules, with semicolons: "tcp dport 22 accept; drop"', required=True),
            Parameter("policy", Kind.CHOICE, "what befalls the rest", "accept", choices=("accept", "drop")),
            Parameter("table", Kind.TEXT, "the table's name; it must be a new one", default="site"),
            *_SET,
            NETNS,
        ),
        _nft,
        'host=worker rules="tcp dport 9000 counter drop" priority=50',
    ),
    Fault(
        "stateful-input",
        "The INPUT of a stock CentOS: established, icmp, lo and ssh, then reject.",
        (HOST, _PROHIBITED, _IPTABLES),
        _stateful_input,
        "host=worker",
    ),
    Fault(
        "policy",
        "The policy of a base chain.",
        (
            HOST,
            Parameter("chain", Kind.TEXT, "a built-in chain", default="INPUT"),
            Parameter("policy", Kind.CHOICE, "what befalls the rest", default="DROP", choices=("ACCEPT", "DROP")),
            _TABLE,
            NETNS,
            _IPTABLES,
        ),
        _policy,
        "host=worker chain=INPUT policy=DROP",
    ),
    Fault(
        "flush",
        "Empty a table or a chain, as iptables -F does, the engine's rules included.",
        (HOST, _TABLE, Parameter("chain", Kind.TEXT, "only this chain"), _IPTABLES),
        _flush,
        "host=manager table=nat",
    ),
    Fault(
        "loss",
        "Lose a share of the frames that cross the fabric.",
        (Parameter("percent", Kind.NUMBER, "share", required=True, low=1, high=100), *MATCH),
        _loss,
        "percent=20 proto=udp dport=4789",
    ),
)
