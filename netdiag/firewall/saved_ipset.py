"""ipsets that run against those that are saved. Members with a timeout come and go: they are no differences."""

from __future__ import annotations

import re

import msgspec

# Calico, kube-proxy, fail2ban and firewalld make their sets themselves.
_PROGRAMS = re.compile(r"^(cali|felix|KUBE-|f2b-|docker|firewalld)")


class IpSet(msgspec.Struct, frozen=True, kw_only=True):
    """One set: its type, whether members expire, and its members."""

    name: str
    kind: str
    transient: bool
    members: frozenset[str] = frozenset()


class IpSetDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Sets by name and members as (set, member) that only run, and those that are only saved."""

    lost_sets: tuple[str, ...] = ()
    returning_sets: tuple[str, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    returns: tuple[tuple[str, str], ...] = ()


def read_sets(text: str) -> dict[str, IpSet]:
    """The operator's sets of ``ipset save``; never raises."""
    sets: dict[str, IpSet] = {}
    members: dict[str, set[str]] = {}
    for line in text.replace("\r", "").split("\n"):
        words = line.split()
        if len(words) >= 3 and words[0] == "create" and not _PROGRAMS.match(words[1]):
            sets[words[1]] = IpSet(name=words[1], kind=words[2], transient="timeout" in words)
        elif len(words) >= 3 and words[0] == "add" and words[1] in sets:
            members.setdefault(words[1], set()).add(words[2])
    return {
        name: msgspec.structs.replace(found, members=frozenset(members.get(name, ()))) for name, found in sets.items()
    }


def diff_sets(running: dict[str, IpSet], saved: dict[str, IpSet]) -> IpSetDiff:
    """Compare two states by the names of sets and by their members."""
    lost: list[tuple[str, str]] = []
    returns: list[tuple[str, str]] = []
    for name in running.keys() & saved.keys():
        mine, theirs = running[name], saved[name]
        if not mine.transient and not theirs.transient:
            lost += [(name, member) for member in mine.members - theirs.members]
            returns += [(name, member) for member in theirs.members - mine.members]
    return IpSetDiff(
        lost_sets=tuple(sorted(running.keys() - saved.keys())),
        returning_sets=tuple(sorted(saved.keys() - running.keys())),
        lost=tuple(sorted(lost)),
        returns=tuple(sorted(returns)),
    )
