"""What is told of an end before the flow is tried: what its name means to the container, and what a virtual IP is."""

from __future__ import annotations

from collections.abc import Sequence

from netdiag.causes import cause, note
from netdiag.facts.name_lookup import NO_SUCH_NAME, NameLookup
from netdiag.model.engine import Container, OverlayTask
from netdiag.model.facts import Facts, FeatureState
from netdiag.model.found import Found
from netdiag.model.path import End, Way
from netdiag.model.report import Cause, Confidence, Evidence, State, Step, Subject
from netdiag.path.ends import Service, address_of, task_label, task_text
from netdiag.path.verdict import Attempt

_RCODES = {0: "an empty answer", 1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}


def name_found(end: End, lookup: NameLookup, expected: Sequence[str], *, why: str = "") -> Found:
    """What the source's own resolver says of the destination's name, against what its engine knows.

    Args:
        end: The source.
        lookup: What came of asking.
        expected: The addresses that the engine knows for the name; empty where it knows none.
        why: Why it has no name for it, where that is known.
    """
    subject = Subject(host=end.host, container=end.container or None)
    where = f"the name server {lookup.server}" if lookup.server != "hosts" else "its hosts file"
    said = ", ".join(lookup.addresses) or lookup.error or _RCODES.get(lookup.rcode or 0, f"error {lookup.rcode}")
    evidence = (Evidence("dns", f"{end.label()} asks {lookup.server or 'nobody'} for {lookup.name}: {said}"),)
    if lookup.addresses and (not expected or set(lookup.addresses) & set(expected)):
        summary = f"{lookup.name} is {said} for {end.label()} ({where})"
        return Found(check="path.name", state=State.OK, subject=subject, summary=summary, evidence=evidence)
    found = _wrong_name(end, lookup, said, expected, evidence, why)
    return Found(
        check="path.name",
        state=State.FAIL,
        subject=subject,
        summary=f"{lookup.name} is not resolved rightly in {end.label()}: {said}",
        evidence=evidence,
        cause=found,
    )


def shares_host_found(host: str, container: Container) -> Found:
    """A container without a network namespace of its own."""
    return Found(
        check="path.ends",
        state=State.OK,
        subject=Subject(host=host, container=container.name),
        summary=f"{container.name} runs in the network of its host: {host} itself is what is looked at",
        evidence=(Evidence("engine", f"{container.name} on {host}: network mode host"),),
    )


def itself_found(end: End, address: str) -> Found:
    """A loopback address, which means whoever calls it."""
    return Found(
        check="path.ends",
        state=State.OK,
        subject=Subject(host=end.host, container=end.container),
        summary=f"{address} inside {end.container} is {end.container} itself, not its host",
    )


def apart_found(host: str, container: Container, network: str, driver: str) -> Found:
    """A container with a card of its own on a network of its host's."""
    return Found(
        check="path.ends",
        state=State.SKIP,
        subject=Subject(host=host, container=container.name, network=network),
        summary=f"what happens at {container.name} on {host} is not seen",
        reason=f"it has a card of its own on {network} ({driver}), past the stack and the filters of {host}",
    )


def addresses_found(way: Way, rows: Sequence[tuple[str, Attempt]]) -> list[Found]:
    """One finding for each of a name's other addresses that does not answer: a program may take any of them.

    Where nothing could be sent, as without a route of that family, programs go on to the next address at once.
    """
    return [
        Found(
            check="path.addresses",
            state=State.WARN,
            subject=Subject(host=way.source.host, container=way.source.container or None, peer=address),
            summary=f"the name has the address {address} as well, and it does not answer: {attempt.text}",
            evidence=(
                Evidence("probe", f"{way.source.label()} to {address} {way.protocol}/{way.port}: {attempt.text}"),
            ),
        )
        for address, attempt in rows
        if attempt.sent and not attempt.answered
    ]


def is_wrong(lookup: NameLookup, expected: Sequence[str]) -> bool:
    """Whether a container's resolver gives no address, or none that its engine knows for the name."""
    return not lookup.addresses or (bool(expected) and not set(lookup.addresses) & set(expected))


def _wrong_name(
    end: End, lookup: NameLookup, said: str, expected: Sequence[str], evidence: tuple[Evidence, ...], why: str
) -> Cause:
    known = f"; the engine knows it as {', '.join(expected)}" if expected else ""
    explanation = f"{end.label()} asks {lookup.server or 'no server'} for {lookup.name}: {said}{known}."
    explanation += f" {why[0].upper()}{why[1:]}." if why else ""
    answer = ", ".join(lookup.addresses) or ("NXDOMAIN" if lookup.rcode == NO_SUCH_NAME else said)
    return cause(
        "container.dns",
        host=end.host,
        object={"kind": "name", "name": lookup.name, "server": lookup.server, "answer": answer},
        confidence=Confidence.PROVEN if expected else Confidence.LIKELY,
        explanation=explanation,
        evidence=evidence,
    )


def virtual_found(
    end: End, service: Service, *, answered_by: str, rows: Sequence[tuple[OverlayTask, Attempt]]
) -> Found:
    """What a service's virtual IP is, and who is behind it.

    Args:
        end: The source.
        service: The service with its virtual IP.
        answered_by: The namespace of the source's host that has the address; empty where none has.
        rows: The tasks that were tried, and what came of each.
    """
    behind = [task_text(task) for task in service.tasks]
    own = f"the load balancer of {end.host} itself ({answered_by})" if answered_by else f"a load balancer of {end.host}"
    text = (
        f"{service.virtual_address} is the virtual IP of {service.name}: {own} answers a ping to it, so that it says"
        f" nothing of the tasks behind it: {', '.join(behind) or 'none'}"
    )
    working = sum(attempt.answered for _, attempt in rows)
    tried = f"; {working} of the {len(rows)} that were tried answer" if rows else ""
    count = f" with {len(service.tasks)} {'task' if len(service.tasks) == 1 else 'tasks'} behind it"
    return Found(
        check="path.virtual-ip",
        state=State.OK,
        subject=Subject(host=end.host, network=service.network.name),
        summary=f"{service.name} is a virtual IP{count}{tried}",
        evidence=(
            note(
                "overlay.address-is-vip",
                text,
                {
                    "virtual_ip": service.virtual_address,
                    "tasks": [address_of(task) for task in service.tasks],
                    "answered_by": answered_by or None,
                },
            ),
        ),
    )


def task_founds(
    end: End, service: Service, rows: Sequence[tuple[OverlayTask, Attempt]], explained: OverlayTask | None
) -> list[Found]:
    """One finding for each task that was tried and is not the one that is explained at length."""
    found = []
    for task, attempt in rows:
        if task is explained:
            continue
        label = task_text(task)
        found.append(
            Found(
                check="path.task",
                state=State.OK if attempt.answered else State.FAIL,
                subject=Subject(host=end.host, peer=task.host_address or None, network=service.network.name),
                summary=f"{label}: {attempt.text}",
                evidence=(Evidence("probe", attempt.text, {"rtt_us": attempt.rtt_us}),),
                next=()
                if attempt.answered
                else (
                    Step(
                        host=end.host,
                        command=f"netdiag diagnose {end.container or end.host} {task_label(task)} --via ssh",
                        why=f"finds out why {task_label(task)} does not answer",
                    ),
                ),
            )
        )
    return found


def balancer_found(end: End, service: Service, attempt: Attempt, facts: Facts, *, tasks_answer: bool) -> Found | None:
    """Whether the virtual IP itself does its part; None where nothing is to be said of it.

    Args:
        end: The source.
        service: The service.
        attempt: What came of calling the virtual IP, at the port in question.
        facts: Of the source's host.
        tasks_answer: A task behind it answered where the virtual IP did not.
    """
    # While no task can be reached, a virtual IP could not lead to one either.
    if attempt.answered or not tasks_answer:
        return None
    kernel = facts.kernel.value
    feature = kernel.features.get("ip_vs") if kernel is not None else None
    missing = feature is not None and feature.state is FeatureState.MISSING
    subject = Subject(host=end.host, network=service.network.name)
    what = f"the virtual IP {service.virtual_address} of {service.name}: {attempt.text}"
    evidence, explanation = [Evidence("probe", what)], f"{what}, while a task behind it answers at its own address."
    named: dict[str, object] = {"kind": "service", "name": service.name, "virtual_ip": service.virtual_address}
    if feature is not None and missing:
        evidence.append(Evidence("feature", f"ip_vs: {feature.evidence}"))
        explanation = f"{what}. The kernel of {end.host} has no ip_vs, which would pass it on to a task."
        named = {"kind": "feature", "feature": "ip_vs", "kernel": _release(facts)}
    return Found(
        check="path.virtual-ip",
        state=State.FAIL,
        subject=subject,
        summary=what,
        evidence=tuple(evidence[:1]),
        cause=cause(
            "overlay.ipvs",
            host=end.host,
            object=named,
            confidence=Confidence.PROVEN if missing else Confidence.LIKELY,
            explanation=explanation,
            evidence=tuple(evidence),
        ),
    )


def _release(facts: Facts) -> str:
    return facts.identity.value.kernel_release if facts.identity.value is not None else ""
