"""What a host's kernel itself does with a lost packet, by its counters and settings: filters apart; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from netdiag.causes import cause
from netdiag.model.facts import HOST, TCX, TcFilter
from netdiag.model.path import Side, Stage, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Cause, Confidence, Evidence, Remedy, Risk
from netdiag.path.container_routes import route_cause
from netdiag.path.stops import Moved, Stop, devices_under, entered_by
from netdiag.path.ways import Host
from netdiag.shell import shell_text

_REVERSE_PATH = "TcpExt.IPReversePathFilter"
_NOT_FORWARDED, _FORWARDED = "Ip.InAddrErrors", "Ip.ForwDatagrams"
_TABLE_FULL = "conntrack.drop"
_HOOKS = ("clsact", "ingress")
_XDP_WORDS = {"generic": ("xdpgeneric",), "driver": ("xdpdrv",), "offloaded": ("xdpoffload",)}
"""What ip(8) calls each mode: "xdp" alone is the driver's where the driver has one, and lets a generic one stand."""
_MOST = 0.75
"""How much of what was sent a device's own counter must show: it counts everybody's packets."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a stop.

    Attributes:
        way: The way.
        stop: Where the packet came to its end.
        host: On which host.
        moved: Its counters.
        back: How that stack would send to the packet's source; None where that was not asked.
        out: How it would send the packet itself, where it is its own; None where that was not asked.
        filters: The tc filters of that namespace.
    """

    way: Way
    stop: Stop
    host: Host
    moved: Moved
    back: RouteChoice | None = None
    out: RouteChoice | None = None
    filters: tuple[TcFilter, ...] = ()

    @property
    def path(self) -> str:
        """What setns takes for the namespace; empty for the host's own."""
        found = (self.host.facts.namespaces.value or {}).get(self.stop.namespace)
        return found.path if found is not None and self.stop.namespace != HOST else ""

    @property
    def where(self) -> str:
        """The stack, in words."""
        return self.host.name if self.stop.namespace == HOST else f"{self.stop.namespace} of {self.host.name}"

    def setting(self, key: str) -> int | None:
        """A sysctl's value; None where it could not be read."""
        text = self.moved.after.settings.get(key, "")
        return int(text) if text.isdigit() else None

    def per_device(self, name: str, device: str) -> tuple[str, int | None]:
        """A device's own setting: its key and value."""
        key = f"net.ipv4.conf.{device.replace('.', '/')}.{name}"
        return key, self.setting(key)

    def command(self, *argv: str) -> str:
        """A command in the namespace."""
        return shell_text([*(("nsenter", f"--net={self.path}", "--") if self.path else ()), *argv])

    def set_to(self, key: str, value: int, before: int, summary: str) -> Remedy:
        """A sysctl's remedy. A container's own settings last as long as it does."""
        return Remedy(
            host=self.host.name,
            summary=summary,
            commands=(self.command("sysctl", "-w", f"{key}={value}"),),
            undo=(self.command("sysctl", "-w", f"{key}={before}"),),
            persist=() if self.path else (f"echo '{key} = {value}' > /etc/sysctl.d/99-network.conf",),
        )


def drop_causes(scene: Scene) -> tuple[Cause, ...]:
    """What the kernel is seen to drop the packet by: all that is proven, else all that is likely."""
    found = [one for judge in _JUDGES for one in judge(scene)]
    proven = tuple(one for one in found if one.confidence is Confidence.PROVEN)
    return proven or tuple(found)


# --- before the stack: XDP and traffic control ---


def _xdp(scene: Scene) -> Iterator[Cause]:
    """What came to the device, and was seen by nobody there: generic and native programs run before packet sockets."""
    stop, moved = scene.stop, scene.moved
    below = devices_under(scene.host.facts, stop.namespace, stop.device)
    device = next((each for each in below if each in moved.after.xdp), "")
    if not stop.wire or not device or not moved.sent:
        return
    key = f"link.{device}.rx_packets"
    # The requester's own messages come by the same device: the stack counts them, and it does not count what vanished.
    vanished = moved.moved(key) - moved.moved("Ip.InReceives")
    if vanished < moved.sent * _MOST or moved.excess(key) < moved.sent * _MOST:
        return
    mode, number = moved.after.xdp[device]
    yield cause(
        "host.xdp-drop",
        host=scene.host.name,
        object={"kind": "program", "device": device, "id": number},
        confidence=Confidence.PROVEN if moved.idle(key) < moved.sent / 4 else Confidence.LIKELY,
        explanation=(
            f"{device} of {scene.host.name} carries an XDP program ({mode}, id {number}). What is sent comes to the device, as its"
            " own counter says, and nothing behind the program sees it."
        ),
        evidence=(
            Evidence("device", f"{device}: xdp program id {number} ({mode})"),
            Evidence("counter", moved.text(key)),
        ),
        affects=("host traffic", "overlay data"),
        remedy=(
            Remedy(
                host=scene.host.name,
                summary="take the program off to prove it; whoever attached it must correct it",
                commands=tuple(
                    scene.command("ip", "link", "set", "dev", device, word, "off") for word in _XDP_WORDS[mode]
                ),
                risk=Risk.DISRUPTIVE,
            ),
        )
        if mode in _XDP_WORDS
        else (),
    )


def _traffic_control(scene: Scene) -> Iterator[Cause]:
    stop, moved = scene.stop, scene.moved
    below = devices_under(scene.host.facts, stop.namespace, stop.device) if stop.device else ()
    # What was seen at a device has passed the hooks below it; what was not has not come to its own.
    entries = below[1:] if stop.wire else below[:1]
    for device, hook in (*((each, "ingress") for each in entries), (stop.toward, "egress")):
        kind = next((each for each in _HOOKS if f"qdisc.{device}.{each}.drops" in moved.after.values), "")
        key = f"qdisc.{device}.{kind}.drops"
        sure = moved.follows(key) if device and kind else None
        mine = [
            each
            for each in scene.filters
            if (each.device, each.parent) == (device, hook) and each.detail != "qdisc" and each.kind != TCX
        ]
        if sure is None or not mine:
            continue
        one = mine[0]
        name = one.detail or one.kind
        yield cause(
            "host.tc-drop",
            host=scene.host.name,
            object={
                "kind": "filter",
                "device": device,
                "direction": hook,
                "name": name,
                "number": one.priority,
                "namespace": stop.namespace,
            },
            confidence=sure if len(mine) == 1 else Confidence.LIKELY,
            explanation=(
                f"On {device} of {scene.where} a tc filter ({name}, preference {one.priority}) stands at {hook}, and what"
                f" its hook drops is counted with every packet that is sent."
            ),
            evidence=(
                *(Evidence("device", f"{device} {hook}: {each.kind} {each.detail}".strip()) for each in mine),
                Evidence("counter", moved.text(key)),
            ),
            affects=("host traffic", "overlay data"),
            remedy=(_without_filter(scene, one, hook),) if len(mine) == 1 else (),
        )


def _tcx(scene: Scene) -> Iterator[Cause]:
    """A program beside the classic filters: nothing counts what it takes, so that its way before and behind it is read.

    What came to the device and is no frame of another station's is received by IP next (net/core/dev.c); what IP sends is
    sent by the device. What a classic filter or the device's own queue drops on that way is counted there.
    """
    stop, moved = scene.stop, scene.moved
    if ":" in stop.source:
        return
    below = devices_under(scene.host.facts, stop.namespace, stop.device) if stop.device else ()
    for device, hook in (
        *((each, "ingress") for each in (below[1:] if stop.wire else below[:1])),
        (stop.toward, "egress"),
    ):
        mine = [each for each in scene.filters if (each.device, each.parent, each.kind) == (device, hook, TCX)]
        if not mine or (hook == "ingress" and _is_bridged(scene, device)):
            continue
        if hook == "ingress":
            seen, passed = f"link.{device}.rx_packets", "Ip.InReceives"
            vanished = moved.moved(seen) - moved.moved(f"link.{device}.rx_otherhost") - moved.moved(passed)
            came, calm = moved.excess(seen), moved.idle(seen) < moved.sent / 4
        else:
            seen, passed = "Ip.OutRequests", f"link.{device}.tx_packets"
            came = moved.excess(seen) + max(0, moved.excess(_FORWARDED))
            vanished, calm = came - max(0, moved.excess(passed)), moved.idle(seen) < moved.sent / 4
        counted = (f"qdisc.{device}.{kind}.drops" for kind in (*_HOOKS, "root"))
        vanished -= sum(max(0, moved.excess(key)) for key in counted if key in moved.after.values)
        if not moved.sent or min(came, vanished) < moved.sent * _MOST:
            continue
        one = mine[0]
        yield cause(
            "host.tc-drop",
            host=scene.host.name,
            object={
                "kind": "filter",
                "device": device,
                "direction": hook,
                "name": one.detail,
                "number": None,
                "namespace": stop.namespace,
            },
            confidence=Confidence.PROVEN if calm and len(mine) == 1 else Confidence.LIKELY,
            explanation=(
                f"On {device} of {scene.where} a BPF program ({one.detail}) stands at {hook} (TCX, which tc does not show),"
                f" and what is sent is counted before it and not behind it."
            ),
            evidence=(
                *(Evidence("device", f"{device} {hook}: tcx {each.detail}") for each in mine),
                Evidence("counter", moved.text(seen)),
                Evidence("counter", moved.text(passed)),
            ),
            affects=("host traffic", "overlay data"),
            remedy=(_without_program(scene, one, hook),) if len(mine) == 1 else (),
        )


def _is_bridged(scene: Scene, device: str) -> bool:
    """Whether a device hands its frames to a bridge, so that IP need not receive them."""
    links = (scene.host.facts.links.value or {}).get(scene.stop.namespace, ())
    bridges = {link.index for link in links if link.kind == "bridge"}
    return any(link.name == device and link.master in bridges for link in links)


def _without_program(scene: Scene, one: TcFilter, hook: str) -> Remedy:
    _, held, link = one.detail.partition(" link ")
    net = ["net", "detach", f"tcx_{hook}", "dev", one.device]
    return Remedy(
        host=scene.host.name,
        summary="take the program off to prove it; whoever attached it must correct it",
        commands=(scene.command("bpftool", *(["link", "detach", "id", link] if held else net)),),
        risk=Risk.DISRUPTIVE,
    )


def _without_filter(scene: Scene, one: TcFilter, hook: str) -> Remedy:
    words = ["tc", "filter", "del", "dev", one.device, hook, "pref", str(one.priority)]
    return Remedy(
        host=scene.host.name,
        summary="take the filter off to prove it; whoever attached it must correct it",
        commands=(scene.command(*words),),
        risk=Risk.DISRUPTIVE,
    )


# --- in the stack ---


def _table_is_full(scene: Scene) -> Iterator[Cause]:
    moved = scene.moved
    sure = moved.follows(_TABLE_FULL)
    count, maximum = (moved.after.values.get(f"conntrack.{name}") for name in ("count", "maximum"))
    if sure is None or count is None or not maximum:
        return
    # A lookup that removes what is dead leaves the count a little below its maximum.
    if count < maximum * 0.99:
        return
    yield cause(
        "conntrack.full",
        host=scene.host.name,
        object={
            "kind": "conntrack",
            "namespace": scene.stop.namespace,
            "count": count,
            "maximum": maximum,
            "drops": moved.after.values[_TABLE_FULL],
        },
        confidence=sure,
        explanation=(
            f"Connection tracking of {scene.where} holds {count} of {maximum} connections and drops the first packet of"
            " every new one."
        ),
        evidence=(Evidence("counter", f"{count} of {maximum}; {moved.text(_TABLE_FULL)}"),),
        remedy=(
            Remedy(
                host=scene.host.name,
                summary="make room for twice as many, and find what opens so many connections",
                commands=(shell_text(["sysctl", "-w", f"net.netfilter.nf_conntrack_max={2 * maximum}"]),),
                undo=(shell_text(["sysctl", "-w", f"net.netfilter.nf_conntrack_max={maximum}"]),),
                persist=(f"echo 'net.netfilter.nf_conntrack_max = {2 * maximum}' > /etc/sysctl.d/99-conntrack.conf",),
            ),
        ),
    )


def _reverse_path(scene: Scene) -> Iterator[Cause]:
    stop, moved, back = scene.stop, scene.moved, scene.back
    sure = moved.follows(_REVERSE_PATH)
    if sure is None or back is None:
        return
    device = _came_by(scene, back)
    own, value = scene.per_device("rp_filter", device)
    everywhere = scene.setting("net.ipv4.conf.all.rp_filter")
    if not device or value is None or everywhere is None or not max(value, everywhere):
        return
    if back.absent is not None:
        yield from _no_way_back(scene, back.absent.text, moved.text(_REVERSE_PATH), sure)
        return
    effective = max(value, everywhere)
    way = f"the route back to {stop.source} leaves by {back.device}"
    key = own if value >= everywhere else "net.ipv4.conf.all.rp_filter"
    # The larger of the two counts, so that the device's own can make it loose. It lets through what has any route.
    loose = (scene.set_to(own, 2, value, "let the filter take any device by which there is a route back"),)
    yield cause(
        "sysctl.rp-filter",
        host=scene.host.name,
        object={
            "kind": "sysctl",
            "key": key,
            "value": str(effective),
            "wanted": "2",
            "device": device,
            "namespace": stop.namespace,
            "reverse_device": back.device or None,
        },
        confidence=sure,
        explanation=(
            f"A packet from {stop.source} came in by {device} of {scene.where}, and {way}. The reverse-path filter is"
            f" {'strict' if effective == 1 else 'loose'} there ({effective}: the larger of all, {everywhere}, and {device},"
            f" {value}) and drops it."
        ),
        evidence=(Evidence("counter", moved.text(_REVERSE_PATH)), Evidence("route", way)),
        remedy=loose if effective == 1 else (),
    )


def _no_way_back(scene: Scene, absent: str, counted: str, sure: Confidence) -> Iterator[Cause]:
    """The filter drops what has no route back; switched off, the answer would be lost instead."""
    if scene.stop.namespace != HOST:
        return
    yield cause(
        "underlay.no-route",
        host=scene.host.name,
        object={"kind": "route", "destination": scene.stop.source, "namespace": HOST},
        confidence=sure,
        explanation=(
            f"{scene.host.name} has no route back to {scene.stop.source}, so that its reverse-path filter drops what comes"
            f" from there: {absent}."
        ),
        evidence=(Evidence("route", absent), Evidence("counter", counted)),
    )


def _came_by(scene: Scene, back: RouteChoice) -> str:
    """By which device it came in, where that is not the one by which it would be answered; empty where none is known.

    A host's NIC on the way is the one by which it answers: what comes in by another one is known by that one's counter.
    """
    entered = entered_by(scene.host.facts, scene.stop)
    if entered != back.device and not scene.stop.wire:
        return entered
    links = (scene.host.facts.links.value or {}).get(scene.stop.namespace, ())
    away = {back.device, *(link.name for link in links if link.master is not None or link.loopback)}
    came = {link.name: scene.moved.excess(f"link.{link.name}.rx_packets") for link in links if link.name not in away}
    moving = [device for device, count in came.items() if count >= scene.moved.sent * _MOST]
    return moving[0] if len(moving) == 1 else ""


def _forwarding(scene: Scene) -> Iterator[Cause]:
    stop, moved = scene.stop, scene.moved
    device = entered_by(scene.host.facts, stop)
    routed = bool(stop.toward) and not stop.wire and bool(stop.device)
    if not routed or ":" in stop.source or device == entered_by(scene.host.facts, _behind(stop)):
        return
    own, value = scene.per_device("forwarding", device)
    if value != 0:
        return
    sure = moved.follows(_NOT_FORWARDED)
    if sure is None and moved.moved(_FORWARDED):
        return
    everywhere = scene.setting("net.ipv4.ip_forward")
    key, wanted = ("net.ipv4.ip_forward", "1") if everywhere == 0 else (own, "1")
    yield cause(
        "sysctl.ip-forward",
        host=scene.host.name,
        object={"kind": "sysctl", "key": key, "value": "0", "wanted": wanted, "namespace": stop.namespace},
        confidence=sure or Confidence.LIKELY,
        explanation=(
            f"The packet came in by {device} of {scene.where} and has to go on by {stop.toward}:"
            f" {key} is 0, so that the host does not forward it."
        ),
        evidence=(
            Evidence("sysctl", f"{own} is 0" + (f", {key} is 0" if key != own else "")),
            Evidence("counter", f"{moved.text(_NOT_FORWARDED)}; {moved.text(_FORWARDED)}"),
        ),
        remedy=(scene.set_to(key, 1, 0, "switch forwarding on"),),
    )


def _route(scene: Scene) -> Iterator[Cause]:
    """A container that has no route for its request, or none for its answer."""
    stop = scene.stop
    if stop.asked and scene.back is not None:
        one = route_cause(scene.host, stop.namespace, stop.source, scene.back, through=stop.device, answers=True)
    elif scene.out is not None:
        one = route_cause(scene.host, stop.namespace, stop.destination, scene.out, through=stop.toward)
    else:
        one = None
    if one is not None:
        yield one


def _behind(stop: Stop) -> Stop:
    return msgspec.structs.replace(stop, device=stop.toward)


_JUDGES: Sequence[Callable[[Scene], Iterator[Cause]]] = (
    _xdp,
    _traffic_control,
    _tcx,
    _table_is_full,
    _reverse_path,
    _forwarding,
    _route,
)


def devices_of(way: Way, side: Side, namespace: str) -> tuple[str, ...]:
    """The devices of one namespace on the way."""
    places = [place for place in way.places if place.side is side and place.namespace == namespace]
    return tuple(dict.fromkeys(place.device for place in places if place.stage is not Stage.TUNNEL or place.device))
