"""Which mechanisms of a host save rules, and whether they act at boot."""

from __future__ import annotations

import msgspec

from netdiag.model.facts import FirewallSaved
from netdiag.model.firewall_diff import SavedSource

FIREWALLD, IPTABLES, PERSISTENT, NFTABLES, UFW = (
    "firewalld",
    "iptables.service",
    "netfilter-persistent",
    "nftables.service",
    "ufw",
)
SOURCES = {
    FIREWALLD: "firewalld",
    IPTABLES: "iptables",
    PERSISTENT: "netfilter-persistent",
    NFTABLES: "nftables",
    UFW: "ufw",
}
"""Everything that saves rules and is compared, with the service that loads them."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """The mechanisms of one host by name; ``ip6tables`` tells of the second service of iptables.service."""

    by_name: dict[str, SavedSource]
    ip6tables: bool | None = None

    def at_boot(self, mechanism: str, family: int = 4) -> bool:
        """Whether it loads what it saved of a family at the next boot; yes where that is not known."""
        found = self.by_name.get(mechanism)
        if found is not None and mechanism == IPTABLES and family == 6:
            return self.ip6tables is not False
        return found is not None and found.enabled is not False

    def acts(self, mechanism: str) -> bool:
        """Whether a reload or restart of it is to be expected: it is active now, or starts at boot."""
        found = self.by_name.get(mechanism)
        return found is not None and (found.active is True or found.enabled is True)


def sources_of(saved: FirewallSaved) -> Sources:
    """Mechanisms that have files here or run here, with their state."""
    services = {service.name: service for service in saved.services}
    boot = {each.name: each for each in saved.boot}
    found: dict[str, SavedSource] = {}
    for name, unit in SOURCES.items():
        files = tuple(rules.path for rules in saved.rules if rules.source == name)
        service, starts = services.get(unit), boot.get(unit)
        active = service.active if service is not None else None
        enabled, evidence = (starts.enabled, starts.evidence) if starts is not None else (None, "")
        # ufw's unit starts, and does nothing unless its own file says that it is on.
        if name == UFW and not active:
            enabled, evidence = False, service.evidence if service is not None else "/etc/ufw/ufw.conf is not there"
        # Its package brings its files along: where it is off, they are nothing that anybody saved.
        if (files and name != UFW) or active or enabled:
            found[name] = SavedSource(mechanism=name, files=files, active=active, enabled=enabled, evidence=evidence)
    second = boot.get("ip6tables")
    return Sources(by_name=found, ip6tables=second.enabled if second is not None else None)
