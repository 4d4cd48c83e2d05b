"""What a kernel's counters and settings prove of a lost packet, and what they do not."""

import pytest

from netdiag.facts.counters import Counters
from netdiag.model.facts import Absence, AbsenceKind, Link, Section, TcFilter
from netdiag.model.path import Direction, End, Loss, PathKind, Place, Side, Stage, Way
from netdiag.model.probes import RouteChoice
from netdiag.model.report import Confidence
from netdiag.path.kernel_drops import Scene, drop_causes
from netdiag.path.stops import Moved, Stop, devices_under, entered_by, stop_of
from tests.unit.path.facts_of import FAR, NEAR, facts, host

SENT = 16
SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.eth0.rp_filter": "1",
    "net.ipv4.conf.eth0.forwarding": "1",
    "net.ipv4.conf.docker0.forwarding": "0",
}


def place(side, stage, device, namespace="host", vxlan_port=None):
    return Place(
        side=side, stage=stage, namespace=namespace, device=device, a="10.0.1.2", b="10.0.1.3", port=80,
        vxlan_port=vxlan_port, where=device,
    )  # fmt: skip


PLACES = {
    "start": place(Side.SOURCE, Stage.END, "eth0", "container:a"),
    "near tunnel": place(Side.SOURCE, Stage.TUNNEL, "vxlan0", "overlay:app"),
    "near nic": place(Side.SOURCE, Stage.NIC, "eth0", vxlan_port=4789),
    "far nic": place(Side.DESTINATION, Stage.NIC, "eth0", vxlan_port=4789),
    "far tunnel": place(Side.DESTINATION, Stage.TUNNEL, "vxlan0", "overlay:app"),
    "end": place(Side.DESTINATION, Stage.END, "eth0", "container:b"),
}
WAY = Way(
    kind=PathKind.OVERLAY,
    source=End(host="near", container="a", namespace="container:a", address="10.0.1.2", device="eth0", host_address=NEAR),
    destination=End(host="far", container="b", namespace="container:b", address="10.0.1.3", device="eth0", host_address=FAR),
    protocol="tcp",
    port=80,
    places=tuple(PLACES.values()),
)  # fmt: skip


def lost(direction, last, following):
    return Loss(direction=direction, last=PLACES.get(last), next=PLACES.get(following))


STOPS = {
    "never sent": (lost(Direction.THERE, None, "start"), "container:a", "", False, "10.0.1.2", "10.0.1.3"),
    "not packed": (lost(Direction.THERE, "near tunnel", "near nic"), "host", "", False, NEAR, FAR),
    "on the wire": (lost(Direction.THERE, "near nic", "far nic"), "host", "eth0", True, NEAR, FAR),
    "not unpacked": (lost(Direction.THERE, "far nic", "far tunnel"), "host", "eth0", False, NEAR, FAR),
    "arrived": (lost(Direction.BACK, None, "end"), "container:b", "eth0", False, "10.0.1.2", "10.0.1.3"),
    "answer on the wire": (lost(Direction.BACK, "far nic", "near nic"), "host", "eth0", True, FAR, NEAR),
    "answer not packed": (lost(Direction.BACK, "far tunnel", "far nic"), "host", "", False, FAR, NEAR),
    "answer at its end": (lost(Direction.BACK, "start", None), "container:a", "eth0", False, "10.0.1.3", "10.0.1.2"),
}


@pytest.mark.parametrize("row", STOPS.values(), ids=STOPS)
def test_which_stack_had_it_last(row):
    loss, namespace, device, wire, source, destination = row
    stop = stop_of(WAY, loss)
    assert (stop.namespace, stop.device, stop.wire) == (namespace, device, wire)
    assert (stop.source, stop.destination) == (source, destination)


def test_a_request_that_came_to_its_end_is_nowhere():
    assert stop_of(WAY, Loss(direction=Direction.THERE, last=PLACES["end"], next=None)) is None


def test_a_bridge_decides_for_its_ports():
    stop = Stop(side=Side.SOURCE, namespace="host", device="veth0", source="a", destination="b")
    assert entered_by(facts(container_of_bridge()), stop) == "docker0"


def container_of_bridge():
    from tests.unit.path.facts_of import container, on

    return container("web", on("bridge", "172.17.0.2"))


def moved(idle=None, during=None, *, settings=SETTINGS, xdp=None, sent=SENT, start=None):
    """Counters that moved by so much in the pause, and by so much while it was sent."""
    idle, during, start = idle or {}, during or {}, start or {}
    keys = {*idle, *during, *start}
    before = {key: start.get(key, 1000) for key in keys}
    paused = {key: before[key] + idle.get(key, 0) for key in keys}
    after = {key: paused[key] + during.get(key, 0) for key in keys}
    return Moved(
        sent=sent,
        before=Counters(values=before),
        paused=Counters(values=paused),
        after=Counters(values=after, settings=settings, xdp=xdp or {}),
    )


def scene(counters, *, stop=None, back=None, filters=()):
    one = facts(container_of_bridge(), own=FAR, name="far")
    stop = stop or Stop(
        side=Side.DESTINATION, namespace="host", device="eth0", toward="veth0", source=NEAR, destination=FAR
    )
    return Scene(way=WAY, stop=stop, host=host(one, name="far"), moved=counters, back=back, filters=filters)


def codes(one):
    return [(each.code, each.confidence) for each in drop_causes(one)]


REVERSE = "TcpExt.IPReversePathFilter"
AWAY, SAME = RouteChoice(source=FAR, device="docker0"), RouteChoice(source=FAR, device="eth0")
PROVEN, LIKELY = Confidence.PROVEN, Confidence.LIKELY


class TestTheReversePathFilter:
    def test_its_counter_moves_with_the_flow_and_only_with_it(self):
        (one,) = drop_causes(scene(moved(during={REVERSE: SENT}), back=AWAY))
        assert (one.code, one.confidence, one.object["key"]) == (
            "sysctl.rp-filter", PROVEN, "net.ipv4.conf.eth0.rp_filter",
        )  # fmt: skip
        assert one.remedy[0].commands == ("sysctl -w net.ipv4.conf.eth0.rp_filter=2",)
        assert one.remedy[0].undo == ("sysctl -w net.ipv4.conf.eth0.rp_filter=1",)

    def test_on_a_busy_host_it_is_likely(self):
        counters = moved(idle={REVERSE: 3}, during={REVERSE: SENT + 4})
        assert codes(scene(counters, back=AWAY)) == [("sysctl.rp-filter", LIKELY)]

    @pytest.mark.parametrize(
        "counters",
        [
            moved(start={REVERSE: 900}),
            moved(idle={REVERSE: SENT}, during={REVERSE: SENT}),
            moved(during={REVERSE: SENT - 1}),
            moved(during={REVERSE: SENT}, sent=0),
        ],
        ids=["old drops", "as fast without", "less than was sent", "nothing sent"],
    )
    def test_a_counter_that_does_not_move_with_it_says_nothing(self, counters):
        assert codes(scene(counters, back=AWAY)) == []

    def test_a_right_reverse_route_clears_it(self):
        assert codes(scene(moved(during={REVERSE: SENT}), back=SAME)) == []

    def test_a_filter_that_is_off_everywhere_clears_it(self):
        off = {**SETTINGS, "net.ipv4.conf.eth0.rp_filter": "0"}
        assert codes(scene(moved(during={REVERSE: SENT}, settings=off), back=AWAY)) == []

    def test_the_larger_of_the_two_values_is_named(self):
        everywhere = {**SETTINGS, "net.ipv4.conf.eth0.rp_filter": "0", "net.ipv4.conf.all.rp_filter": "1"}
        (one,) = drop_causes(scene(moved(during={REVERSE: SENT}, settings=everywhere), back=AWAY))
        assert (one.object["key"], one.object["value"]) == ("net.ipv4.conf.all.rp_filter", "1")
        assert one.remedy[0].undo == ("sysctl -w net.ipv4.conf.eth0.rp_filter=0",)

    @pytest.mark.parametrize("value", ["1", "2"])
    def test_what_has_no_route_back_is_not_the_filter_s_fault(self, value):
        settings = {**SETTINGS, "net.ipv4.conf.eth0.rp_filter": value}
        none = RouteChoice(absent=Absence(kind=AbsenceKind.MISSING, text="none"))
        (one,) = drop_causes(scene(moved(during={REVERSE: SENT}, settings=settings), back=none))
        assert (one.code, one.object["destination"]) == ("underlay.no-route", NEAR)

    def test_by_which_device_it_came_is_read_off_the_devices(self):
        """The NIC of the way is the one by which the host answers; what comes in by another is seen nowhere."""
        stop = Stop(side=Side.DESTINATION, namespace="host", device="docker0", wire=True, source=NEAR, destination=FAR)
        counters = moved(during={REVERSE: SENT, "link.eth0.rx_packets": SENT + 5, "link.veth0.rx_packets": SENT})
        (one,) = drop_causes(scene(counters, stop=stop, back=AWAY))
        assert one.object["device"] == "eth0"


NOT_FORWARDED = {"Ip.InAddrErrors": SENT, "Ip.ForwDatagrams": 0}


FORWARDING_OFF = {**SETTINGS, "net.ipv4.ip_forward": "0", "net.ipv4.conf.eth0.forwarding": "0"}


class TestForwarding:
    def test_off_for_all(self):
        (one,) = drop_causes(scene(moved(during=NOT_FORWARDED, settings=FORWARDING_OFF)))
        assert (one.code, one.confidence, one.object["key"]) == ("sysctl.ip-forward", PROVEN, "net.ipv4.ip_forward")

    def test_off_for_the_device(self):
        settings = {**SETTINGS, "net.ipv4.conf.eth0.forwarding": "0"}
        (one,) = drop_causes(scene(moved(during=NOT_FORWARDED, settings=settings)))
        assert one.object["key"] == "net.ipv4.conf.eth0.forwarding"

    def test_off_on_a_device_that_it_does_not_pass(self):
        assert codes(scene(moved(during=NOT_FORWARDED))) == []

    def test_what_is_forwarded_meanwhile_clears_it(self):
        counters = moved(during={"Ip.InAddrErrors": 0, "Ip.ForwDatagrams": SENT}, settings=FORWARDING_OFF)
        assert codes(scene(counters)) == []

    def test_what_is_for_the_host_itself_needs_none(self):
        stop = Stop(side=Side.DESTINATION, namespace="host", device="eth0", source=NEAR, destination=FAR)
        assert codes(scene(moved(during=NOT_FORWARDED, settings=FORWARDING_OFF), stop=stop)) == []

    def test_what_a_bridge_hands_on_is_not_forwarded(self):
        stop = Stop(
            side=Side.DESTINATION, namespace="host", device="veth0", toward="docker0", source=NEAR, destination=FAR
        )
        assert codes(scene(moved(during=NOT_FORWARDED), stop=stop)) == []


class TestAFullTable:
    def full(self, count, drops=SENT, maximum=1000):
        start = {"conntrack.count": count, "conntrack.maximum": maximum}
        return scene(moved(during={"conntrack.drop": drops}, start=start))

    def test_full_and_dropping(self):
        (one,) = drop_causes(self.full(1000))
        assert (one.code, one.confidence) == ("conntrack.full", PROVEN)
        assert (one.object["count"], one.object["maximum"]) == (1000, 1000)

    @pytest.mark.parametrize(("count", "drops"), [(980, SENT), (1000, 0), (10, SENT)])
    def test_nearly_full_or_not_dropping(self, count, drops):
        assert codes(self.full(count, drops)) == []


WIRE = Stop(side=Side.DESTINATION, namespace="host", device="eth0", wire=True, source=NEAR, destination=FAR)
CAME, TAKEN = "link.eth0.rx_packets", "Ip.InReceives"


class TestXdp:
    def seen(self, came, taken, *, idle=4, xdp=None, stop=WIRE):
        xdp = {"eth0": ("driver", 7)} if xdp is None else xdp
        return scene(moved(idle={CAME: idle}, during={CAME: came, TAKEN: taken}, xdp=xdp, sent=64), stop=stop)

    def test_what_came_to_the_device_and_was_seen_by_nobody(self):
        (one,) = drop_causes(self.seen(70, 6))
        assert (one.code, one.confidence) == ("host.xdp-drop", PROVEN)
        assert one.object == {"kind": "program", "device": "eth0", "id": 7}
        assert one.remedy[0].commands == ("ip link set dev eth0 xdpdrv off",)

    def test_a_device_that_is_busy_anyway_makes_it_likely(self):
        assert codes(self.seen(120, 20, idle=30)) == [("host.xdp-drop", LIKELY)]

    @pytest.mark.parametrize(
        "one",
        [
            {"came": 6, "taken": 6},
            {"came": 70, "taken": 70},
            {"came": 70, "taken": 6, "idle": 70},
            {"came": 70, "taken": 6, "xdp": {"eth1": ("driver", 7)}},
        ],
        ids=["never arrived", "the stack took it", "comes anyway", "on another device"],
    )
    def test_what_only_looks_alike(self, one):
        assert codes(self.seen(**one)) == []

    def test_what_was_seen_there_the_program_has_passed(self):
        stop = Stop(side=Side.DESTINATION, namespace="host", device="eth0", source=NEAR, destination=FAR)
        assert codes(self.seen(70, 6, stop=stop)) == []

    def test_a_mode_that_no_single_command_ends_has_no_remedy(self):
        (one,) = drop_causes(self.seen(70, 6, xdp={"eth0": ("multi", None)}))
        assert one.remedy == ()


DROPPED = "qdisc.eth0.clsact.drops"
MINE = TcFilter(device="eth0", parent="ingress", kind="bpf", priority=10, detail="guard id 5")
HOOK = TcFilter(device="eth0", parent="ingress", kind="clsact", detail="qdisc")
BEHIND = TcFilter(device="eth0", parent="egress", kind="bpf", priority=11, detail="shape id 6")


class TestTrafficControl:
    def test_the_one_filter_of_the_hook(self):
        (one,) = drop_causes(scene(moved(during={DROPPED: SENT}), filters=(HOOK, MINE, BEHIND)))
        assert (one.code, one.confidence) == ("host.tc-drop", PROVEN)
        assert (one.object["name"], one.object["direction"]) == ("guard id 5", "ingress")
        assert one.remedy[0].commands == ("tc filter del dev eth0 ingress pref 10",)

    def test_one_of_several_is_likely_and_none_is_taken_off(self):
        other = TcFilter(device="eth0", parent="ingress", kind="u32", priority=12)
        (one,) = drop_causes(scene(moved(during={DROPPED: SENT}), filters=(HOOK, MINE, other)))
        assert (one.confidence, one.remedy) == (LIKELY, ())

    def test_a_hook_that_drops_nothing_now(self):
        assert codes(scene(moved(start={DROPPED: 500}), filters=(HOOK, MINE))) == []

    def test_a_hook_without_filters(self):
        assert codes(scene(moved(during={DROPPED: SENT}), filters=(HOOK, BEHIND))) == []

    def test_on_the_way_out_it_is_the_hook_behind(self):
        stop = Stop(side=Side.SOURCE, namespace="host", toward="eth0", source=NEAR, destination=FAR)
        (one,) = drop_causes(scene(moved(during={DROPPED: SENT}), stop=stop, filters=(HOOK, MINE, BEHIND)))
        assert (one.object["name"], one.object["direction"]) == ("shape id 6", "egress")


OURS = TcFilter(device="eth0", parent="ingress", kind="tcx", detail="guard id 5")
OUTWARD = TcFilter(device="eth0", parent="egress", kind="tcx", detail="shape id 6 link 9")
OUT = Stop(side=Side.SOURCE, namespace="host", toward="eth0", source=NEAR, destination=FAR)
ASKED, LEFT, OTHERS = "Ip.OutRequests", "link.eth0.tx_packets", "link.eth0.rx_otherhost"


class TestTcx:
    def test_what_comes_to_the_device_and_not_to_the_stack(self):
        (one,) = drop_causes(scene(moved(during={CAME: SENT + 2, TAKEN: 2}), filters=(OURS, OUTWARD)))
        assert (one.code, one.confidence, one.object["direction"]) == ("host.tc-drop", PROVEN, "ingress")
        assert one.remedy[0].commands == ("bpftool net detach tcx_ingress dev eth0",)

    def test_what_the_stack_sends_and_the_device_does_not(self):
        counters = moved(during={ASKED: SENT + 3, LEFT: 3})
        (one,) = drop_causes(scene(counters, stop=OUT, filters=(OURS, OUTWARD)))
        assert (one.confidence, one.object["direction"]) == (PROVEN, "egress")
        assert one.remedy[0].commands == ("bpftool link detach id 9",)

    def test_one_of_several_is_likely_and_none_is_taken_off(self):
        filters = (OURS, TcFilter(device="eth0", parent="ingress", kind="tcx", detail="id 7"))
        (one,) = drop_causes(scene(moved(during={CAME: SENT, TAKEN: 0}), filters=filters))
        assert (one.confidence, one.remedy) == (LIKELY, ())

    @pytest.mark.parametrize(
        ("during", "more"),
        [
            ({CAME: SENT, TAKEN: SENT}, {}),
            ({CAME: 2, TAKEN: 2}, {}),
            ({CAME: SENT, TAKEN: 0, OTHERS: SENT}, {}),
            ({CAME: SENT, TAKEN: 0, DROPPED: SENT}, {}),
            ({CAME: SENT, TAKEN: 0}, {"filters": (OUTWARD,)}),
            ({ASKED: SENT, LEFT: SENT}, {"stop": OUT}),
            ({ASKED: SENT, LEFT: 0, "qdisc.eth0.root.drops": SENT}, {"stop": OUT}),
        ],
        ids=[
            *("the stack takes it", "it does not come", "frames for another station", "a classic filter counts it"),
            *("a program the other way", "the device sends it", "its queue drops it"),
        ],
    )
    def test_what_only_looks_alike(self, during, more):
        assert codes(scene(moved(during=during), **{"filters": (OURS, OUTWARD), **more})) == []


def test_what_is_proven_leaves_out_what_is_likely():
    counters = moved(idle={DROPPED: 1}, during={REVERSE: SENT, DROPPED: SENT + 1})
    assert codes(scene(counters, back=AWAY, filters=(HOOK, MINE))) == [("sysctl.rp-filter", PROVEN)]


def test_a_link_that_is_no_port_is_its_own_entry():
    one = facts()
    assert Link(index=2, name="eth0") in one.links.value["host"]
    assert entered_by(one, WIRE) == "eth0"


def bonded(kind, **lower):
    """A host whose card is below another device."""
    one = facts()
    links = (
        Link(index=2, name="up0", kind=kind, **lower),
        Link(index=5, name="eth0", master=2 if kind == "bond" else None),
    )
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    return type(one)(**{**fields, "links": Section(value={"host": links})})


@pytest.mark.parametrize("one", [bonded("bond"), bonded("vlan", peer_index=5)], ids=["bond", "vlan"])
def test_a_program_on_the_card_below_the_device(one):
    assert devices_under(one, "host", "up0") == ("up0", "eth0")
    stop = Stop(side=Side.DESTINATION, namespace="host", device="up0", wire=True, source=NEAR, destination=FAR)
    counters = moved(idle={CAME: 4}, during={CAME: 70, TAKEN: 6}, xdp={"eth0": ("driver", 7)}, sent=64)
    (found,) = drop_causes(Scene(way=WAY, stop=stop, host=host(one, name="far"), moved=counters))
    assert (found.code, found.object["device"]) == ("host.xdp-drop", "eth0")
    counters = moved(during={DROPPED: SENT})
    (found,) = drop_causes(Scene(way=WAY, stop=stop, host=host(one), moved=counters, filters=(HOOK, MINE)))
    assert (found.code, found.object["device"]) == ("host.tc-drop", "eth0")


def test_a_veth_s_other_half_is_not_below_it():
    one = bonded("veth", peer_index=5)
    assert devices_under(one, "host", "up0") == ("up0",)
    assert devices_under(one, "host", "gone") == ("gone",)
