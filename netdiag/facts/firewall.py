"""The running packet filters as raw text, per namespace, listing only what is there already.

Listing a table can load its module and so change the host: iptables-legacy is asked only where /proc says that tables
exist, nft and iptables-nft only where nf_tables is built in or loaded and the namespace has tables, ipset likewise. A
module that is not loaded holds no rules: that is an empty answer, not an absent one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from netdiag.facts import netlink
from netdiag.facts.context import Context, absence, each_namespace, texts, within
from netdiag.model.facts import HOST, Absence, AbsenceKind, Backend, FeatureState, Namespace, RuleSet, Section
from netdiag.model.wire import Answer, Gather, Request

_NAMES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
_NFT_GETTABLE = 10 << 8 | 1
_NFT_NEWTABLE = 10 << 8
_NFPROTO = {4: 2, 6: 10}
_COUNTERS = re.compile(r"\[\d+:\d+\] ?|(?<=counter) packets \d+ bytes \d+")
_RULES_TIMEOUT_S = 5.0


class _Listing(NamedTuple):
    """One command to run in a namespace; ``as_json`` tells again what another has told as text."""

    backend: Backend
    family: int
    argv: tuple[str, ...]
    as_json: bool = False


class _Seen(NamedTuple):
    """What of a namespace is worth listing."""

    legacy: frozenset[int]
    nft_families: frozenset[int]


_Looked = dict[str, tuple[_Seen, Absence | None]]


def gather_firewall(context: Context, reading: str = "") -> Gather[Section[dict[str, tuple[RuleSet, ...]]]]:
    """The rule sets of every namespace: iptables-legacy, iptables-nft, nft, ipset. One without rules is not listed.

    Args:
        context: Where to look, and what may be asked.
        reading: Tells a repeated reading from the first, so that a bundle keeps both.
    """
    (version,) = yield [Request("command", {"argv": ["iptables", "--version"]}, 2.0)]
    plain = _plain_backend(version)
    looked: _Looked = yield from _look(context)

    def ask(namespace: Namespace) -> list[Request]:
        listings = _listings(context, looked[namespace.id][0], plain, again=bool(reading))
        return [_run(namespace, item.argv, reading) for item in listings]

    def read(namespace: Namespace, answers: Sequence[Answer]) -> tuple[tuple[RuleSet, ...] | None, Absence | None]:
        seen, hidden = looked[namespace.id]
        reasons = [hidden] if hidden is not None else []
        listings = _listings(context, seen, plain, again=bool(reading))
        rules: list[RuleSet] = []
        for item, answer in zip(listings, answers, strict=True):
            text, reason = _output(item, answer)
            if item.as_json:
                # An nft without JSON, or a bundle from before it was asked for, leaves the text alone.
                rules = [msgspec.structs.replace(each, json=text) if _is_native(each) else each for each in rules]
            elif reason is not None:
                reasons.append(reason)
            elif text.strip():
                rules.append(RuleSet(backend=item.backend, family=item.family, text=text, sha256=fingerprint(text)))
        if not rules and reasons and len(reasons) >= sum(not item.as_json for item in listings):
            return None, _joined(reasons)
        return tuple(rules), _joined(reasons)

    return (yield from each_namespace(context, ask, read))


def gather_host_rules(context: Context, reading: str) -> Gather[tuple[RuleSet, ...]]:
    """The rules of the host's own namespace once more, for their counters; empty when they cannot be read."""
    host = context.namespaces.get(HOST)
    if host is None:
        return ()
    section = yield from gather_firewall(msgspec.structs.replace(context, namespaces={HOST: host}), reading)
    return (section.value or {}).get(HOST, ())


def fingerprint(text: str) -> str:
    """SHA-256 of a rule set without its counters and comment lines: equal rules, equal fingerprint."""
    lines = (line.rstrip() for line in _COUNTERS.sub("", text).splitlines() if not line.startswith("#"))
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()


def _look(context: Context) -> Gather[_Looked]:
    """Which tables each namespace has, asked in ways that load nothing."""
    ask_nft = context.present("nf_tables") or context.options.load_modules
    plan = list(context.namespaces.values())
    requests: list[Request] = []
    for namespace in plan:
        requests.append(Request("files", within(namespace, {"globs": [f"{path}*" for path in _NAMES.values()]}), 2.0))
        if ask_nft:
            body = base64.b64encode(bytes(4)).decode("ascii")
            params = {"protocol": 12, "type": _NFT_GETTABLE, "body": body, "may_load": True}
            requests.append(Request("netlink-dump", within(namespace, params), 2.0))
    answers = list((yield requests))
    looked: _Looked = {}
    for namespace in plan:
        names = texts(answers.pop(0))
        legacy = frozenset(family for family, path in _NAMES.items() if names.get(path, "").strip())
        families: frozenset[int] = frozenset()
        hidden = None
        if ask_nft:
            tables = answers.pop(0)
            if tables.data is None:
                hidden = absence(tables)
            else:
                families = _table_families(tables.data["messages"])
        elif context.kernel is None or context.kernel.features["nf_tables"].state is FeatureState.UNKNOWN:
            text = "list nft tables: it could load nf_tables, and whether that is loaded is not known (--load-modules)"
            hidden = Absence(kind=AbsenceKind.WITHHELD, text=text)
        looked[namespace.id] = _Seen(legacy, families), hidden
    return looked


def _table_families(data: bytes) -> frozenset[int]:
    """The families (NFPROTO numbers) of the tables in a dump; struct nfgenmsg begins with it."""
    found = set()
    try:
        for message in netlink.messages(data):
            if message.kind == _NFT_NEWTABLE and message.end > message.start:
                found.add(data[message.start])
    except netlink.Truncated:
        return frozenset(found)
    return frozenset(found)


def _is_native(rules: RuleSet) -> bool:
    return rules.backend is Backend.NFT_NATIVE


def _listings(context: Context, seen: _Seen, plain: Backend | None, *, again: bool) -> list[_Listing]:
    """The commands for one namespace; a second reading is only for what the counters say."""
    wanted: list[_Listing] = []
    for family, prefix in ((4, "iptables"), (6, "ip6tables")):
        if family in seen.legacy:
            tool = f"{prefix}-save" if plain is Backend.IPTABLES_LEGACY else f"{prefix}-legacy-save"
            wanted.append(_Listing(Backend.IPTABLES_LEGACY, family, (tool, "-c")))
        # iptables-nft asks the kernel for nft_compat, which would be loaded.
        if _NFPROTO[family] in seen.nft_families and (context.present("nft_compat") or context.options.load_modules):
            tool = f"{prefix}-save" if plain is Backend.IPTABLES_NFT else f"{prefix}-nft-save"
            wanted.append(_Listing(Backend.IPTABLES_NFT, family, (tool, "-c")))
    if seen.nft_families:
        wanted.append(_Listing(Backend.NFT_NATIVE, 0, ("nft", "-a", "list", "ruleset")))
        if not again:
            wanted.append(_Listing(Backend.NFT_NATIVE, 0, ("nft", "-j", "list", "ruleset"), as_json=True))
    if context.present("ip_set") or context.options.load_modules:
        wanted.append(_Listing(Backend.IPSET, 0, ("ipset", "save")))
    return wanted


def _run(namespace: Namespace, argv: Sequence[str], reading: str) -> Request:
    params: dict[str, Any] = {"argv": list(argv), "may_load": True, **({"reading": reading} if reading else {})}
    return Request("command", within(namespace, params), _RULES_TIMEOUT_S)


def _output(item: _Listing, answer: Answer) -> tuple[str, Absence | None]:
    if answer.data is None:
        reason = absence(answer)
        # Without the tool nothing has made a set, as good as surely: Docker makes none.
        if item.backend is Backend.IPSET and reason.kind is AbsenceKind.MISSING:
            return "", None
        return "", reason
    if answer.data["code"] != 0:
        lines = (answer.data["stderr"].strip() or f"exit code {answer.data['code']}").splitlines()
        return "", Absence(kind=AbsenceKind.FAILED, text=f"run {' '.join(item.argv)}: {lines[0]}")
    return answer.data["stdout"], None


def _joined(reasons: Sequence[Absence]) -> Absence | None:
    if not reasons:
        return None
    return Absence(kind=reasons[0].kind, text="; ".join(dict.fromkeys(each.text for each in reasons)))


def _plain_backend(answer: Answer) -> Backend | None:
    """Which variant the plain name "iptables" is: it says so since 1.8.0, and was always legacy before."""
    if answer.data is None or answer.data["code"] != 0:
        return None
    return Backend.IPTABLES_NFT if "nf_tables" in answer.data["stdout"] else Backend.IPTABLES_LEGACY
