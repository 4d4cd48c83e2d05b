"""The running rules of every namespace as text, with counters; listed only where listing loads nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec

from netdiag.facts.reading import absence_of
from netdiag.model.facts import HOST, Absence, AbsenceKind, Backend, FeatureState, Kernel, Namespace, RuleSet, Section
from netdiag.model.wire import Answer, Gather, Request

_COUNTERS = re.compile(
    r"^\[\d+:\d+\] |\s\[\d+:\d+\]$|counter packets \d+ bytes \d+|packets \d+ bytes \d+", re.MULTILINE
)
_WAIT_S = 4.0


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One way to list rules: the command, what it lists, and the kernel part that listing would load."""

    argv: tuple[str, ...]
    backend: Backend
    family: int
    feature: str
    witness: str = ""
    """A file that names the tables in use; the listing is needless (and would make tables) while it is empty."""


LISTINGS = (
    Listing(argv=("iptables-nft-save", "-c"), backend=Backend.IPTABLES_NFT, family=4, feature="nf_tables"),
    Listing(argv=("ip6tables-nft-save", "-c"), backend=Backend.IPTABLES_NFT, family=6, feature="nf_tables"),
    Listing(
        argv=("iptables-legacy-save", "-c"),
        backend=Backend.IPTABLES_LEGACY,
        family=4,
        feature="ip_tables",
        witness="/proc/net/ip_tables_names",
    ),
    Listing(
        argv=("ip6tables-legacy-save", "-c"),
        backend=Backend.IPTABLES_LEGACY,
        family=6,
        feature="ip6_tables",
        witness="/proc/net/ip6_tables_names",
    ),
    Listing(argv=("nft", "list", "ruleset"), backend=Backend.NFT_NATIVE, family=0, feature="nf_tables"),
    Listing(argv=("ipset", "save"), backend=Backend.IPSET, family=0, feature="ip_set"),
)
_THERE = frozenset({FeatureState.BUILTIN, FeatureState.LOADED})


def gather_firewall(
    namespaces: Mapping[str, Namespace], kernel: Kernel | None, *, load_modules: bool = False
) -> Gather[Section[dict[str, tuple[RuleSet, ...]]]]:
    """The rule sets of every namespace.

    A namespace in which no listing was possible is in ``partial``; one that has no rules maps to an empty tuple.

    Args:
        namespaces: Where to look.
        kernel: What the kernel has; a part that is not there yet is not loaded by listing, unless allowed.
        load_modules: Allow listing to load modules.
    """
    usable = [one for one in LISTINGS if load_modules or _may_list(one, kernel)]
    if not usable:
        absence = Absence(
            kind=AbsenceKind.MISSING, text="the kernel has no packet filter loaded, so there are no rules"
        )
        return (
            Section(value=dict.fromkeys(namespaces, ()), partial={}) if kernel is not None else Section(absent=absence)
        )
    found: dict[str, tuple[RuleSet, ...]] = {}
    partial: dict[str, Absence] = {}
    flat: list[tuple[str, Listing]] = []
    for name, namespace in namespaces.items():
        used = yield from _in_use(namespace, usable)
        flat += [(name, one) for one in used]
    answers = yield [_request(one, namespaces[name].path) for name, one in flat]
    by_name: dict[str, list[tuple[Listing, Answer]]] = {name: [] for name in namespaces}
    for (name, one), answer in zip(flat, answers, strict=True):
        by_name[name].append((one, answer))
    for name, listed in by_name.items():
        sets = tuple(_rule_sets(listed))
        failure = _failure(listed)
        if failure is not None and (not sets or failure.kind is AbsenceKind.PERMISSION):
            partial[name] = failure
        else:
            found[name] = sets
    if HOST in partial:
        return Section(absent=partial[HOST])
    return Section(value=found, partial=partial)


def gather_host_rules() -> Gather[tuple[RuleSet, ...]]:
    """The iptables rules of the host's own namespace once more, for counters; empty when they cannot be read."""
    listings = [one for one in LISTINGS if one.backend in (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)]
    host = Namespace(id=HOST, path="", inode=0)
    used = yield from _in_use(host, listings)
    answers = yield [_request(one, "") for one in used]
    return tuple(_rule_sets(list(zip(used, answers, strict=True))))


def _may_list(listing: Listing, kernel: Kernel | None) -> bool:
    feature = kernel.features.get(listing.feature) if kernel is not None else None
    return feature is not None and feature.state in _THERE


def _in_use(namespace: Namespace, listings: list[Listing]) -> Gather[list[Listing]]:
    """The listings that say anything here: the old iptables makes its tables when it is asked for them."""
    watched = [one for one in listings if one.witness]
    answers = yield [Request("file", {"path": one.witness, "netns": namespace.path}) for one in watched]
    idle = {
        one.argv
        for one, answer in zip(watched, answers, strict=True)
        if answer.data is None or not answer.data["text"].strip()
    }
    return [one for one in listings if one.argv not in idle]


def _request(listing: Listing, path: str) -> Request:
    # The kernel part is there already (or may be loaded), so the participant need not withhold the command.
    return Request("command", {"argv": list(listing.argv), "netns": path, "may_load": True}, _WAIT_S)


def _rule_sets(listed: list[tuple[Listing, Answer]]) -> Iterator[RuleSet]:
    for listing, answer in listed:
        if answer.data is None or answer.data["code"] != 0 or not answer.data["stdout"].strip():
            continue
        text = answer.data["stdout"]
        yield RuleSet(backend=listing.backend, family=listing.family, text=text, sha256=digest(text))


def _failure(listed: list[tuple[Listing, Answer]]) -> Absence | None:
    """Why rules could not be listed; a tool that is not installed counts only when all are missing."""
    failures: list[Absence] = []
    for listing, answer in listed:
        if answer.data is None:
            failures.append(absence_of(answer))
        elif answer.data["code"] != 0:
            said = (answer.data["stderr"].strip().splitlines() or ["no reason given"])[-1]
            denied = "ermission" in said or "ermitted" in said or "must be root" in said
            kind = AbsenceKind.PERMISSION if denied else AbsenceKind.FAILED
            failures.append(Absence(kind=kind, text=f"{' '.join(listing.argv)}: {said}"))
    serious = [one for one in failures if one.kind is not AbsenceKind.MISSING]
    if serious:
        return serious[0]
    return failures[0] if failures and len(failures) == len(listed) else None


def digest(text: str) -> str:
    """SHA-256 of a listing without its counters, comments and time stamps: it changes only when a rule does."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return hashlib.sha256(_COUNTERS.sub("", "\n".join(lines)).encode()).hexdigest()
