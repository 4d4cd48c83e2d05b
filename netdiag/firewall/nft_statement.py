"""What a rule of nft's does with a packet, told by its statement: a name that holds the same word tells nothing.

In a rule's text the verdict stands last, before a comment at most. Names in quotes (comments, devices, counters) may
hold anything; those of sets, maps and chains are bare, and may be words with dots. Source: nftables src/statement.c.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTED = re.compile(r'"[^"]*"')
_COMMENT = re.compile(r' comment ""$')
_VERDICT = re.compile(r"(?:^| )(?:(jump|goto) ([^\s{}]+)|(accept|drop|return|continue)|(reject)(?: with [^{}]+)?)$")
_TRANSLATES = re.compile(
    r"(?:^| )(?:[sd]nat (?:ip6? )?(?:prefix )?(?:(?:addr|interval)[ a-z.]* )?to |(?:masquerade|redirect)(?: |$))"
)
_CALL = re.compile(r"(?:^| )(?:jump|goto) [^\s{}]+$")


class Verdict(NamedTuple):
    """``word`` is accept, drop, reject, jump, goto, return or continue, and ``chain`` where it jumps or goes to."""

    word: str
    chain: str = ""


def verdict_of(text: str) -> Verdict | None:
    """The verdict of a rule; None for one that has none, or one that differs by packet (a verdict map, a block)."""
    found = _VERDICT.search(_bare(text))
    if found is None:
        return None
    return Verdict(found[1], found[2]) if found[1] else Verdict(found[3] or found[4])


def translates(text: str) -> bool:
    """Whether a rule changes addresses."""
    return bool(_TRANSLATES.search(_CALL.sub("", _bare(text))))


def _bare(text: str) -> str:
    return _COMMENT.sub("", _QUOTED.sub('""', text.strip()))
