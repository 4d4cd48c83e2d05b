"""What nft's statements do with a packet.

Sources: net/netfilter/nft_cmp.c, nft_range.c, nft_lookup.c, nft_dynset.c, nft_limit.c, nft_quota.c, nft_reject_inet.c,
nft_nat.c, nft_redir.c, nft_masq.c, nft_ct.c (nft_notrack_eval, nft_ct_set_eval), nft_flow_offload.c.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, Self

import msgspec

from netdiag.firewall.netfilter.nft.model import Outcome, Said
from netdiag.firewall.netfilter.nft.values import (
    BREAK,
    Atom,
    Break,
    Elements,
    Expression,
    Scene,
    keys_of,
    lookups,
)
from netdiag.firewall.netfilter.rules import Changing, Decide, Return, Verdict
from netdiag.firewall.netfilter.skb import TCP, Skb, Truth, Unknown
from netdiag.firewall.netfilter.targets import Redirect, ToDestination, ToSource

_replace = msgspec.structs.replace
_SETS_MOST = 65535


def _either(skb: Skb, truth: Truth) -> Sequence[Outcome]:
    """Goes on, breaks off, or either: the way that it may take has the doubt."""
    if truth is True:
        return (Outcome(skb),)
    if truth is False:
        return (Outcome(skb, BREAK),)
    return Outcome(skb, None, truth.reason), Outcome(skb, BREAK)


def _agreed(truths: Sequence[Truth], what: str) -> Truth:
    """One truth for all possibilities."""
    unknown = next((truth for truth in truths if isinstance(truth, Unknown)), None)
    if unknown is not None:
        return unknown
    return truths[0] if all(truth == truths[0] for truth in truths) else Unknown(f"what {what} is here is not known")


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement; ``tracks`` where it makes the kernel track connections."""

    tracks: bool = False

    def tracking(self) -> Self:
        """The same, one that does."""
        return _replace(self, tracks=True)


class Between(_Statement, frozen=True, kw_only=True):
    """A comparison with a constant, a prefix or a range (nft_cmp_eval, nft_range_eval)."""

    left: Expression
    low: int
    high: int
    negated: bool = False

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Whether it matches."""
        truths = [self._holds(value) for value in self.left.values(skb, scene)]
        return _either(skb, truths[0] if len(truths) == 1 else _agreed(truths, self.left.text))

    def _holds(self, value: Atom) -> Truth:
        if isinstance(value, Unknown):
            return value
        return isinstance(value, int) and (self.low <= value <= self.high) != self.negated


class Apart(_Statement, frozen=True, kw_only=True):
    """Several ``!=`` with fields that stand side by side in one header.

    nft asks them as one comparison in some versions (src/rule.c, payload_try_merge; 1.0.6 does), which holds where any
    field differs, and lists them as those that hold where all do.
    """

    parts: tuple[Between, ...]

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Whether it matches both ways."""
        said = [part.apply(skb, scene) for part in self.parts]
        going = {each[0].said is None for each in said if len(each) == 1}
        if len(going) == 1 and all(len(each) == 1 for each in said):
            return said[0]
        return _either(skb, Unknown("whether nft asks its != one by one or as one is not told"))


class Flags(_Statement, frozen=True, kw_only=True):
    """Whether any of some flags is set, or with ``negated`` none of them."""

    left: Expression
    mask: int
    negated: bool = False

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Whether it matches."""
        truths = [self._holds(value) for value in self.left.values(skb, scene)]
        return _either(skb, truths[0] if len(truths) == 1 else _agreed(truths, self.left.text))

    def _holds(self, value: Atom) -> Truth:
        if isinstance(value, Unknown):
            return value
        return isinstance(value, int) and bool(value & self.mask) != self.negated


class Member(_Statement, frozen=True, kw_only=True):
    """Whether the packet is in a set, anonymous or with a name (nft_lookup_eval)."""

    key: tuple[Expression, ...]
    elements: Elements | str
    negated: bool = False

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Whether it matches."""
        truths: list[Truth] = []
        for met in lookups(self.key, self.elements, skb, scene):
            if isinstance(met, Break):
                truths.append(False)
            elif not met.elements and not met.reason:
                truths.append(self.negated)
            elif not met.may_miss and len(met.elements) == 1 and not self.negated and met.elements[0].doubtful:
                truths.append(Unknown(met.elements[0].doubtful))
            elif not met.may_miss:
                truths.append(not self.negated)
            else:
                # Elements that it may meet, or none: not known, unless nothing may be met at all.
                truths.append(Unknown(met.reason))
        return _either(skb, _agreed(truths, " . ".join(each.text for each in self.key)))


class VerdictMap(_Statement, frozen=True, kw_only=True):
    """``vmap``: the verdict that a map has for the packet; without one the rule does not match."""

    key: tuple[Expression, ...]
    elements: Elements | str

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Every verdict that it may have."""
        found: dict[object, Outcome] = {}
        all_met = lookups(self.key, self.elements, skb, scene)
        several = f"what {' . '.join(each.text for each in self.key)} is here is not known" if len(all_met) > 1 else ""
        for met in all_met:
            if isinstance(met, Break):
                found[BREAK] = Outcome(skb, BREAK, several)
                continue
            doubt = met.reason or several
            if met.unseen:
                found["unseen"] = Outcome(skb, Decide(Verdict.UNKNOWN, met.reason))
            for element in met.elements:
                said: Said | None = element.data
                found[said] = Outcome(skb, said, element.doubtful or doubt)
                if element.doubtful:
                    found.setdefault(BREAK, Outcome(skb, BREAK))
            if met.may_miss:
                found.setdefault(BREAK, Outcome(skb, BREAK, doubt))
        return tuple(found.values())


class Says(_Statement, frozen=True, kw_only=True):
    """A verdict; ``only`` asks before whether the packet is of the kind that the verdict is for."""

    said: Said | None
    only: Callable[[Skb], Truth] | None = None

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """The verdict."""
        truth = True if self.only is None else self.only(skb)
        if truth is True:
            return (Outcome(skb, self.said),)
        if truth is False:
            return (Outcome(skb, BREAK),)
        return Outcome(skb, self.said, truth.reason), Outcome(skb, BREAK)


class Nothing(_Statement, frozen=True, kw_only=True):
    """Counters, logs, and whatever changes nothing that a rule asks for."""

    name: str = ""

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """It goes on."""
        return (Outcome(skb),)


class Perhaps(_Statement, frozen=True, kw_only=True):
    """A condition of which nothing can be said: a quota, a count of connections, whatever is not understood."""

    reason: str

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """It goes on or breaks off."""
        return _either(skb, Unknown(self.reason))


class Opaque(_Statement, frozen=True, kw_only=True):
    """A statement after which anything may be: the verdict is unknown at its rule."""

    reason: str

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """Nobody knows."""
        return (Outcome(skb, Decide(Verdict.UNKNOWN, self.reason)),)


class Rate(_Statement, frozen=True, kw_only=True):
    """``limit``; ``over`` matches what is beyond the rate."""

    over: bool = False

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Whether the bucket is as full as it asks for."""
        if scene.host.bucket is None:
            return _either(skb, Unknown("whether the rate of limit is used up is not known"))
        return _either(skb, (scene.host.bucket == "empty") == self.over)


class Offload(_Statement, frozen=True, kw_only=True):
    """``flow add``: a flow that both sides have not confirmed is left alone, and the rule does not match."""

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """Whether it goes on."""
        if skb.state in ("NEW", "INVALID", "UNTRACKED"):
            return _either(skb, False)
        return _either(skb, Unknown("whether its flow is offloaded is not known"))


class SetField(_Statement, frozen=True, kw_only=True):
    """A field of the packet set to a value: a mark, a TTL, a class."""

    field: Literal["mark", "connmark", "ttl", "dscp", "ecn"]
    value: Expression
    only: Callable[[Skb], Truth] | None = None

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """The packet with it; the rule does not match where there is no value to set."""
        if self.only is not None and self.only(skb) is False:
            return (Outcome(skb, BREAK),)
        values = self.value.values(skb, scene)
        doubt = "" if len(values) == 1 else f"what {self.value.text} is here is not known"
        return [self._one(skb, value, doubt) for value in values]

    def _one(self, skb: Skb, value: Atom, doubt: str) -> Outcome:
        if isinstance(value, Break):
            return Outcome(skb, BREAK, doubt)
        number = value if isinstance(value, int) else None
        if self.field == "mark":
            return Outcome(_replace(skb, mark=number), None, doubt)
        if self.field == "connmark":
            has_flow = skb.state not in ("INVALID", "UNTRACKED")
            return Outcome(_replace(skb, connmark=number) if has_flow else skb, None, doubt)
        if self.field == "ttl":
            return Outcome(_replace(skb, ttl=number), None, doubt)
        if number is None or skb.tos is None:
            return Outcome(_replace(skb, tos=None), None, doubt)
        tos = skb.tos & 3 | number << 2 if self.field == "dscp" else skb.tos & 0xFC | number
        return Outcome(_replace(skb, tos=tos), None, doubt)


class Change(_Statement, frozen=True, kw_only=True):
    """What a target of iptables' does as well: ``notrack``, a template for conntrack."""

    target: Changing

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:  # noqa: ARG002
        """The packet behind it."""
        return (Outcome(self.target.change(skb)),)


class AddElement(_Statement, frozen=True, kw_only=True):
    """``add @set``, ``update``, ``delete``, and meters: what the set holds for the packet is another behind it.

    Attributes:
        conditions: Statements of the element, which are asked each time.
    """

    name: str
    key: tuple[Expression, ...]
    conditions: tuple[_Condition, ...] = ()
    deletes: bool = False

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """The packet that may be in the set now."""
        if all(any(isinstance(value, Break) for value in key) for key in keys_of(self.key, skb, scene)):
            return (Outcome(skb, BREAK),)
        known = scene.sets.get(self.name)
        added = _replace(skb, changed_sets=skb.changed_sets | {self.name}) if self.name else skb
        outcomes: list[Outcome] = []
        if self.deletes or any(
            isinstance(value, Break | Unknown) for key in keys_of(self.key, skb, scene) for value in key
        ):
            return _either(added, Unknown(f"whether the set {self.name} has room for it is not known"))
        if known is not None and len(known.elements) * 2 >= (known.size or _SETS_MOST):
            outcomes.append(Outcome(skb, BREAK))
            doubt = f"whether the set {self.name} has room for it is not known"
        else:
            doubt = ""
        on = [Outcome(added, None, doubt)]
        for condition in self.conditions:
            on = [
                _replace(one, said=after.said, doubt=one.doubt or after.doubt)
                for one in on
                if one.said is None
                for after in condition.apply(one.skb, scene)
            ] + [one for one in on if one.said is not None]
        return [*outcomes, *on]


_Condition = Rate | Perhaps | Nothing


class ToAddress(_Statement, frozen=True, kw_only=True):
    """``dnat`` and ``snat`` (nft_nat_eval); a family that is not the packet's is passed over.

    Attributes:
        address: None keeps it. Of a map it may have a port as well; one that the kernel chooses is not known.
        keeps_port: Whether no port is named.
    """

    source: bool
    family: int | None = None
    address: Expression | None = None
    keeps_port: bool = True
    port: Expression | None = None

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Accepted with another address."""
        if self.family is not None and self.family != skb.family:
            return (Outcome(skb),)
        if self.source:
            return (Outcome(skb, ToSource()),)
        addresses: Sequence[Atom | None] = (None,) if self.address is None else self.address.values(skb, scene)
        ports: Sequence[Atom | None] = (None,) if self.port is None else self.port.values(skb, scene)
        doubt = "to which address it goes is not known" if len(addresses) * len(ports) > 1 else ""
        return [self._one(skb, address, port, doubt) for address, port in itertools.product(addresses, ports)]

    def _one(self, skb: Skb, address: Atom | None, port: Atom | None, doubt: str) -> Outcome:
        if isinstance(address, Break) or isinstance(port, Break):
            return Outcome(skb, BREAK, doubt)
        keeps_port = self.keeps_port
        if isinstance(address, tuple):
            both, keeps_port = address, False
            address, port = both[0], both[1] if len(both) > 1 else None
        target = ToDestination(
            address=address if isinstance(address, int) else None,
            keeps_address=self.address is None,
            port=port if isinstance(port, int) else None,
            keeps_port=keeps_port,
        )
        return Outcome(skb, target, doubt)


class ToHere(_Statement, frozen=True, kw_only=True):
    """``redirect``."""

    port: Expression | None = None
    keeps_port: bool = True

    def apply(self, skb: Skb, scene: Scene) -> Sequence[Outcome]:
        """Accepted, to this host itself."""
        ports: Sequence[Atom | None] = (None,) if self.port is None else self.port.values(skb, scene)
        doubt = "to which port it goes is not known" if len(ports) > 1 else ""
        return [
            Outcome(skb, BREAK, doubt)
            if isinstance(port, Break)
            else Outcome(skb, Redirect(port if isinstance(port, int) else None, self.keeps_port), doubt)
            for port in ports
        ]


def is_tcp(skb: Skb) -> Truth:
    """A reset answers nothing but TCP."""
    return skb.protocol == TCP


def of_version(family: int) -> Callable[[Skb], Truth]:
    """Whether a packet is of IPv4, or of IPv6."""
    return lambda skb: skb.family == family


ACCEPT = Decide(Verdict.ACCEPT)
DROP = Decide(Verdict.DROP)
REJECT = Decide(Verdict.REJECT)
RETURN = Return()
