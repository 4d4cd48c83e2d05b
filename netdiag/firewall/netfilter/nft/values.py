"""What an expression may be of a packet, and the elements of sets and maps.

An expression has one value, or several of which one holds: numbers, `BREAK` where the kernel finds nothing to load and the
rule does not match (NFT_BREAK), and `Unknown`.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from netdiag.firewall.netfilter.nft.types import Type
from netdiag.firewall.netfilter.skb import Host, Skb, Truth, Unknown

_MOST_VALUES = 64


class Break(msgspec.Struct, frozen=True, gc=False):
    """There is no such thing in the packet."""


BREAK = Break()
Atom = int | tuple[int, ...] | Unknown | Break
Values = tuple[Atom, ...]


class Element(msgspec.Struct, frozen=True, kw_only=True):
    """One element of a set or a map: its range in each dimension, and what the map has for it.

    Attributes:
        data: Of a value map numbers, of a verdict map a target; of a set None.
        doubtful: Why a packet that is found here may not be (a rate, a quota); empty otherwise.
    """

    lows: tuple[int, ...]
    highs: tuple[int, ...]
    data: Any = None
    doubtful: str = ""

    def may_hold(self, key: Sequence[Atom]) -> Truth:
        """Whether a key is in its ranges."""
        found: Truth = True
        for low, high, value in zip(self.lows, self.highs, key, strict=False):
            if isinstance(value, Unknown):
                found = value
            elif not isinstance(value, int) or not low <= value <= high:
                return False
        return found


class Found(msgspec.Struct, frozen=True):
    """What a key may meet: elements, and whether it may meet none.

    Attributes:
        reason: Why it is not known which of these; empty where it is.
        unseen: Whether it may meet elements that are not known.
    """

    elements: tuple[Element, ...]
    may_miss: bool
    reason: str = ""
    unseen: bool = False


class Elements:
    """The elements of a set or a map, indexed."""

    def __init__(self, elements: Iterable[Element], catch_all: Element | None = None, reason: str = "") -> None:
        """Index them.

        Args:
            elements: All but the catch-all element.
            catch_all: What ``*`` stands for.
            reason: Why others may be in it; empty where none may.
        """
        self._exact: dict[tuple[int, ...], Element] = {}
        ranged: list[Element] = []
        for element in elements:
            if element.lows == element.highs:
                self._exact[element.lows] = element
            else:
                ranged.append(element)
        self._ranged = sorted(ranged, key=lambda element: element.lows)
        self._firsts = [element.lows[0] for element in self._ranged]
        # The ranges of one dimension do not overlap in the kernel; where they do here, all are asked.
        self._apart = all(
            len(one.lows) == 1 and one.highs[0] < other.lows[0] for one, other in itertools.pairwise(self._ranged)
        )
        self._catch_all = catch_all
        self.reason = reason

    def __len__(self) -> int:
        return len(self._exact) + len(self._ranged) + (self._catch_all is not None)

    def find(self, key: tuple[Atom, ...]) -> Found:
        """What a key meets."""
        unknown = next((value for value in key if isinstance(value, Unknown)), None)
        if unknown is not None:
            every = (*self._exact.values(), *self._ranged)
            some = [element for element in every if element.may_hold(key) is not False]
            if not some and self._catch_all is None and not self.reason:
                return Found((), may_miss=True)
            if self._catch_all is not None:
                some.append(self._catch_all)
            reason, unseen = self.reason or unknown.reason, bool(self.reason)
            return Found(tuple(some), may_miss=self._catch_all is None, reason=reason, unseen=unseen)
        element = self._exact.get(key) or self._in_range(key)  # type: ignore[arg-type]  # all of it are numbers
        if element is None and self.reason:
            may = () if self._catch_all is None else (self._catch_all,)
            return Found(may, may_miss=self._catch_all is None, reason=self.reason, unseen=True)
        element = element or self._catch_all
        return Found((), may_miss=True) if element is None else Found((element,), may_miss=False)

    def _in_range(self, key: Sequence[Atom]) -> Element | None:
        if self._apart and self._ranged and len(key) == 1:
            at = bisect.bisect_right(self._firsts, key[0]) - 1  # type: ignore[type-var]  # a number
            return self._ranged[at] if at >= 0 and self._ranged[at].may_hold(key) is True else None
        return next((element for element in self._ranged if element.may_hold(key) is True), None)


class NamedSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set or map with a name.

    Attributes:
        keys: The types of its dimensions.
        data: The types of what a map has for a key; empty for a set.
        size: Most elements that rules may add.
    """

    name: str
    keys: tuple[Type, ...]
    elements: Elements
    data: tuple[Type, ...] = ()
    size: int = 0


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule is asked: the hook, the table's family and sets, and what is known of the host."""

    host: Host
    hook: str
    family: str
    sets: Mapping[str, NamedSet]


class Expression(msgspec.Struct, frozen=True):
    """Something that is loaded of a packet. ``text`` is how nft writes it."""

    text: str
    type: Type

    def values(self, skb: Skb, scene: Scene) -> Values:
        """What it is, or may be."""
        raise NotImplementedError


class Constant(Expression, frozen=True):
    """A number of a rule's own."""

    number: int

    def values(self, skb: Skb, scene: Scene) -> Values:  # noqa: ARG002
        """The number."""
        return (self.number,)


class NotKnown(Expression, frozen=True):
    """What cannot be told of any packet, and why."""

    reason: str

    def values(self, skb: Skb, scene: Scene) -> Values:  # noqa: ARG002
        """It is not known."""
        return (Unknown(self.reason),)


class Loaded(Expression, frozen=True):
    """A field of the packet, or of what the kernel knows of it."""

    load: Callable[[Skb, Scene], Values]

    def values(self, skb: Skb, scene: Scene) -> Values:
        """What it is, or may be."""
        return self.load(skb, scene)


class Binary(Expression, frozen=True):
    """Two numbers, bit by bit (nft_bitwise.c)."""

    operator: str
    left: Expression
    right: Expression

    def values(self, skb: Skb, scene: Scene) -> Values:
        """What comes of them."""
        found: dict[Atom, None] = {}
        for left, right in itertools.product(self.left.values(skb, scene), self.right.values(skb, scene)):
            found[self._one(left, right)] = None
        return tuple(found)

    def _one(self, left: Atom, right: Atom) -> Atom:
        for each in (left, right):
            if not isinstance(each, int):
                return each
        if not isinstance(left, int) or not isinstance(right, int):
            return BREAK
        full = (1 << self.type.bits) - 1
        if self.operator == "<<":
            return left << min(right, 256) & full
        if self.operator == ">>":
            return left >> right
        return (left & right if self.operator == "&" else left | right if self.operator == "|" else left ^ right) & full


def keys_of(key: Sequence[Expression], skb: Skb, scene: Scene) -> Sequence[tuple[Atom, ...]]:
    """The keys that a packet may have, one value a dimension."""
    if len(key) == 1:
        return [(value,) for value in key[0].values(skb, scene)]
    each = [expression.values(skb, scene) for expression in key]
    several = list(itertools.islice(itertools.product(*each), _MOST_VALUES + 1))
    if len(several) > _MOST_VALUES:
        return [tuple(Unknown("there are too many possibilities") for _ in key)]
    return several


class Lookup(Expression, frozen=True):
    """What a map has for the packet."""

    key: tuple[Expression, ...]
    elements: Elements | str
    """Those of an anonymous map, or the name of another."""
    data: tuple[Type, ...]

    def values(self, skb: Skb, scene: Scene) -> Values:
        """The value, several where it has several dimensions; BREAK where the map has none."""
        found: dict[Atom, None] = {}
        for met in lookups(self.key, self.elements, skb, scene):
            if isinstance(met, Break):
                found[BREAK] = None
                continue
            for element in met.elements:
                found[Unknown(element.doubtful) if element.doubtful else element.data] = None
            if met.unseen:
                found[Unknown(met.reason)] = None
            elif met.may_miss:
                found[BREAK] = None
        return tuple(found)


def lookups(key: Sequence[Expression], elements: Elements | str, skb: Skb, scene: Scene) -> list[Found | Break]:
    """What each of the keys that a packet may have meets in a set or map."""
    hidden = ""
    if isinstance(elements, str):
        named = scene.sets.get(elements)
        if named is None or len(named.keys) != len(key):
            hidden = f"what the set {elements} holds is not known"
        elif elements in skb.changed_sets:
            hidden = f"a rule before may have changed the set {elements} for it"
        elements = named.elements if named is not None else Elements(())
    found: list[Found | Break] = []
    for values in keys_of(key, skb, scene):
        if any(isinstance(value, Break) for value in values):
            found.append(BREAK)
        elif hidden:
            found.append(Found((), may_miss=True, reason=hidden, unseen=True))
        else:
            found.append(elements.find(values))
    return found
