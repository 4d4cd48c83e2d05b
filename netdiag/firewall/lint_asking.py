"""Asks a rule set about packets that come in, with nothing known of them but what every such packet has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from netdiag.firewall.engine_view import EngineView
from netdiag.firewall.explain import Explainer, RuleSets
from netdiag.firewall.lint_context import Need
from netdiag.firewall.netfilter import header
from netdiag.firewall.netfilter.evaluate import Step
from netdiag.firewall.netfilter.packet import asked_of
from netdiag.firewall.netfilter.rules import Decide, Rule, Verdict
from netdiag.firewall.standing import Standing, StandingTable
from netdiag.model.explain import PacketLine
from netdiag.model.trace import TracePath

_NOT_AN_UPLINK = ("lo", "veth", "cali", "virbr", "vnet", "cni", "tunl", "lxc", "lxd", "podman", "flannel")
ANOTHER = "another-device"
"""Stands for every device that no rule names."""
_QUOTED = re.compile(r'"([^"*]+)(\*?)"')
_MOST_DEVICES = 12
_MOST_PEERS = 64


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A need that is dropped: by what, and for whom; ``peer`` is empty where it is for everybody."""

    need: Need
    steps: tuple[Step, ...]
    verdict: Verdict
    device: str
    peer: str = ""


class Asking:
    """One rule set, asked about packets that come in."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        sets = standing.asked()
        self._any = any(each.family == 4 for each in sets.tables) or bool(sets.native)
        self._explainer = Explainer(sets, standing.host)
        self._devices = _devices(standing, sets)
        self._stopped: dict[Need, Stopped | None] = {}
        self.accepts = tuple(_accepting(standing))

    def stopped(self, need: Need) -> Stopped | None:
        """Who drops it; None where somebody may get through, or it is not known."""
        if not self._any:
            return None
        if need not in self._stopped:
            self._stopped[need] = self._asked(need)
        return self._stopped[need]

    def _asked(self, need: Need) -> Stopped | None:
        for_all = self._by_all(need, "")
        if for_all is not None:
            return for_all
        for peer in need.peers[:_MOST_PEERS] if need.meant else ():
            found = self._by_all(need, peer)
            if found is not None:
                return msgspec.structs.replace(found, peer=peer)
        return None

    def _by_all(self, need: Need, source: str) -> Stopped | None:
        """Who drops it, whichever device it comes by."""
        first: Stopped | None = None
        for device in (need.device,) if need.device else self._devices:
            packet = PacketLine(
                path=TracePath.IN,
                in_device=device,
                source=source or None,
                destination=need.destination or None,
                proto=need.protocol,
                dport=need.port,
            )
            asked = asked_of(packet)
            outcomes = self._explainer.traversal(asked.skb.family, None).outcomes(asked)
            if any(each.verdict not in (Verdict.DROP, Verdict.REJECT) or each.step is None for each in outcomes):
                return None
            # The one that depends on least comes first: it is the one to name.
            outcomes.sort(key=lambda each: len(each.way.doubts))
            steps = tuple(each.step for each in outcomes if each.step is not None)
            first = first or Stopped(need=need, steps=steps, verdict=outcomes[0].verdict, device=device)
        return first


def is_uplink(device: str, view: EngineView) -> bool:
    """Whether other hosts may be behind a device: by its name it is none of containers, of virtual machines or lo."""
    return not device.startswith(_NOT_AN_UPLINK) and not view.is_bridge(device)


def _devices(standing: Standing, sets: RuleSets) -> tuple[str, ...]:
    """The devices that packets of other hosts may come by, as far as the rules tell them apart.

    Empty where they cannot be told: a rule of nft's asks a set for them.
    """
    view = EngineView(standing.facts.engine.value if standing.facts is not None else None)
    named: dict[str, None] = {}
    for table in standing.tables:
        reached = table.reached_from("INPUT") | table.reached_from("PREROUTING")
        for name in table.chains:
            for rule in table.chains[name].rules if name in reached else ():
                for match in rule.matches:
                    if isinstance(match, header.Device) and match.side == "in" and match.name != "+":
                        named[match.name[:-1] + "0" if match.name.endswith("+") else match.name] = None
    native = (rule.text for table in sets.native or () for chain in table.chains.values() for rule in chain.rules)
    for text in native:
        if "iif" in text:
            if "@" in text:
                return ()
            for name, star in _QUOTED.findall(text):
                named[name + ("0" if star else "")] = None
    found = [name for name in named if is_uplink(name, view)]
    return (ANOTHER, *found[:_MOST_DEVICES])


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that accepts and names ports of its destination."""

    table: StandingTable
    chain: str
    rule: Rule
    ranges: tuple[tuple[int, int], ...]

    def names(self, port: int, widest: int) -> bool:
        """Whether the port is among them, in a range of no more than so many."""
        return any(first <= port <= last and last - first < widest for first, last in self.ranges)


def _accepting(standing: Standing) -> Iterator[Accept]:
    for table in standing.of("filter", 4):
        for chain in table.chains.values():
            for rule in chain.rules:
                if isinstance(rule.target, Decide) and rule.target.verdict is Verdict.ACCEPT:
                    ranges = tuple(_destinations(rule))
                    if ranges:
                        yield Accept(table=table, chain=chain.name, rule=rule, ranges=ranges)


def _destinations(rule: Rule) -> Iterator[tuple[int, int]]:
    for match in rule.matches:
        if isinstance(match, header.Ports) and match.side == "destination" and not match.negated:
            yield match.first, match.last
        elif isinstance(match, header.Multiport) and "destination" in match.sides and not match.negated:
            yield from match.ranges
