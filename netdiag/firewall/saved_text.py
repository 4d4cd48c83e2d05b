"""One spelling for rules of iptables, so that two texts of the same rule compare equal.

The host's own tools say best what a text means (a saved file is loaded where nobody uses it, and listed). This is for
what remains then, the order of matches above all, and for files that no tool could load.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

_LONG = {
    **dict.fromkeys(("--source", "--src"), "-s"),
    **dict.fromkeys(("--destination", "--dst"), "-d"),
    **dict.fromkeys(("--protocol", "--proto"), "-p"),
    **dict.fromkeys(("--in-interface",), "-i"),
    **dict.fromkeys(("--out-interface",), "-o"),
    "--fragment": "-f",
    "--match": "-m",
    "--jump": "-j",
    "--goto": "-g",
    "--source-port": "--sport",
    "--destination-port": "--dport",
    "--source-ports": "--sports",
    "--destination-ports": "--dports",
}
_BASE = ("-s", "-d", "-p", "-i", "-o", "-f")
_OF_PROTOCOL = frozenset({"--sport", "--dport", "--tcp-flags", "--syn", "--tcp-option", "--icmp-type", "--icmpv6-type"})
_ONE_VALUE = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "--string", "--hex-string"})
_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp", "icmpv6": "ipv6-icmp", "50": "esp", "51": "ah"}
_PORTS = {
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "domain": 53,
    "tftp": 69,
    "http": 80,
    "www": 80,
    "pop3": 110,
    "ntp": 123,
    "imap2": 143,
    "snmp": 161,
    "ldap": 389,
    "https": 443,
    "submission": 587,
    "ldaps": 636,
    "imaps": 993,
    "pop3s": 995,
    "nfs": 2049,
    "mysql": 3306,
    "postgresql": 5432,
    "http-alt": 8080,
}
_ICMP_TYPES = {
    "echo-reply": "0",
    "destination-unreachable": "3",
    "redirect": "5",
    "echo-request": "8",
    "time-exceeded": "11",
    "parameter-problem": "12",
}
_PERIODS = {"s": "sec", "second": "sec", "m": "min", "minute": "min", "h": "hour", "d": "day"}
_LOG_LEVELS = {"warning": "4", "debug": "7", "info": "6", "notice": "5", "err": "3", "error": "3", "crit": "2"}
_DEFAULTS = frozenset({("limit", "--limit-burst 5"), ("LOG", "--log-level 4")})


@functools.lru_cache(maxsize=1 << 15)  # a rule is asked for when it is compared, found in a file, and placed
def canonical(words: tuple[str, ...], family: int) -> str:
    """The one spelling of a rule.

    Args:
        words: The rule's words without ``-A CHAIN``, as `netdiag.firewall.save_text.split_words` gives them.
        family: 4 or 6.
    """
    reading = _Reading(family)
    position = 0
    while position < len(words):
        position = reading.take(words, position)
    return reading.text()


class _Reading:
    """The parts of one rule as they are read."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._base: dict[str, str] = {}
        self._stray: list[str] = []
        self._groups: list[tuple[str, list[str]]] = []
        self._current = self._stray
        self._target: tuple[str, str, list[str]] | None = None
        self._protocol = ""
        self._negated = False

    def take(self, words: Sequence[str], position: int) -> int:
        """Read one option with its values; the position behind it."""
        word = _LONG.get(words[position], words[position])
        position += 1
        if word == "!":
            self._negated = True
            return position
        values: list[str] = []
        # The old place of an exclamation mark is behind the option.
        if position < len(words) and words[position] == "!":
            self._negated, position = True, position + 1
        while position < len(words) and (
            (word in _ONE_VALUE and not values) or not (words[position].startswith("-") or words[position] == "!")
        ):
            values.append(words[position])
            position += 1
            if word in _ONE_VALUE:
                break
        self._keep(word, values)
        self._negated = False
        return position

    def _keep(self, word: str, values: list[str]) -> None:
        value = values[0] if values else ""
        mark = "! " if self._negated else ""
        if word in _BASE:
            if word == "-p":
                value = self._protocol = _PROTOCOLS.get(value.lower(), value.lower())
            elif word in ("-s", "-d"):
                value = _address(value, self._family)
            if value not in ("", "all") or word == "-f":
                self._base[word] = f"{mark}{word} {value}".strip()
        elif word == "-m":
            self._current = []
            self._groups.append((_match_name(value), self._current))
        elif word in ("-j", "-g"):
            self._current = []
            self._target = (word, value, self._current)
        elif word in _OF_PROTOCOL:
            self._of_protocol().append(mark + _option(word, values))
        else:
            self._current.append(mark + _option(word, values))

    def _of_protocol(self) -> list[str]:
        for name, options in self._groups:
            if name in (self._protocol, "icmp6") and name != "multiport":
                return options
        self._groups.append((self._protocol, []))
        return self._groups[-1][1]

    def text(self) -> str:
        """The whole rule in its one spelling."""
        parts = [self._base[name] for name in _BASE if name in self._base]
        groups = []
        for name, options in self._groups:
            kept = sorted(option for option in options if (name, option) not in _DEFAULTS)
            if kept or name not in (self._protocol, "icmp6"):
                groups.append(" ".join((f"-m {_match_name(name)}", *kept)))
        parts += [*sorted(groups), *sorted(self._stray)]
        if self._target is not None:
            word, name, options = self._target
            kept = sorted(option for option in options if (name, option) not in _DEFAULTS)
            if name == "REJECT" and not kept:
                kept = ["--reject-with " + ("icmp6-port-unreachable" if self._family == 6 else "icmp-port-unreachable")]
            parts.append(" ".join((word, name, *kept)))
        return " ".join(parts)


def _match_name(name: str) -> str:
    return {"state": "conntrack", "icmpv6": "ipv6-icmp", "icmp6": "ipv6-icmp"}.get(name, name)


def _option(word: str, values: list[str]) -> str:
    if word == "--syn":
        word, values = "--tcp-flags", ["FIN,SYN,RST,ACK", "SYN"]
    if word == "--state":
        word = "--ctstate"
    if word in ("--sport", "--dport", "--sports", "--dports", "--ports", "--to-ports"):
        values = [_ports(value) for value in values]
    elif word in ("--icmp-type", "--icmpv6-type"):
        values = [_ICMP_TYPES.get(value, value) for value in values]
    elif word in ("--ctstate", "--tcp-flags"):
        values = [",".join(sorted(value.split(","))) for value in values]
    elif word == "--limit" and values:
        number, _, period = values[0].partition("/")
        values = [f"{number}/{_PERIODS.get(period, period or 'sec')}"]
    elif word == "--log-level" and values:
        values = [_LOG_LEVELS.get(values[0], values[0])]
    elif word == "--set-mark" and values:
        number, _, mask = values[0].partition("/")
        word, values = "--set-xmark", [f"{_hex(number)}/{_hex(mask or '0xffffffff')}"]
    return " ".join((word, *values))


def _ports(text: str) -> str:
    done = []
    for part in text.split(","):
        ends = [str(_PORTS.get(end, end)) for end in part.split(":")]
        done.append(ends[0] if len(ends) == 2 and ends[0] == ends[1] else ":".join(ends))
    return ",".join(sorted(done))


def _hex(text: str) -> str:
    try:
        return hex(int(text, 0))
    except ValueError:
        return text


def _address(text: str, family: int) -> str:
    """The shortest text of a prefix; empty for "any", and what is no address (a name) stays as it is."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return text
    if network.prefixlen == 0:
        return ""
    return str(network.network_address) if network.prefixlen == (128 if family == 6 else 32) else str(network)
