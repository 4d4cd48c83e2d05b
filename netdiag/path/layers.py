"""What is asked of a destination without a port, and what the answers say; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netdiag.model.facts import Facts
from netdiag.model.found import Found
from netdiag.model.path import End, Way
from netdiag.model.report import Evidence, State, Subject
from netdiag.path.listening import takes
from netdiag.path.verdict import Attempt

_STEPS = (576, 1280, 1400, 1450, 1500)
_USUAL_MTU = 1500
Row = Mapping[str, Any]
"""One size of an answer of the verb ``echo-sizes``."""


def open_ports(facts: Facts, way: Way) -> list[int]:
    """The tcp ports on which somebody listens at the destination's address, the lowest first."""
    end = way.destination
    rows = (facts.sockets.value or {}).get(end.namespace, ())
    return sorted({row.port for row in rows if row.protocol == "tcp" and takes(row.address, end.address)})


def port_found(way: Way, port: int, attempt: Attempt) -> Found:
    """One port on which the destination listens."""
    return Found(
        check="path.port",
        state=State.OK if attempt.answered else State.FAIL,
        subject=_subject(way),
        summary=f"tcp/{port} of {way.destination.label()}: {attempt.text}",
        evidence=(Evidence("probe", attempt.text, {"rtt_us": attempt.rtt_us}),),
    )


def sizes_asked(facts: Facts, end: End) -> list[int]:
    """Sizes of whole IP packets up to the MTU of an end's own device, growing."""
    mtu = mtu_of(facts, end.namespace, end.device)
    return [*(size for size in _STEPS if size < mtu), mtu]


def mtu_of(facts: Facts, namespace: str, device: str) -> int:
    """The MTU of a device in bytes; the usual one where it is not known."""
    links = (facts.links.value or {}).get(namespace, ())
    return next((link.mtu_bytes for link in links if link.name == device and link.mtu_bytes), _USUAL_MTU)


def is_cut(rows: Sequence[Row] | None) -> bool:
    """Whether some size passes, and a larger one does not."""
    passed = [row["size"] for row in rows or () if row["outcome"] == "answered"]
    return bool(passed) and any(row["size"] > max(passed) for row in rows or ())


def sizes_found(way: Way, there: Sequence[Row] | None, back: Sequence[Row] | None) -> Found:
    """Up to which size packets pass either way.

    Args:
        way: The way.
        there: From the source, the answers for growing sizes; None where it could not be asked.
        back: The same from the destination.
    """
    parts, wrong = [], False
    for name, rows in (("there", there), ("back", back)):
        if rows is None:
            parts.append(f"{name}: not tried")
            continue
        passed = [row["size"] for row in rows if row["outcome"] == "answered"]
        lost = [row["size"] for row in rows if row["outcome"] != "answered"]
        wrong = wrong or bool(lost)
        text = f"{name}: up to {max(passed)} bytes" if passed else f"{name}: none"
        parts.append(text + (f", not {min(lost)}" if lost else ""))
    return Found(
        check="path.sizes",
        state=State.WARN if wrong else State.OK,
        subject=_subject(way),
        summary=f"packets with DF set pass {', '.join(parts)}",
        evidence=(Evidence("probe", "; ".join(parts)),),
    )


def _subject(way: Way) -> Subject:
    return Subject(host=way.source.host, peer=way.destination.host, network=way.destination.network or None)
