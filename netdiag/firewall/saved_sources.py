"""Which mechanisms of a host save rules, and whether they act at boot."""

from __future__ import annotations

from collections.abc import Iterable

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
_SERVICE = {FIREWALLD: "firewalld", IPTABLES: "iptables", PERSISTENT: "netfilter-persistent", NFTABLES: "nftables"}


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """The mechanisms of one host by name."""

    by_name: dict[str, SavedSource]

    def at_boot(self, mechanism: str) -> bool:
        """Whether it loads what it saved at the next boot; yes where that is not known."""
        found = self.by_name.get(mechanism)
        return found is not None and found.enabled is not False

    def acts(self, mechanism: str) -> bool:
        """Whether a reload or restart of it is to be expected: it is active now, or starts at boot."""
        found = self.by_name.get(mechanism)
        return found is not None and (found.active is True or found.enabled is True)

    def keepers(self) -> Iterable[str]:
        """The mechanisms that load iptables rules at boot, those that load whole tables first."""
        return (name for name in (PERSISTENT, IPTABLES, UFW) if self.at_boot(name))


def sources_of(saved: FirewallSaved) -> Sources:
    """Mechanisms with their files and their state.

    A mechanism without a service that is installed loads nothing at boot, however many files it left.
    """
    services = {service.name: service for service in saved.services}
    found: dict[str, SavedSource] = {}
    for name in (FIREWALLD, IPTABLES, PERSISTENT, NFTABLES, UFW):
        files = tuple(rules.path for rules in saved.rules if rules.source == name)
        service = services.get(_SERVICE.get(name, name))
        if not files and (service is None or service.active is not True):
            continue
        found[name] = SavedSource(
            mechanism=name,
            files=files,
            active=service.active if service is not None else False,
            enabled=service.enabled if service is not None else False,
            evidence=(service.enabled_evidence or service.evidence) if service is not None else "not installed",
        )
    return Sources(by_name=found)
