"""What is wrong with a rule set as it is written: the document of ``netdiag firewall lint``."""

from __future__ import annotations

import enum

import msgspec

from netdiag.model.facts import HOST
from netdiag.model.firewall import Owner

SCHEMA = "netdiag/firewall-lint/1"


class Severity(enum.Enum):
    """How much it matters."""

    ERROR = "error"
    """Something that this host is there for does not work with these rules."""
    WARNING = "warning"
    """Rules that do not do what they were written for."""
    INFO = "info"
    """Worth knowing, and as it may be meant."""


class LintVerdict(enum.Enum):
    """The answer in one word."""

    CLEAN = "clean"
    FINDINGS = "findings"
    UNKNOWN = "unknown"
    """Nothing was found, and not all rules could be looked at."""


class RulePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, a chain or a hook of one rule set.

    Attributes:
        backend: nft-native, iptables-nft or iptables-legacy.
        family: As nft names it: ip, ip6, inet.
        chain: Empty where a whole table is meant.
        number: Of the rule in its chain, from 1; None where a whole chain is meant.
        text: The rule as written; empty for a chain.
        file: Whose line it is; empty for a running rule set.
        line: Its line in that file, from 1; None for a running rule set.
    """

    backend: str
    family: str
    table: str
    chain: str = ""
    number: int | None = None
    text: str = ""
    owner: Owner = Owner.OPERATOR
    namespace: str = HOST
    file: str = ""
    line: int | None = None

    def said(self) -> str:
        """In a few words: "filter INPUT rule 4"."""
        rule = [f"rule {self.number}"] if self.number is not None else []
        return " ".join(word for word in (self.table, self.chain, *rule) if word)


class LintFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found.

    Attributes:
        code: Of `netdiag.firewall.lint_registry`; stable.
        summary: What it is, in one line.
        places: Where: the rule that does not do what it should first, then the rules on which that depends.
        why: Why it matters.
        remedy: What to do.
    """

    code: str
    severity: Severity
    summary: str
    places: tuple[RulePlace, ...] = ()
    why: str
    remedy: str


class FirewallLint(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a rule set.

    Attributes:
        subject: Whose rules: a host's name, or the files.
        rules: How many rules were looked at.
        unknown: What could not be looked at, and why, a line each.
        bounded: What was looked at only in part, since the rule set is large, a line each.
    """

    schema: str = SCHEMA
    subject: str
    verdict: LintVerdict
    rules: int
    findings: tuple[LintFinding, ...] = ()
    unknown: tuple[str, ...] = ()
    bounded: tuple[str, ...] = ()
