"""What a one-sided preflight asks the network: every manager, the registry, and whose counter a burst moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from netdiag.facts.probes import gather_manager
from netdiag.facts.rounds import together
from netdiag.firewall.counters import stopping_rules_that_moved
from netdiag.model.facts import RuleSet
from netdiag.model.probes import (
    CaOutcome,
    CaProbe,
    ManagerProbe,
    MovedCounter,
    Observations,
    RegistryProbe,
    TcpOutcome,
)
from netdiag.model.wire import Answer, Gather, Request
from netdiag.swarm import ca_call

BURST = 5
"""Connections of a burst. A counter that moves by exactly as many moved with them, and with nothing else."""
BURST_WAIT_S = 0.08
"""Shorter than the first retransmission of a SYN (1 s, RFC 6298), long enough for an answer from the same site."""
REGISTRY_WAIT_S = 2.0

FirewallReading = Callable[[str], Gather[tuple[RuleSet, ...]]]
"""Reads the running rules of the host's own namespace, counters included; empty when they cannot be read.

Its argument tells one reading from another, so that a bundle keeps each.
"""


def gather_observations(
    targets: Sequence[tuple[str, str, int]], images: Sequence[str], *, docker_socket: str
) -> Gather[Observations]:
    """Ask all managers and the registry side by side.

    Args:
        targets: (as typed, address, port) of each manager.
        images: Names to ask the registry for, through the engine.
        docker_socket: Where the engine listens; empty for the usual place.
    """
    readings = [_manager(given, address, port) for given, address, port in targets]
    asked = yield from together([*readings, *(_registry(image, docker_socket) for image in images)])
    return Observations(managers=tuple(asked[: len(readings)]), registry=tuple(asked[len(readings) :]))


def gather_bursts(managers: Sequence[ManagerProbe], read_firewall: FirewallReading) -> Gather[tuple[MovedCounter, ...]]:
    """For each manager that did not connect: which of this host's rules stop a burst of connections to it.

    Run it after everything else, so that no other probe moves the counters.
    """
    moved: list[MovedCounter] = []
    for probe in managers:
        if probe.tcp is not None and probe.tcp.outcome is not TcpOutcome.CONNECTED:
            moved += yield from _burst(probe, read_firewall)
    return tuple(moved)


def _manager(given: str, address: str, port: int) -> Gather[ManagerProbe]:
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return (
        yield from gather_manager(given, address, port, ca_request=ca_call.request_bytes(authority), parse_ca=_parse_ca)
    )


_CA_OUTCOMES = {
    ca_call.CaOutcome.CERTIFICATE: CaOutcome.ANSWERED,
    ca_call.CaOutcome.REFUSED: CaOutcome.REFUSED,
    ca_call.CaOutcome.RESET: CaOutcome.REFUSED,
    ca_call.CaOutcome.INCOMPLETE: CaOutcome.SILENT,
    ca_call.CaOutcome.NOT_HTTP2: CaOutcome.NOT_GRPC,
    ca_call.CaOutcome.MALFORMED: CaOutcome.NOT_GRPC,
}


def _parse_ca(stream: bytes) -> CaProbe:
    said = ca_call.parse_response(stream)
    return CaProbe(
        outcome=_CA_OUTCOMES[said.outcome], root_pem=said.root_pem, grpc_status=said.grpc_status, message=said.text
    )


def _registry(image: str, docker_socket: str) -> Gather[RegistryProbe]:
    """Whether a registry offers an image, as the engine sees it (``GET /distribution/NAME/json``)."""
    path = f"/distribution/{quote(image, safe='/:@')}/json"
    (answer,) = yield [
        Request("docker-get", {"path": path, **({"socket": docker_socket} if docker_socket else {})}, REGISTRY_WAIT_S)
    ]
    return _registry_probe(image, answer)


def _registry_probe(image: str, answer: Answer) -> RegistryProbe:
    if answer.data is None:
        why = answer.error.text if answer.error is not None else "no answer"
        return RegistryProbe(image=image, obtainable=None, error=why)
    status, said = answer.data["status"], answer.data["json"] or {}
    if status == 200:
        platforms = said.get("Platforms") or []
        return RegistryProbe(
            image=image,
            obtainable=True,
            architectures=tuple(dict.fromkeys(one.get("architecture", "") for one in platforms)),
        )
    return RegistryProbe(image=image, obtainable=False, error=str(said.get("message", f"the engine answers {status}")))


def _burst(probe: ManagerProbe, read_firewall: FirewallReading) -> Gather[tuple[MovedCounter, ...]]:
    """Send a burst of SYNs between two readings of the rules; keep the rules that moved by exactly that many."""
    which = f"{probe.address} {probe.port}"
    before = yield from read_firewall(f"before {which}")
    if not before:
        return ()
    yield [
        Request("tcp-connect", {"address": probe.address, "port": probe.port, "attempt": n}, BURST_WAIT_S)
        for n in range(BURST)
    ]
    after = yield from read_firewall(f"after {which}")
    return tuple(
        MovedCounter(rule=rule, packets=packets, port=probe.port, address=probe.address)
        for rule, packets in stopping_rules_that_moved(before, after)
        if packets == BURST
    )
