"""What the next reload or boot makes of the firewall: the document of ``netdiag firewall diff``."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule

SCHEMA = "netdiag/firewall-diff/1"


class ChangeKind(enum.Enum):
    """What becomes of it."""

    LOST = "lost"
    """It runs, and nothing that is saved brings it back."""
    RETURNS = "returns"
    """It is saved and does not run."""
    CHANGED = "changed"
    """A policy, a setting or a place in a chain differs."""
    WIPES = "wipes"
    """A program's rule that the mechanism throws away together with its own."""
    DUPLICATE = "duplicate"
    """A program's rule that was saved with the operator's: it comes back beside what the program writes itself."""


class When(enum.Enum):
    """The first moment at which it happens; what a reload or a restart does, a boot does as well.

    Only `ChangeKind.WIPES` is different: at boot the programs start afterwards and write their rules again.
    """

    RELOAD = "reload"
    RESTART = "restart"
    BOOT = "boot"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        mechanism: What would act: firewalld, iptables.service, netfilter-persistent, nftables.service, ufw; "none"
            where nothing on this host saves rules.
        file: What it reads; empty where there is none.
        rule: The rule or policy; None for a setting, a set's member or a whole table, which ``setting`` then names.
        commands: What makes both agree in favour of what is meant to stay: save it, or bring it back.
        otherwise: What makes both agree the other way: a saved rule that is not to come back leaves its file.
        meaning: What it means, in one sentence.
    """

    kind: ChangeKind
    when: When
    mechanism: str
    file: str
    rule: FirewallRule | None = None
    setting: str = ""
    commands: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    meaning: str


class NotCompared(msgspec.Struct, frozen=True, kw_only=True):
    """Something whose state after a reload or boot is not known, and why."""

    mechanism: str
    file: str
    reason: str


class SavedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A mechanism that saves rules on this host: its files, and whether it is active now and starts at boot."""

    mechanism: str
    files: tuple[str, ...] = ()
    active: bool | None = None
    enabled: bool | None = None
    evidence: str = ""


class DiffVerdict(enum.Enum):
    """The answer in one word."""

    SAME = "same"
    CHANGES = "changes"
    UNKNOWN = "unknown"
    """Nothing was seen to change, and not everything could be compared."""


class FirewallDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload, a restart of a service or a boot would change on one host."""

    schema: str = SCHEMA
    host: str
    verdict: DiffVerdict
    changes: tuple[Change, ...] = ()
    unknown: tuple[NotCompared, ...] = ()
    sources: tuple[SavedSource, ...] = ()


class SavedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a saved file becomes when the host's own tools load it into an empty namespace.

    Attributes:
        family: 4 or 6; 0 where one text holds both (nft, ipset).
        raw: What is written in the file; for ufw its files one after the other.
        text: What the tool lists after loading; None when it was not loaded, and ``reason`` says why.
    """

    mechanism: str
    file: str
    backend: Backend
    family: int
    raw: str
    text: str | None = None
    reason: str = ""


class FirewalldTold(msgspec.Struct, frozen=True, kw_only=True):
    """What ``firewall-cmd`` says, running and permanent; an answer that failed is missing and in ``failed``."""

    zones: str | None = None
    permanent_zones: str | None = None
    policies: str | None = None
    permanent_policies: str | None = None
    direct: str | None = None
    permanent_direct: str | None = None
    default_zone: str | None = None
    failed: tuple[str, ...] = ()


class SavedLoads(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked beyond the facts.

    Attributes:
        plain: The variant that the name iptables stands for.
        engine: A Docker engine is on this host; it sets the policy of FORWARD itself.
    """

    plain: Backend | None = None
    engine: bool = False
    loads: tuple[SavedLoad, ...] = ()
    firewalld: FirewalldTold | None = None
