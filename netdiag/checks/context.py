"""What a check is given, and the words in which it answers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from netdiag.model.facts import HOST, Backend, Facts, Link, RuleSet
from netdiag.model.firewall import Packet
from netdiag.model.found import Found
from netdiag.model.probes import ManagerProbe, Observations, TracedFlow
from netdiag.model.report import Answer, Cause, Evidence, Need, State, Step, Subject
from netdiag.swarm.ports import DEFAULT_DATA_PATH_PORT
from netdiag.swarm.token import Token, TokenProblem

_DOCKER_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")


def same_address(one: str, other: str) -> bool:
    """Whether two texts are one address, however they are written (IPv6 has many spellings)."""
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return one == other


def behind_nat(address: str) -> bool:
    """Whether an address that this host does not have may be mapped to it: a public one, as clouds do it."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def host_of(authority: str) -> str:
    """The address in ``ADDR``, ``ADDR:PORT``, ``[V6]`` or ``[V6]:PORT``."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] if authority.count(":") == 1 else authority


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked. The token is what it says of its swarm; its secret was never kept.

    Attributes:
        managers: As typed: ``ADDR``, ``ADDR:PORT`` or ``[V6]:PORT``.
        peers: Addresses of other hosts whose packets should be let in (a manager asks for those that will join).
        initialise: The question is about ``swarm init``, not about joining.
        probed: Whether probes could have been sent; not so for a bundle of facts alone.
    """

    need: Need = Need.JOIN
    managers: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    token: Token | TokenProblem | None = None
    manager_role: bool = False
    initialise: bool = False
    probed: bool = True
    advertise_address: str = ""
    data_path_address: str = ""
    data_path_port: int | None = None
    images: tuple[str, ...] = ()


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other of two hosts that are judged as a pair, both from what was recorded of them.

    Attributes:
        context: The other host's own.
        read_s: When the two records are judged, Unix time of the machine that does it; the other host's record is older.
        asked_s: When the first host asked for the other's record, Unix time of the first host's clock: the record is
            younger. None where that is not known.
    """

    context: Context
    read_s: float
    asked_s: float | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """One host's facts, what was asked, and what the probes saw (None where none were sent).

    Attributes:
        called: What to call this host, where its own name does not tell it from another.
        peer: The other host, for the checks of a pair; None for all others.
    """

    facts: Facts
    options: Options
    observed: Observations | None = None
    called: str = ""
    peer: Peer | None = None

    @property
    def now_s(self) -> float:
        """This host's own clock when its facts were collected, Unix time."""
        clock = self.facts.clock.value
        return clock.unix_s if clock is not None else self.facts.collected_s

    @property
    def host(self) -> str:
        """This host as an operator would type it; with its address where the name says nothing."""
        if self.called:
            return self.called
        identity = self.facts.identity.value
        name = identity.hostname if identity is not None and identity.hostname else "this host"
        if name.split(".")[0] in ("localhost", "this host"):
            source = next((probe.route.source for probe in self.managers if probe.route and probe.route.source), "")
            source = source or next(iter(self.own_addresses()), "")
            return f"{name} ({source})" if source else name
        return name

    @property
    def subject(self) -> Subject:
        """A finding about this host as a whole."""
        return Subject(host=self.host)

    @property
    def managers(self) -> tuple[ManagerProbe, ...]:
        """What each manager's probes saw; empty when none were sent."""
        return self.observed.managers if self.observed is not None else ()

    @property
    def data_path_port(self) -> int:
        """The data-path port: as asked, as the engine knows it, as its VXLAN devices use it, or the default."""
        if self.options.data_path_port:
            return self.options.data_path_port
        engine = self.facts.engine.value
        if engine is not None and engine.swarm.data_path_port:
            return engine.swarm.data_path_port
        for namespace, links in (self.facts.links.value or {}).items():
            if namespace.startswith("overlay:"):
                for link in links:
                    if link.vxlan is not None:
                        return link.vxlan.port
        return DEFAULT_DATA_PATH_PORT

    def host_links(self) -> tuple[Link, ...]:
        """The devices of the host's own namespace; empty when they could not be read."""
        return (self.facts.links.value or {}).get(HOST, ())

    def own_addresses(self) -> tuple[str, ...]:
        """The host's own global addresses, without prefix lengths, loopback and Docker's bridges left out.

        A bridge or a veth may be the uplink itself (a virtualisation host, a container that runs an engine).
        """
        engine = self.facts.engine.value
        bridges = {network.bridge for network in engine.networks if network.bridge} if engine is not None else set()
        left_out = bridges | {
            link.name
            for link in self.host_links()
            if link.loopback or link.kind == "vxlan" or _DOCKER_BRIDGE.fullmatch(link.name)
        }
        return tuple(
            address.cidr.partition("/")[0]
            for address in (self.facts.addresses.value or {}).get(HOST, ())
            if address.scope == "global" and address.device not in left_out
        )

    def uplinks(self) -> tuple[str, ...]:
        """Devices that lead to other hosts: those toward the managers, else those with an address of their own."""
        toward = dict.fromkeys(probe.route.device for probe in self.managers if probe.route and probe.route.device)
        if toward:
            return tuple(toward)
        own = set(self.own_addresses())
        rows = (self.facts.addresses.value or {}).get(HOST, ())
        return tuple(dict.fromkeys(row.device for row in rows if row.cidr.partition("/")[0] in own))

    def local_addresses(self) -> dict[str, str]:
        """Every address of the host's own namespace, with its device."""
        return {
            address.cidr.partition("/")[0]: address.device
            for address in (self.facts.addresses.value or {}).get(HOST, ())
        }

    def rule_sets(self) -> tuple[RuleSet, ...]:
        """The running rules of the host's own namespace; empty when they could not be read."""
        return (self.facts.firewall.value or {}).get(HOST, ())

    def both_backends(self) -> bool:
        """Whether both iptables variants show rules here, so that plain ``iptables`` may mean either."""
        return {Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY} <= {rules.backend for rules in self.rule_sets()}

    def traced(self, packet: Packet) -> TracedFlow | None:
        """What came of tracing this very packet; None when that was not tried."""
        flows = self.observed.traced if self.observed is not None else ()
        return next((flow for flow in flows if flow.packet == packet), None)

    # --- answers ---

    def ok(
        self, check: str, summary: str, *, subject: Subject | None = None, evidence: Iterable[Evidence] = ()
    ) -> Found:
        """It is as it should be."""
        return Found(
            check=check, state=State.OK, subject=subject or self.subject, summary=summary, evidence=tuple(evidence)
        )

    def problem(
        self,
        check: str,
        summary: str,
        *,
        breaks: Iterable[Need] = (),
        leaves: Iterable[Need] = (),
        always_fails: bool = False,
        subject: Subject | None = None,
        evidence: Iterable[Evidence] = (),
        cause: Cause | None = None,
        next_steps: Iterable[Step] = (),
    ) -> Found:
        """Something is wrong: *fail* when it makes the asked question a no, else *warn*.

        Args:
            breaks: The questions that it makes a no. What a question presupposes counts: who asks for traffic is told
                no when joining breaks.
            leaves: The questions that it leaves open: the other side, or what was not seen, decides them.
            always_fails: The operator asked for exactly this, so it fails whatever the question.
        """
        broken = tuple(breaks)
        needs = tuple(Need)
        asked = needs[: needs.index(self.options.need) + 1]
        fails = always_fails or any(need in asked for need in broken)
        return Found(
            check=check,
            state=State.FAIL if fails else State.WARN,
            subject=subject or self.subject,
            summary=summary,
            evidence=tuple(evidence),
            answers={**dict.fromkeys(leaves, Answer.UNKNOWN), **dict.fromkeys(broken, Answer.NO)},
            cause=cause,
            next=tuple(next_steps),
        )

    def unknown(
        self,
        check: str,
        summary: str,
        reason: str,
        *,
        leaves: Iterable[Need] = (),
        subject: Subject | None = None,
        evidence: Iterable[Evidence] = (),
        next_steps: Iterable[Step] = (),
    ) -> Found:
        """It could not be found out; ``leaves`` are the questions that stay open because of it."""
        return Found(
            check=check,
            state=State.UNKNOWN,
            subject=subject or self.subject,
            summary=summary,
            reason=reason,
            evidence=tuple(evidence),
            answers=dict.fromkeys(leaves, Answer.UNKNOWN),
            next=tuple(next_steps),
        )

    def skip(self, check: str, summary: str, reason: str, *, subject: Subject | None = None) -> Found:
        """It does not apply here."""
        return Found(check=check, state=State.SKIP, subject=subject or self.subject, summary=summary, reason=reason)


Evaluate = Callable[[Context], Iterator[Found]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: a pure generator of findings with its page of ``netdiag explain``.

    Attributes:
        id: Stable and dotted; every finding of the check carries it.
        needs: Sections of the facts without which it says nothing but *unknown*.
        leaves: The questions that stay open without those sections.
        remedy: What to do when it fails, in words; the commands themselves come with the cause.
    """

    id: str
    title: str
    explains: str
    remedy: str
    evaluate: Evaluate
    needs: tuple[str, ...] = ()
    leaves: tuple[Need, ...] = ()
