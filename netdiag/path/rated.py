"""Rules that look at more than a packet: at a rate, a share, a number of connections or the time of day."""

from __future__ import annotations

import re

# iptables-extensions(8); nft(8): limit, quota and counter statements, meters, sets that packets write to.
_IPTABLES = re.compile(r"-m (limit|hashlimit|recent|connlimit|connbytes|statistic|quota2?|time|nth|random)\b")
_NFT = re.compile(r"\b(limit (name|rate)|numgen|quota|ct count|meter|(add|update) @)")


def looks_at_more(text: str) -> bool:
    """Whether a rule, as iptables-save or nft prints it, may decide otherwise about the next packet of the same kind."""
    return bool(_IPTABLES.search(text) or _NFT.search(text))
