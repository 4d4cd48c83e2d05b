"""All entries by their code, and the making of a cause from its entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from netdiag.causes import calico, calico_data, container, host_firewall, kernel, overlay, swarm_control, underlay
from netdiag.causes.kinds import CauseKind
from netdiag.model.report import Cause, Confidence, Evidence, Remedy

GROUPS: Mapping[str, tuple[CauseKind, ...]] = MappingProxyType(
    {
        "Host firewall": host_firewall.KINDS,
        "Between the hosts": underlay.KINDS,
        "Kernel, clock and name of a host": kernel.KINDS,
        "Swarm control plane": swarm_control.KINDS,
        "Overlay data plane": overlay.KINDS,
        "Container": container.KINDS,
        "Calico": (*calico.KINDS, *calico_data.KINDS),
    }
)
"""The entries in the order in which they are explained, by the title of their group."""


def _by_code(groups: Mapping[str, tuple[CauseKind, ...]]) -> Mapping[str, CauseKind]:
    kinds: dict[str, CauseKind] = {}
    for group in groups.values():
        for kind in group:
            if kind.code in kinds:
                raise ValueError(f"two entries for the cause {kind.code}")
            kinds[kind.code] = kind
    return MappingProxyType(kinds)


CATALOGUE: Mapping[str, CauseKind] = _by_code(GROUPS)
"""Every code that a report may name."""


def _known(code: str) -> CauseKind:
    kind = CATALOGUE.get(code)
    if kind is None:
        raise ValueError(f"no cause has the code {code!r}")
    return kind


def cause(
    code: str,
    *,
    host: str | None,
    object: Mapping[str, Any],  # noqa: A002 - the report's own word
    confidence: Confidence,
    explanation: str | None = None,
    evidence: Sequence[Evidence] = (),
    remedy: Sequence[Remedy] = (),
    because: Sequence[str] = (),
    affects: Sequence[str] | None = None,
) -> Cause:
    """Make a cause; title, parent and, unless given, explanation and affects come from the catalogue.

    Args:
        code: A code of the catalogue that is not ``info``.
        host: Where the fault sits, as the operator would type it; None when it is between hosts.
        object: What exactly; ``kind`` is one of the entry's ``object_kinds``.
        confidence: Proven only with what the entry's ``evidence`` asks for.
        explanation: What happens here, with the names of this case.
        evidence: What was seen.
        remedy: What heals it, with the commands for this host.
        because: Codes of attached reasons; info codes are allowed here.
        affects: What it breaks in this case, if that is less than the entry says.

    Raises:
        ValueError: The code or a reason is unknown, the code is only told, or the object's kind does not fit. Each is
            a mistake in the check that calls.
    """
    kind = _known(code)
    if kind.info:
        raise ValueError(f"{code} is told, not ranked as a cause; attach it with note() or as a reason")
    if object.get("kind") not in kind.object_kinds:
        raise ValueError(f"{code} names {' or '.join(kind.object_kinds)}, not {object.get('kind')!r}")
    for reason in because:
        _known(reason)
    return Cause(
        code=code,
        parent=kind.parent,
        because=tuple(because),
        host=host,
        object=dict(object),
        title=kind.title,
        explanation=explanation or kind.meaning,
        confidence=confidence,
        evidence=tuple(evidence),
        affects=kind.affects if affects is None else tuple(affects),
        remedy=tuple(remedy),
    )


def note(code: str, text: str | None = None, data: Mapping[str, Any] | None = None) -> Evidence:
    """What is told and is no cause, as evidence of kind ``note`` for a finding; ``data`` carries its code.

    Raises:
        ValueError: The code is unknown, or names a real cause.
    """
    kind = _known(code)
    if not kind.info:
        raise ValueError(f"{code} is a cause; make it with cause()")
    return Evidence("note", text or f"{kind.title}.", {"code": code, **(data or {})})
