"""What one rule's text says about devices, addresses, ports and comments, the same for iptables' language and nft's.

Nothing is judged: a word that is not understood is kept as a match of its own, so that "exactly these matches" can be
asked of a rule.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from netdiag.firewall.save_text import split_words

_SYNONYMS = {
    "-j": "-j",
    "--jump": "-j",
    "-g": "-j",
    "--goto": "-j",
    "--destination-port": "--dport",
    "--source-port": "--sport",
    "--state": "--ctstate",
}
_NFT_MATCHES = {
    ("iifname", ""): "-i",
    ("iif", ""): "-i",
    ("oifname", ""): "-o",
    ("oif", ""): "-o",
    ("ip", "saddr"): "-s",
    ("ip6", "saddr"): "-s",
    ("ip", "daddr"): "-d",
    ("ip6", "daddr"): "-d",
    ("tcp", "dport"): "--dport",
    ("udp", "dport"): "--dport",
    ("sctp", "dport"): "--dport",
    ("th", "dport"): "--dport",
    ("tcp", "sport"): "--sport",
    ("udp", "sport"): "--sport",
    ("sctp", "sport"): "--sport",
    ("meta", "l4proto"): "-p",
    ("ip", "protocol"): "-p",
    ("ct", "state"): "--ctstate",
}
_NFT_ENDS = ("accept", "drop", "return", "masquerade", "queue", "redirect", "continue")


class Clues(msgspec.Struct, frozen=True, kw_only=True):
    """A rule taken apart.

    Attributes:
        matches: What it asks of a packet: option as iptables names it ("-i", "--dport"; "!-i" where negated) to value.
        target: DROP, ACCEPT, REJECT, DNAT … in capitals, or the chain that it calls.
        calls: The chain that it calls, else empty.
        options: The target's options ("--to-destination") to their values.
        comments: Its comments, in their order.
        sets: Names of the sets that it looks into.
    """

    matches: Mapping[str, str] = {}
    target: str = ""
    calls: str = ""
    options: Mapping[str, str] = {}
    comments: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    def asks(self, *matches: str) -> bool:
        """Whether these are exactly its matches."""
        return set(self.matches) == set(matches)


_TARGETS = frozenset(
    (
        *("ACCEPT", "DROP", "REJECT", "RETURN", "QUEUE", "NFQUEUE", "LOG", "NFLOG", "DNAT", "SNAT", "MASQUERADE"),
        *("REDIRECT", "MARK", "CONNMARK", "CT", "NOTRACK", "TRACE", "TCPMSS", "SET", "TPROXY", "AUDIT", "TARPIT"),
        *("NETMAP", "CHECKSUM"),
    )
)


def clues(text: str) -> Clues:
    """Take a rule apart; never raises. Text that begins with ``-A`` is iptables', all else nft's."""
    words = split_words(text)
    return _iptables(words[2:]) if words[:1] == ("-A",) else _nft(words)


def plain_address(value: str) -> str:
    """An address without the prefix length of a single host."""
    return value.removesuffix("/32").removesuffix("/128")


def _iptables(words: tuple[str, ...]) -> Clues:
    matches: dict[str, str] = {}
    options: dict[str, str] = {}
    comments: list[str] = []
    sets: list[str] = []
    target = ""
    position, negated = 0, False
    while position < len(words):
        word = words[position]
        if word == "!":
            negated, position = True, position + 1
            continue
        name = _SYNONYMS.get(word, word)
        end = position + 1
        if name in ("-m", "--match", "-j", "--comment", "--bytecode", "--u32"):
            end += 1  # its value may look like an option
        else:
            while end < len(words) and words[end] != "!" and not words[end].startswith("-"):
                end += 1
        value = " ".join(words[position + 1 : end])
        if name == "-j":
            target = value
        elif name == "--comment":
            comments.append(value)
        elif target:
            options[name] = value
        elif name not in ("-m", "--match"):
            if name == "--match-set":
                sets.append(value.partition(" ")[0])
            matches["!" * negated + name] = plain_address(value) if name in ("-s", "-d") else value
        position, negated = end, False
    calls = "" if target in _TARGETS else target
    return Clues(
        matches=matches, target=target, calls=calls, options=options, comments=tuple(comments), sets=tuple(sets)
    )


def _nft(words: tuple[str, ...]) -> Clues:
    matches: dict[str, str] = {}
    options: dict[str, str] = {}
    comments: list[str] = []
    sets: list[str] = []
    target = calls = ""
    position = 0
    while position < len(words):
        word, following = words[position], words[position + 1] if position + 1 < len(words) else ""
        position += 1
        if word == "comment":
            comments.append(following)
            position += 1
        elif word == "counter":
            position += 4 if following == "packets" else 0
        elif word in ("jump", "goto"):
            target = calls = following
            position += 1
        elif word in ("dnat", "snat"):
            target = word.upper()
            options["--to-destination"] = words[position + 1] if position + 1 < len(words) else ""
            position = len(words) if "comment" not in words[position:] else words.index("comment", position)
        elif word == "reject":
            target = "REJECT"
            position = len(words) if "comment" not in words[position:] else words.index("comment", position)
        elif word in _NFT_ENDS:
            target = word.upper()
        else:
            pair = (word, following) if (word, following) in _NFT_MATCHES else (word, "")
            name = _NFT_MATCHES.get(pair, word)
            position += 1 if pair[1] else 0
            value, negated, position = _nft_value(words, position) if pair in _NFT_MATCHES else ("", False, position)
            if name in ("--dport", "--sport") and word != "th":
                matches["-p"] = word
            if word.startswith("@") or value.startswith("@"):
                sets.append((value or word)[1:])
            matches["!" * negated + name] = plain_address(value) if name in ("-s", "-d") else value
    return Clues(
        matches=matches, target=target, calls=calls, options=options, comments=tuple(comments), sets=tuple(sets)
    )


def _nft_value(words: tuple[str, ...], position: int) -> tuple[str, bool, int]:
    """The value at this place, whether it is negated, and the place behind it; a set in braces is one value."""
    negated = words[position : position + 1] == ("!=",)
    position += 1 if negated or words[position : position + 1] == ("==",) else 0
    end = position + 1
    if words[position : position + 1] == ("{",):
        end = words.index("}", position) + 1 if "}" in words[position:] else len(words)
    while end < len(words) and words[end - 1].endswith(",") and words[end - 1] != ",":
        end += 1
    return " ".join(words[position:end]), negated, end
