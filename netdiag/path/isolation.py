"""Two networks of one engine, which keeps them apart on purpose: what joins them is a network in common; pure."""

from __future__ import annotations

import msgspec

from netdiag.model.facts import Facts
from netdiag.model.path import Way
from netdiag.model.report import Cause, Remedy
from netdiag.path.names import find_container
from netdiag.shell import shell_text


def joined_instead(one: Cause, way: Way, facts: Facts, host: str) -> Cause:
    """A cause with another remedy, where its rule is the engine's isolation; any other cause as it is.

    A rule that lets the flow pass would have to be kept over reboots and restarts of either container's address.

    Args:
        one: The rule that took the flow.
        way: The flow.
        facts: Of the host whose rule it is.
        host: Its name.
    """
    begin, end = way.source, way.destination
    if "ISOLATION" not in str(one.object.get("chain", "")) or not begin.container or not end.container:
        return one
    container = find_container(facts, end.container)
    attached = container.networks if container is not None else ()
    network = next((each.network for each in attached if each.address == end.address), "")
    if not network or begin.host != end.host:
        return one
    return msgspec.structs.replace(
        one,
        explanation=f"{one.explanation} The engine keeps the networks of {begin.container} and {end.container} apart.",
        remedy=(
            Remedy(
                host=host,
                summary=f"attach {begin.container} to {network}, the network of {end.container}",
                commands=(shell_text(["docker", "network", "connect", network, begin.container]),),
                undo=(shell_text(["docker", "network", "disconnect", network, begin.container]),),
            ),
        ),
    )
