"""Whether packets are dropped at their end because their checksum is wrong: the kernel counts those, and says no more."""

from __future__ import annotations

from collections.abc import Mapping

from netdiag.causes import cause
from netdiag.model.facts import Nic
from netdiag.model.path import End
from netdiag.model.report import Cause, Confidence, Evidence, Remedy
from netdiag.shell import shell_text

FILE = "/proc/net/snmp"
_COUNTER = "InCsumErrors"
_FEATURES = ("tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-udp_tnl-csum-segmentation")
"""What of a card makes checksums, by the kernel's names (net/ethtool/common.c), the most general first."""


def wrong_sums(text: str) -> Mapping[str, int]:
    """How many packets of each protocol ("tcp", "udp") had a wrong checksum, from the text of `FILE`."""
    found: dict[str, int] = {}
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        head, _, rest = line.partition(":")
        if head not in names:
            names[head] = rest.split()
            continue
        values = dict(zip(names[head], rest.split(), strict=False))
        if values.get(_COUNTER, "").isdigit():
            found[head.lower()] = int(values[_COUNTER])
    return found


def checksum_cause(
    sender: End,
    receiver: End,
    protocol: str,
    counts: tuple[int, int, int],
    *,
    nic: str,
    card: Nic | None,
    echoed: bool,
) -> Cause | None:
    """The cause where the counter moved with the attempt and only with it; None where it did not.

    Args:
        sender: Who sends what arrives wrong.
        receiver: Whose kernel drops it.
        protocol: tcp or udp.
        counts: At first, after nothing but an echo was sent, and after the attempt was made again.
        nic: The sender's network card.
        card: What its driver says of it.
        echoed: The echo was answered.
    """
    first, before, after = counts
    if before != first or after <= before:
        return None
    features = card.offloads if card is not None else {}
    feature = next((name for name in _FEATURES if features.get(name)), "")
    text = (
        f"{_COUNTER} of {protocol} at {receiver.label()} went from {before} to {after} while the attempt was made again, and"
        " did not move before"
    )
    passing = f" An echo from {sender.label()} is answered meanwhile." if echoed else ""
    setting = ["ethtool", "-K", nic, feature]
    return cause(
        "underlay.checksum-offload",
        host=sender.host,
        object={"kind": "device", "name": nic, "feature": feature or None, "peer": receiver.host},
        confidence=Confidence.PROVEN if echoed else Confidence.LIKELY,
        explanation=(
            f"What {sender.label()} sends comes to {receiver.label()} with a wrong checksum, and the kernel there drops it:"
            f" {text}.{passing} Most often the sender's card ({nic}) makes the sums of encapsulated packets wrongly."
        ),
        evidence=(Evidence("counter", text, {"before": before, "after": after, "echo_answered": echoed}),),
        remedy=(
            Remedy(
                host=sender.host,
                summary="have the kernel make the checksums",
                commands=(shell_text([*setting, "off"]),),
                undo=(shell_text([*setting, "on"]),),
            ),
        )
        if feature and nic
        else (),
    )
