"""firewalld's running configuration against its permanent one, as ``firewall-cmd`` lists both."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

import msgspec

from netdiag.firewall.save_text import split_words
from netdiag.firewall.saved_text import canonical
from netdiag.shell import shell_text

_HEAD = re.compile(r"^(\S+)(?: \((?:active|default|, )*\))?\s*$")
_FIELD = re.compile(r"^  ([a-z][a-z -]*): ?(.*)$")
_LINES = frozenset({"rich rules", "forward-ports"})
"""Fields whose values stand on lines of their own, since they may hold blanks."""
_SWITCHES = {
    "masquerade": "masquerade",
    "forward": "forward",
    "icmp-block-inversion": "icmp-block-inversion",
}
_OPTIONS = {
    "services": "service",
    "ports": "port",
    "protocols": "protocol",
    "sources": "source",
    "interfaces": "interface",
    "source-ports": "source-port",
    "icmp-blocks": "icmp-block",
    "forward-ports": "forward-port",
    "rich rules": "rich-rule",
    "ingress-zones": "ingress-zone",
    "egress-zones": "egress-zone",
}
# The engine makes both when it starts, and tells firewalld again after a reload.
_ENGINE = {"zone": frozenset({"docker"}), "policy": frozenset({"docker-forwarding"})}

Objects = dict[str, dict[str, tuple[str, ...]]]
"""Zones or policies by name, each with its fields."""


class SettingDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of one zone or policy ("zone public: port 2377/tcp") that only runs or is only permanent.

    ``runs`` is what runs ("yes", "no", a target) where the setting has one value, else None. ``save`` and ``restore`` are
    the commands that make it permanent, and that bring the permanent state back.
    """

    setting: str
    only_running: bool
    runs: str | None = None
    saved: str | None = None
    save: str = ""
    restore: str = ""


def read_objects(text: str) -> Objects:
    """Zones or policies of ``--list-all-zones`` or ``--list-all-policies``; never raises."""
    found: Objects = {}
    name = field = ""
    values: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if not line.strip():
            continue
        if not line[0].isspace():
            head = _HEAD.match(line)
            name, field = head[1] if head else line.strip(), ""
            values = {}
        elif (entry := _FIELD.match(line)) and name:
            field = entry[1]
            values[field] = [entry[2]] if field in _LINES and entry[2] else entry[2].split()
        elif name and field:
            values[field].append(line.strip())
        if name:
            found[name] = {key: tuple(each) for key, each in values.items()}
    return found


def diff_objects(kind: str, running: Objects, permanent: Objects) -> Iterator[SettingDiff]:
    """What differs between the two configurations of all zones (``kind`` "zone") or policies ("policy")."""
    for name in dict.fromkeys((*running, *permanent)):
        if name in _ENGINE[kind]:
            continue
        mine, theirs = running.get(name), permanent.get(name)
        if mine is None or theirs is None:
            yield SettingDiff(
                setting=f"{kind} {name}",
                only_running=theirs is None,
                save=_command(f"--new-{kind}={name}", permanent=True) if theirs is None else "",
            )
            continue
        for field in dict.fromkeys((*mine, *theirs)):
            yield from _field(kind, name, field, mine.get(field, ()), theirs.get(field, ()))


def _field(kind: str, name: str, field: str, mine: tuple[str, ...], theirs: tuple[str, ...]) -> Iterator[SettingDiff]:
    where = f"--{kind}={name}"
    option = _OPTIONS.get(field)
    if option is None:
        if mine != theirs:
            runs, saved = " ".join(mine), " ".join(theirs)
            save = restore = ""
            if field in _SWITCHES:
                verb, undo = ("add", "remove") if runs == "yes" else ("remove", "add")
                save = _command(where, f"--{verb}-{_SWITCHES[field]}", permanent=True)
                restore = _command(where, f"--{undo}-{_SWITCHES[field]}")
            elif field in ("target", "priority"):
                save = _command(where, f"--set-{field}={runs}", permanent=True)
            yield SettingDiff(
                setting=f"{kind} {name}: {field}", only_running=True, runs=runs, saved=saved, save=save, restore=restore
            )
        return
    for value in sorted(set(mine) ^ set(theirs)):
        only_running = value in mine
        # NetworkManager and the engine bind interfaces at run time, and do so again at boot.
        if field == "interfaces" and only_running:
            continue
        command = _command(where, f"--add-{option}={value}", permanent=only_running)
        yield SettingDiff(
            setting=f"{kind} {name}: {option} {value}",
            only_running=only_running,
            save=command if only_running else "",
            restore="" if only_running else command,
        )


def diff_direct(running: str, permanent: str) -> Iterator[SettingDiff]:
    """Direct rules: lines as "ipv4 filter INPUT 0 -p tcp -j ACCEPT"."""
    mine, theirs = ({line.strip() for line in text.split("\n") if line.strip()} for text in (running, permanent))
    for line in sorted(mine ^ theirs):
        only_running = line in mine
        command = _command("--direct", "--add-rule", *_direct_words(line), permanent=only_running)
        yield SettingDiff(
            setting=f"direct rule {line}",
            only_running=only_running,
            save=command if only_running else "",
            restore="" if only_running else command,
        )


def _direct_words(line: str) -> Sequence[str]:
    """A direct rule's words, which firewall-cmd lists quoted for a shell (joinArgs in its functions.py)."""
    try:
        return shlex.split(line)
    except ValueError:
        return split_words(line)


def _command(*words: str, permanent: bool = False) -> str:
    return shell_text(["firewall-cmd", *(("--permanent",) if permanent else ()), *words])


def direct_keys(text: str) -> frozenset[tuple[int, str, str, str]]:
    """Direct rules as family, table, chain and the rule in its one spelling: they stand in iptables' own chains."""
    found = set()
    for line in text.split("\n"):
        words = _direct_words(line)
        if len(words) > 4 and words[0] in ("ipv4", "ipv6"):
            family = 6 if words[0] == "ipv6" else 4
            found.add((family, words[1], words[2], canonical(tuple(words[4:]), family)))
    return frozenset(found)


def configured(conf: str, key: str) -> str:
    """A value of firewalld.conf; empty where it is not set."""
    found = re.search(rf"^\s*{key}\s*=\s*(\S+)", conf, re.MULTILINE)
    return found[1] if found else ""
