"""Rules of Calico's Felix: which profile, policy or interface a chain is for.

Felix names chains by a fixed beginning and the object's name. A name that does not fit is replaced by "_" and the
beginning of its SHA-256 in URL-safe base64: such a chain is compared with the names that are known.

Sources: calico felix/rules (rule_defs.go, policy.go, endpoints.go), felix/nftables/table_layer.go,
libcalico-go/lib/hash, felix/types (PolicyID).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from netdiag.firewall.clues import Clues
from netdiag.model.facts import Calico

HASH_COMMENT = re.compile(r"^cali:[A-Za-z0-9_-]{16}$")
"""Felix marks each of its rules with such a comment."""

_CHAIN = re.compile(r"^(?:(?:filter|nat|mangle|raw)-)?cali-?(pi|po|pri|pro|gi|go|tw|fw|th|fh|thfw|fhfw|sm)-(.+)$")
_KINDS = {
    "pi": ("policy", "incoming"),
    "po": ("policy", "outgoing"),
    "pri": ("profile", "incoming"),
    "pro": ("profile", "outgoing"),
    "gi": ("group of policies", "incoming"),
    "go": ("group of policies", "outgoing"),
    "tw": ("workload", "to it"),
    "fw": ("workload", "from it"),
    "th": ("host endpoint", "to it"),
    "fh": ("host endpoint", "from it"),
    "thfw": ("host endpoint", "forwarded to it"),
    "fhfw": ("host endpoint", "forwarded from it"),
    "sm": ("workload", "its mark"),
}
_TITLE = re.compile(r"^([A-Z][A-Za-z]+) (\S+) (?:in|e)gress$")
_PLACES = {
    "wl-to-host": "traffic of workloads to this host",
    "failsafe-in": "failsafe ports, incoming",
    "failsafe-out": "failsafe ports, outgoing",
    "nat-outgoing": "outgoing traffic of a pool, masquerading",
    "cidr-block": "blocked addresses",
    "rpf": "reverse path filter",
    "rpf-skip": "reverse path filter",
}
_ENDS = {
    "Drop if no profiles matched": "no profile matched",
    "Drop if no policies passed packet": "no policy passed it",
    "Policy explicitly accepted packet.": "accepted by a policy",
}
_SHORTEST_HASH = 8


def is_felix(rule: Clues) -> bool:
    """Whether Felix marked this rule as its own."""
    return any(HASH_COMMENT.match(comment) for comment in rule.comments)


def serves(chain: str, rule: Clues, callers: Sequence[tuple[str, Clues]], calico: Calico | None) -> str:
    """What a rule of Felix serves.

    Args:
        chain: The rule's chain.
        rule: The rule.
        callers: Chain and rule that called it, innermost first.
        calico: What this host says of Calico, for the names behind shortened ones.
    """
    found = _CHAIN.match(chain)
    if found is None:
        place = re.sub(r"^(?:(?:filter|nat|mangle|raw)-)?cali-", "", chain)
        told = [_ENDS[comment] for comment in rule.comments if comment in _ENDS]
        return _PLACES.get(place, "") or (told[0] if told else "")
    kind, way = _KINDS[found[1]]
    parts = [_name(kind, found[2], rule, calico), way]
    if found[1] in ("pi", "po", "pri", "pro", "gi", "go"):
        ends = (match for caller, _ in callers if (match := _CHAIN.match(caller)))
        end = next((match for match in ends if match[1] in ("tw", "fw", "th", "fh", "thfw", "fhfw")), None)
        parts += [f"{_KINDS[end[1]][0]} {end[2]}"] if end else []
    parts += [_ENDS[comment] for comment in rule.comments if comment in _ENDS]
    return ", ".join(parts)


def shortened(name: str, length: int) -> str:
    """What Felix puts in place of a name that has no room: "_" and so many characters of its hash."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return "_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")[:length]


def _name(kind: str, suffix: str, rule: Clues, calico: Calico | None) -> str:
    for comment in rule.comments:
        title = _TITLE.match(comment)
        if title and kind in ("policy", "profile"):
            return f"{kind} {title[2]}"
    if not suffix.startswith("_") or kind in ("workload", "host endpoint"):
        return f"{kind} {suffix}"
    length = len(suffix) - 1
    for name in _known_names(kind, calico) if length >= _SHORTEST_HASH else ():
        if any(shortened(form, length) == suffix for form in _forms(kind, name)):
            return f"{kind} {name}"
    return f"{kind} with hash {suffix[1:]}"


def _forms(kind: str, name: str) -> Iterable[str]:
    """How releases of Felix write a name before they shorten it."""
    yield name
    if kind == "policy":
        yield from (
            f"default/{name}",
            f"default.{name}",
            f"gnp/{name}",
            f"np/{name}",
            f"knp/{name}",
            f"gnp/default.{name}",
        )


def _known_names(kind: str, calico: Calico | None) -> Iterable[str]:
    for key, value in calico.keys.items() if calico else ():
        parts = key.split("/")
        if kind == "profile" and "profile" in parts[:-1]:
            yield unquote(parts[parts.index("profile") + 1])
        elif kind == "policy" and "policy" in parts[4:-1]:
            yield unquote(parts[parts.index("policy", 4) + 1])
        if kind == "profile" and isinstance(value, dict):
            listed = value.get("profile_ids")
            yield from (str(item) for item in (listed if isinstance(listed, list) else ()))
