"""What ufw loads when it starts: its files are fragments, between rules that its start script adds itself.

Source: ufw src/ufw-init-functions (ufw_start).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from netdiag.firewall.saved_iptables import read_file

DIRECTORY, DEFAULTS = "/etc/ufw", "/etc/default/ufw"
_WAYS = ("input", "output", "forward")
_PARTS = ("before-logging", "before", "after", "after-logging", "reject", "track")
_CHAINS = (
    *(f"{part}-{way}" for part in _PARTS for way in _WAYS),
    *("logging-deny", "logging-allow"),
    *(f"skip-to-policy-{way}" for way in _WAYS),
    *(f"user-{way}" for way in _WAYS),
    *(f"user-logging-{way}" for way in _WAYS),
    *("user-limit", "user-limit-accept"),
)


def fragments(texts: Mapping[str, str], family: int) -> dict[str, str]:
    """Ufw's files of one family that hold rules, in the order in which they are loaded."""
    six = "6" if family == 6 else ""
    paths = [f"/etc/ufw/{part}{six}.rules" for part in ("before", "after", "user")]
    return {path: texts[path].replace("\r", "") for path in paths if path in texts}


def steps(texts: Mapping[str, str], family: int) -> list[str]:
    """The texts to load one after the other, each without emptying anything."""
    prefix = "ufw6" if family == 6 else "ufw"
    lines = [f":{prefix}-{chain} - [0:0]" for chain in _CHAINS]
    lines += [f"-A {way.upper()} -j {prefix}-{part}-{way}" for way in _WAYS for part in _PARTS]
    hooks = [f"-A {prefix}-before-{way} -j {prefix}-user-{way}" for way in _WAYS]
    return [_filter(lines), *fragments(texts, family).values(), _filter(hooks)]


def declared(texts: Mapping[str, str], family: int) -> dict[str, frozenset[str]]:
    """The chains that the files name or add rules to, by table, and those that the start script hooks."""
    found: dict[str, set[str]] = {}
    for text in fragments(texts, family).values():
        for table, chains in read_file(text).tables.items():
            found.setdefault(table, set()).update(chains)
    if found:
        found.setdefault("filter", set()).update(way.upper() for way in _WAYS)
    return {table: frozenset(chains) for table, chains in found.items()}


def file_of(chain: str, table: str, texts: Mapping[str, str], family: int) -> str:
    """The file that a chain's rules come from; ufw's directory for the calls that its start script adds."""
    for path, text in fragments(texts, family).items():
        if chain in read_file(text).tables.get(table, {}):
            return path
    return DIRECTORY


def is_own(chain: str) -> bool:
    """Whether ufw empties a chain and loads it again when it is reloaded.

    The calls in INPUT, OUTPUT and FORWARD it adds only where its chains do not exist yet, which is at boot.
    """
    return chain.startswith("ufw")


def policies(defaults: str) -> dict[str, str]:
    """The policies of /etc/default/ufw by chain; REJECT is DROP behind a rejecting rule."""
    found: dict[str, str] = {}
    for way in _WAYS:
        said = re.search(rf'^\s*DEFAULT_{way.upper()}_POLICY\s*=\s*"?(\w+)', defaults, re.MULTILINE)
        if said:
            found[way.upper()] = "DROP" if said[1] == "REJECT" else said[1]
    return found


def has_ipv6(defaults: str) -> bool:
    """Whether ufw writes IPv6 rules."""
    return bool(re.search(r'^\s*IPV6\s*=\s*"?yes', defaults, re.MULTILINE | re.IGNORECASE))


def _filter(lines: list[str]) -> str:
    return "\n".join(("*filter", *lines, "COMMIT", ""))
