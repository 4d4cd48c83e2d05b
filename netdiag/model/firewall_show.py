"""A rule set laid out for reading: the document of ``netdiag firewall show``."""

from __future__ import annotations

import msgspec

from netdiag.model.facts import HOST
from netdiag.model.firewall import Owner

SCHEMA = "netdiag/firewall-show/1"


class ShownRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        number: In its chain, from 1.
        text: As saved, without counters.
        belongs_to: What of its owner's it serves; empty where that is not known.
        packets: None where the text has no counters.
        line: In its file, from 1; None for a running rule set.
    """

    number: int
    text: str
    owner: Owner = Owner.OPERATOR
    belongs_to: str = ""
    packets: int | None = None
    bytes: int | None = None
    line: int | None = None


class CallSite(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that jumps to a chain."""

    chain: str
    number: int


class ShownChain(msgspec.Struct, frozen=True, kw_only=True):
    """One chain.

    Attributes:
        owner: Whose chain it is; of a base chain, who set its policy.
        hook: Where the kernel enters it, as iptables names it; empty for a chain that is only called.
        policy: ACCEPT or DROP; None for a chain that is only called, or where the text does not say it.
        called_from: The rules that jump to it.
        rules: Those that were asked for.
        hidden: How many more it has.
    """

    name: str
    owner: Owner
    hook: str = ""
    policy: str | None = None
    packets: int | None = None
    bytes: int | None = None
    called_from: tuple[CallSite, ...] = ()
    rules: tuple[ShownRule, ...] = ()
    hidden: int = 0


class ShownTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table; ``missing`` says why not all of it is known, empty otherwise."""

    backend: str
    family: str
    name: str
    file: str = ""
    missing: str = ""
    chains: tuple[ShownChain, ...] = ()


class ShownSet(msgspec.Struct, frozen=True, kw_only=True):
    """One ipset: its type and how many members it has."""

    name: str
    kind: str
    members: int


class FirewallShow(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one network namespace, or of files.

    Attributes:
        subject: Whose rules: a host's name, or the files.
        problems: Lines that were not understood, and what could not be read.
    """

    schema: str = SCHEMA
    subject: str
    namespace: str = HOST
    tables: tuple[ShownTable, ...] = ()
    sets: tuple[ShownSet, ...] = ()
    problems: tuple[str, ...] = ()
