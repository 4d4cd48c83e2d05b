"""Rules that a boot or a reload would install, and the programs that own rules."""

from __future__ import annotations

from collections.abc import Mapping

from netdiag.facts.context import Context, absence, files_request, texts
from netdiag.firewall.saved_sources import FIREWALLD, IPTABLES, NFTABLES, PERSISTENT, UFW
from netdiag.model.facts import FirewallBoot, FirewallSaved, FirewallService, SavedRules, Section
from netdiag.model.wire import Answer, Gather, Request

_SOURCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        FIREWALLD,
        (
            "/etc/firewalld/firewalld.conf",
            "/etc/firewalld/zones/*.xml",
            "/etc/firewalld/policies/*.xml",
            "/etc/firewalld/services/*.xml",
            "/etc/firewalld/ipsets/*.xml",
            "/etc/firewalld/direct.xml",
        ),
    ),
    (
        IPTABLES,
        ("/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables", "/etc/sysconfig/ipset", "/etc/sysconfig/ipset.d/*.set"),
    ),
    (PERSISTENT, ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/iptables/ipsets")),
    (
        NFTABLES,
        ("/etc/nftables.conf", "/etc/nftables.d/*.nft", "/etc/sysconfig/nftables.conf", "/etc/nftables/*.nft"),
    ),
    (UFW, ("/etc/ufw/ufw.conf", "/etc/default/ufw", "/etc/ufw/*.rules")),
)
ROLES = ("firewalld", "ufw", "nftables", "iptables", "netfilter-persistent", "fail2ban", "csf", "shorewall")
_LOADERS = frozenset({"nftables", "iptables", "netfilter-persistent"})
"""They load saved rules at boot and end; without systemd nothing tells whether they did, and nothing of them runs."""
BOOT = ("firewalld", "ufw", "nftables", "iptables", "ip6tables", "netfilter-persistent")
"""The services of which it matters whether they start at boot."""
_BOOT_LINKS = ("/etc/systemd/system/*.wants/{}.service", "/etc/rc[2345S].d/S[0-9][0-9]{}", "/etc/runlevels/*/{}")
"""How an init system is told to start a service, for hosts that have no systemctl."""
_STARTS = frozenset({"enabled", "enabled-runtime", "alias", "static", "generated", "indirect"})
_PID_FILES = {"firewalld": "/run/firewalld.pid", "fail2ban": "/run/fail2ban/fail2ban.pid"}
_INSTALLED = {
    "firewalld": "/usr/lib/firewalld/zones/public.xml",
    "ufw": "/etc/ufw/ufw.conf",
    "nftables": "/etc/nftables.conf",
    "fail2ban": "/etc/fail2ban/fail2ban.conf",
    "csf": "/etc/csf/csf.conf",
    "shorewall": "/etc/shorewall/shorewall.conf",
}
SAVED_FILES = tuple(path for _, paths in _SOURCES for path in paths)
"""Patterns of the files whose text is read."""
OWNER_FILES = (*_PID_FILES.values(), *_INSTALLED.values())
"""Files of which only the existence is of interest: a program is installed, or runs."""
BOOT_LINKS = tuple(pattern.format(name) for name in BOOT for pattern in _BOOT_LINKS)
"""Patterns of the links that start a service at boot, on hosts of whatever init system."""


def gather_firewall_saved(_context: Context) -> Gather[Section[FirewallSaved]]:
    """Saved rules by the mechanism that would install them, and what is installed, active, and starts at boot."""
    globs = [_tolerant(path) for path in SAVED_FILES]
    existence = [_tolerant(path) for path in OWNER_FILES]
    saved, there, active, linked, *enabled = yield [
        files_request(globs, timeout_s=3.0),
        # Only whether they exist: a limit of one byte reads next to nothing.
        files_request(existence, limit_bytes=1),
        Request("command", {"argv": ["systemctl", "is-active", *ROLES]}, 2.0),
        files_request(BOOT_LINKS, limit_bytes=1),
        # One by one: for a unit that there is not, systemctl says nothing on its standard output.
        *(Request("command", {"argv": ["systemctl", "is-enabled", name]}, 2.0) for name in BOOT),
    ]
    if saved.data is None:
        return Section(absent=absence(saved))
    found = texts(saved)
    rules = [
        SavedRules(source=source, path=path, text=text)
        for source, patterns in _SOURCES
        for path, text in sorted(found.items())
        if any(_belongs(path, pattern) for pattern in patterns)
    ]
    services = _services(texts(there), _states(active), found)
    boot = tuple(_at_boot(name, answer, linked) for name, answer in zip(BOOT, enabled, strict=True))
    return Section(value=FirewallSaved(rules=tuple(rules), services=services, boot=boot))


def _at_boot(name: str, answer: Answer, linked: Answer) -> FirewallBoot:
    """Whether a service starts at boot, and what says so: systemctl, or the links that init systems follow."""
    if answer.data is not None:
        word = answer.data["stdout"].strip()
        said = (answer.data["stderr"].strip().splitlines() or [""])[0]
        if word or "No such file" in said:
            return FirewallBoot(
                name=name, enabled=word in _STARTS, evidence=f"systemctl is-enabled {name}: {word or said}"
            )
    # A link to a unit that cannot be opened is a link all the same.
    broken = linked.data.get("errors", {}) if linked.data is not None else {}
    for path in sorted((*texts(linked), *broken)):
        if path.endswith((f"/{name}.service", f"/{name}")) or path.rpartition("/")[2][3:] == name:
            return FirewallBoot(name=name, enabled=True, evidence=f"{path} is there")
    text = f"neither systemctl nor a link of init says whether {name} starts at boot"
    return FirewallBoot(name=name, enabled=None, evidence=text)


def _tolerant(path: str) -> str:
    """The path as a pattern: a file that is not there is then no error."""
    return path if "*" in path else f"{path[:-1]}[{path[-1]}]"


def _belongs(path: str, pattern: str) -> bool:
    start, star, end = pattern.partition("*")
    return path.startswith(start) and path.endswith(end) and "/" not in path[len(start) :] if star else path == pattern


def _states(answer: Answer) -> dict[str, str]:
    """What systemctl says of each service, in the order of the question; nothing where systemd does not run."""
    if answer.data is None:
        return {}
    words = answer.data["stdout"].split()
    return dict(zip(ROLES, words, strict=True)) if len(words) == len(ROLES) else {}


def _services(
    there: Mapping[str, str], states: Mapping[str, str], saved: Mapping[str, str]
) -> tuple[FirewallService, ...]:
    services: list[FirewallService] = []
    for name in ROLES:
        state, pid_file = states.get(name), _PID_FILES.get(name, "")
        installed = _INSTALLED.get(name, "") in there
        if pid_file and pid_file in there:
            services.append(FirewallService(name=name, active=True, evidence=f"{pid_file} is there"))
        elif name == "ufw" and installed:
            enabled = "enabled=yes" in saved.get("/etc/ufw/ufw.conf", "").lower().replace(" ", "")
            text = f"/etc/ufw/ufw.conf says ENABLED={'yes' if enabled else 'no'}"
            services.append(FirewallService(name=name, active=enabled, evidence=text))
        elif state == "active":
            services.append(FirewallService(name=name, active=True, evidence=f"systemctl is-active {name}: {state}"))
        elif installed and state:
            services.append(FirewallService(name=name, active=False, evidence=f"systemctl is-active {name}: {state}"))
        elif installed and pid_file:
            text = f"{_INSTALLED[name]} is there, {pid_file} is not"
            services.append(FirewallService(name=name, active=False, evidence=text))
        elif installed and name not in _LOADERS:
            text = f"{_INSTALLED[name]} is there, and no systemd to ask"
            services.append(FirewallService(name=name, active=None, evidence=text))
    return tuple(services)
