"""Why an encrypted overlay network carries nothing: the kernel's part, the security associations, or protocol 50; pure.

What is encrypted cannot be seen between the VXLAN devices, so that every loss there looks as if nothing left the sender.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.facts import Feature, FeatureState
from netdiag.model.path import Loss, Stage
from netdiag.model.report import Cause, Confidence, Evidence
from netdiag.path.ways import Host
from netdiag.swarm.engine_rules import vni_match_module
from netdiag.swarm.engine_version import parse_engine_version

_ESP = 50
_NEEDED = {
    "xfrm_user": "the engine cannot set up encryption",
    "esp4": "nothing is encrypted, and what should be is dropped",
    "gcm": "the cipher of encrypted networks is not there",
}
_ADDRESSES = re.compile(r"src (\S+) dst (\S+)")
_SPI = re.compile(r"\s+proto esp spi 0x([0-9a-f]+)")
_PACKETS = re.compile(r"\s+\d+\(bytes\), (\d+)\(packets\)")


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """One security association (RFC 4301): its direction by addresses, its number, and how much it has carried."""

    source: str
    destination: str
    spi: int
    packets: int = 0


def read_associations(text: str) -> tuple[Association, ...]:
    """What ``ip -s xfrm state list nokeys`` prints; protocols other than ESP are left out."""
    found: list[Association] = []
    ends, counts = ("", ""), False
    for line in text.splitlines():
        if (pair := _ADDRESSES.match(line)) is not None:
            ends, counts = (pair[1], pair[2]), False
        elif (number := _SPI.match(line)) is not None and ends[0]:
            found.append(Association(source=ends[0], destination=ends[1], spi=int(number[1], 16)))
            ends = ("", "")
        elif line.strip() == "lifetime current:":
            counts = bool(found) and not ends[0]
        elif counts and (packets := _PACKETS.match(line)) is not None:
            found[-1] = msgspec.structs.replace(found[-1], packets=int(packets[1]))
            counts = False
    return tuple(found)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One host of an encrypted network: its associations before and after the flow was sent anew; None where unread."""

    host: Host
    before: tuple[Association, ...] | None = None
    after: tuple[Association, ...] | None = None


def concerns(loss: Loss) -> bool:
    """Whether a loss is one that encryption can explain: between the two VXLAN devices."""
    stages = {place.stage for place in (loss.last, loss.next) if place is not None}
    return Stage.NIC in stages and stages <= {Stage.TUNNEL, Stage.NIC}


def missing_parts(host: Host) -> Iterator[Cause]:
    """The parts of a host's kernel that encrypted networks need and that are not there."""
    kernel = host.facts.kernel.value
    engine, identity = host.facts.engine.value, host.facts.identity.value
    needed = dict(_NEEDED)
    version = parse_engine_version(engine.version) if engine is not None else None
    if version is not None:
        needed[vni_match_module(version)] = "the engine cannot write its rules for encrypted networks"
    release = identity.kernel_release if identity is not None else ""
    absent = [
        (feature, without)
        for name, without in needed.items()
        if kernel is not None and (feature := kernel.features.get(name)) is not None and _is_missing(feature)
    ]
    if not absent:
        return
    feature, without = absent[0]
    yield cause(
        "overlay.encryption",
        host=host.name,
        object={"kind": "feature", "feature": feature.name, "kernel": release},
        confidence=Confidence.PROVEN,
        explanation=f"The kernel of {host.name} ({release}) has no {feature.name}: {without}.",
        evidence=tuple(Evidence("feature", f"{each.name}: {each.evidence}") for each, _ in absent),
    )


def _is_missing(feature: Feature) -> bool:
    return feature.state is FeatureState.MISSING


def association_causes(source: str, destination: str, sender: Side, receiver: Side, *, sent: int) -> Iterator[Cause]:
    """What is wrong with the associations from one host to another.

    Args:
        source: The sender's address in the tunnel.
        destination: The receiver's.
        sender: Its host.
        receiver: Its host.
        sent: How often the flow was sent between the two readings.
    """
    out, into = _between(sender.after, source, destination), _between(receiver.after, source, destination)
    if out is None or into is None:
        return
    for host, own, what in ((sender.host, out, "out"), (receiver.host, into, "in")):
        if not own:
            yield _broken(
                host, source, destination, None, f"has no security association ({what}) from {source} to {destination}"
            )
            return
    using = [each for each in out if _moved(sender, each)] or list(out)
    known = {each.spi for each in into}
    unknown = [each for each in using if each.spi not in known]
    if len(unknown) == len(using):
        text = f"knows no security association 0x{using[0].spi:x} from {source} to {destination}, which {sender.host.name} uses"
        yield _broken(receiver.host, source, destination, using[0].spi, text, sorted(known))
        return
    left = sum(_moved(sender, each) for each in out)
    came = sum(_moved(receiver, each) for each in into)
    if sent and left >= sent and not came:
        text = f"{sender.host.name} encrypted {left} packets to {destination}, and {receiver.host.name} decrypted none"
        yield cause(
            "overlay.encryption",
            host=None,
            object={"kind": "segment", "from": source, "to": destination, "protocol": _ESP},
            confidence=Confidence.LIKELY,
            explanation=f"{text}: IP protocol 50 (ESP) is lost between them, or at a filter of {receiver.host.name}.",
            evidence=(Evidence("counter", text),),
        )


def _between(rows: Sequence[Association] | None, source: str, destination: str) -> list[Association] | None:
    if rows is None:
        return None
    return [each for each in rows if (each.source, each.destination) == (source, destination)]


def _moved(side: Side, one: Association) -> int:
    same = [each for each in side.before or () if (each.source, each.spi) == (one.source, one.spi)]
    return one.packets - (same[0].packets if same else 0)


def _broken(
    host: Host, source: str, destination: str, spi: int | None, what: str, expected: Sequence[int] = ()
) -> Cause:
    return cause(
        "overlay.encryption",
        host=host.name,
        object={
            "kind": "sa",
            "source": source,
            "destination": destination,
            "spi": f"0x{spi:x}" if spi is not None else None,
            "expected": [f"0x{each:x}" for each in expected],
        },
        confidence=Confidence.PROVEN,
        explanation=f"{host.name} {what}.",
        evidence=(Evidence("sa", f"{host.name} {what}"),),
    )
