"""The shell script for a host that is someone else's: put together from its parts, with the lists that facts are read by.

The parts in ``script_parts/`` are plain POSIX shell. What the readers of `netdiag.facts` ask for (files, settings,
modules) is filled in here from the same tables, so that neither can forget what the other learnt.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from netdiag.facts.basics import IDENTITY_FILES
from netdiag.facts.features import FEATURES
from netdiag.facts.firewall_saved import BOOT, BOOT_LINKS, OWNER_FILES, ROLES, SAVED_FILES
from netdiag.facts.script_sections import RT_TABLES
from netdiag.facts.sysctls import GLOBS

PARTS = ("swarm", "firewall")
"""What can be left out: the engine with its swarm, or the packet filters. The host and its network are always in."""
_WHAT = {
    "swarm": "the Docker engine with its swarm, networks, containers and images",
    "firewall": "the firewall as it runs and as it is saved",
}
_FILES = {"swarm": ("engine.sh",), "firewall": ("firewall.sh",)}
_DIRECTORY = Path(__file__).with_name("script_parts")
_COLUMNS = 120
_PLACEHOLDER = re.compile(r"@@([A-Z_]+(?: [a-z_]+)*)@@")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def script(parts: Sequence[str], *, tool: str, made_s: int, made_on: str) -> str:
    """The script's text.

    Args:
        parts: Of `PARTS`, those that it should ask.
        tool: The version of netdiag that makes it.
        made_s: When it is made, Unix time: it bounds the clock of the host that runs it.
        made_on: The name of the host where it is made, so that its reader knows who asks.
    """
    given = [part for part in PARTS if part in parts]
    what = ["who it is, its devices, addresses, routes, listening sockets and network settings", *map(_WHAT.get, given)]
    names = ["head.sh", "host.sh", "network.sh", *(name for part in given for name in _FILES[part]), "tail.sh"]
    filled = {
        "TOOL": tool,
        "PARTS": " ".join(given),
        "WHAT": _comment("; ".join(str(one) for one in what)),
        "MADE_S": str(made_s),
        "MADE_ON": _UNSAFE.sub("_", made_on) or "unknown",
        "MADE_UTC": dt.datetime.fromtimestamp(made_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "SYMBOLS": _pattern(symbol for feature in FEATURES for part in feature.parts for symbol in part.symbols),
        "MODULES": _pattern(module for feature in FEATURES for part in feature.parts for module in part.modules),
        "RT_TABLES": " ".join(RT_TABLES),
        "OWNERS": _words((*OWNER_FILES, *BOOT_LINKS), "  "),
        "ROLES": " ".join(ROLES),
        "BOOT": " ".join(BOOT),
        "FILES identity show_there": _calls("show_there", IDENTITY_FILES),
        "FILES saved show_there": _calls("show_there", SAVED_FILES),
        "VALUES sysctls": _calls("values", GLOBS),
    }
    text = "".join((_DIRECTORY / name).read_text("utf-8") for name in names)
    return _PLACEHOLDER.sub(lambda match: filled[match[1]], text)


def _pattern(names: Iterable[str]) -> str:
    """An extended regular expression for any of the names; module files have either dashes or underscores."""
    return "|".join(dict.fromkeys(name if name.isupper() else name.replace("_", "[-_]") for name in names))


def _comment(text: str) -> str:
    """Text that goes on in the header's column."""
    room, lines = _COLUMNS - 20, [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > room:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return f"\n#{' ' * 16}".join(lines)


def _calls(function: str, paths: Sequence[str]) -> str:
    """Calls of a function of the script, a few paths in each line."""
    lines: list[str] = []
    for path in paths:
        if lines and len(lines[-1]) + len(path) < _COLUMNS:
            lines[-1] += f" {path}"
        else:
            lines.append(f"{function} {path}")
    return "\n".join(lines)


def _words(paths: Sequence[str], indent: str) -> str:
    """Words over several lines."""
    return f" \\\n{indent}".join(paths)
