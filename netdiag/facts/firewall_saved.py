"""Rules that a boot or a reload would install, and the programs that would do it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from netdiag.facts.reading import number, texts
from netdiag.model.facts import FirewallSaved, FirewallService, SavedRules, Section
from netdiag.model.wire import Answer, Gather, Request

_SOURCES: tuple[tuple[str, str], ...] = (
    # (who installs it, pattern of its files)
    ("iptables.service", "/etc/sysconfig/iptables"),
    ("iptables.service", "/etc/sysconfig/ip6tables"),
    ("netfilter-persistent", "/etc/iptables/rules.v4"),
    ("netfilter-persistent", "/etc/iptables/rules.v6"),
    ("nftables.service", "/etc/nftables.conf"),
    ("nftables.service", "/etc/sysconfig/nftables.conf"),
    ("nftables.service", "/etc/nftables/*.nft"),
    ("firewalld", "/etc/firewalld/firewalld.conf"),
    ("firewalld", "/etc/firewalld/direct.xml"),
    ("firewalld", "/etc/firewalld/zones/*.xml"),
    ("firewalld", "/etc/firewalld/policies/*.xml"),
    ("ufw", "/etc/ufw/ufw.conf"),
    ("ufw", "/etc/ufw/*.rules"),
    ("ufw", "/etc/default/ufw"),
)
_PID_FILES = {"firewalld": "/run/firewalld.pid"}
_COMMANDS = {"firewalld": "firewalld", "fail2ban": "fail2ban-server"}
"""The programs' names in /proc/PID/comm, which holds 15 characters at most (include/linux/sched.h)."""


def gather_firewall_saved() -> Gather[Section[FirewallSaved]]:
    """Saved rules and the state of the services that own them."""
    files, pids, processes = yield [
        Request("files", {"globs": [pattern for _, pattern in _SOURCES], "limit_bytes": 1 << 20}),
        Request("files", {"globs": list(_PID_FILES.values())}),
        Request("files", {"globs": ["/proc/[0-9]*/comm"], "limit_bytes": 64}),
    ]
    read = texts(files)
    rules = tuple(
        SavedRules(source=source, path=path, text=read[path])
        for path in sorted(read)
        for source in [_source_of(path)]
        if source
    )
    return Section(value=FirewallSaved(rules=rules, services=_services(read, texts(pids), _running(processes))))


def _source_of(path: str) -> str:
    for source, pattern in _SOURCES:
        if re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), path):
            return source
    return ""


def _running(answer: Answer) -> dict[str, int]:
    """Commands by name with one process id each."""
    found: dict[str, int] = {}
    for path, name in texts(answer).items():
        pid = number(path.split("/")[2])
        if pid is not None:
            found.setdefault(name.strip(), pid)
    return found


def _services(
    read: Mapping[str, str], pids: Mapping[str, str], running: Mapping[str, int]
) -> tuple[FirewallService, ...]:
    found: list[FirewallService] = []
    for service, command in _COMMANDS.items():
        pid = running.get(command) or _live(pids.get(_PID_FILES.get(service, ""), ""), running)
        installed = any(path.startswith(f"/etc/{service}/") for path in read)
        if pid is not None:
            found.append(FirewallService(name=service, active=True, evidence=f"process {pid}"))
        elif installed:
            found.append(FirewallService(name=service, active=False, evidence=f"/etc/{service} exists, no process"))
    ufw = read.get("/etc/ufw/ufw.conf")
    if ufw is not None:
        # ufw has no process: its rules are loaded at boot when ENABLED=yes (ufw-init).
        on = re.search(r"^ENABLED=yes\b", ufw, re.MULTILINE | re.IGNORECASE) is not None
        found.append(
            FirewallService(name="ufw", active=on, evidence=f"ENABLED={'yes' if on else 'no'} in /etc/ufw/ufw.conf")
        )
    return tuple(found)


def _live(pid_file: str, running: Mapping[str, int]) -> int | None:
    pid = number(pid_file)
    return pid if pid in running.values() else None
