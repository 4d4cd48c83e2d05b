import pytest

from netdiag.model.probes import SizeOutcome, SizeProbe
from netdiag.model.report import Answer, Confidence, Need, State
from tests.unit.checks.factory import blocked, context, hello, only, probe, sizes

BOTH = {Need.JOIN: Answer.NO, Need.TRAFFIC: Answer.NO}
TRAFFIC, OPEN = {Need.TRAFFIC: Answer.NO}, {Need.TRAFFIC: Answer.UNKNOWN}
HOLE = "underlay.mtu-blackhole"
PROVEN, LIKELY = Confidence.PROVEN, Confidence.LIKELY


def hole(largest=1500, mtu=9000, **fields):
    return sizes(largest, device_mtu=mtu, lost=largest + 1, **fields)


def size(bytes_, outcome, mtu=None):
    return SizeProbe(size_bytes=bytes_, outcome=outcome, mtu_bytes=mtu)


LOCAL = (size(1501, SizeOutcome.LOCAL),)
HONEST = (size(9000, SizeOutcome.TOO_BIG, 1500), size(1501, SizeOutcome.SILENT))
SECOND_HOLE = (size(9000, SizeOutcome.TOO_BIG, 4000), size(1501, SizeOutcome.SILENT))


@pytest.mark.parametrize(
    ("one", "state", "answers", "code", "confidence"),
    [
        pytest.param(probe(), State.OK, {}, None, None, id="all passes"),
        pytest.param(probe(sizes=hole(), hello=hello(padded=False)), State.FAIL, BOTH, HOLE, PROVEN, id="pings and TLS are lost"),
        pytest.param(probe(sizes=hole(), hello=None), State.FAIL, BOTH, HOLE, LIKELY, id="pings only are lost"),
        pytest.param(blocked(sizes=hole()), State.FAIL, BOTH, HOLE, LIKELY, id="pings are lost, no connection"),
        pytest.param(probe(sizes=hole(), hello=hello(segment=1448)), State.WARN, {}, "underlay.mtu", LIKELY, id="TCP agreed on less"),
        pytest.param(
            probe(sizes=hole(1400, 1500), hello=hello(segment=1348)), State.WARN, TRAFFIC, "underlay.mtu", LIKELY,
            id="TCP agreed on less, too little for an overlay",
        ),
        pytest.param(probe(sizes=hole(1000, 1500), hello=hello()), State.OK, {}, None, None, id="large pings filtered, segments pass"),
        pytest.param(probe(sizes=hole(probes=LOCAL), hello=hello()), State.OK, {}, None, None, id="this host knows of it"),
        pytest.param(probe(sizes=hole(icmp=True, probes=HONEST), hello=hello()), State.OK, {}, None, None, id="a router says so"),
        pytest.param(
            probe(sizes=hole(icmp=True, probes=SECOND_HOLE), hello=hello(padded=False)), State.FAIL, BOTH, HOLE, PROVEN,
            id="a router names a larger size than passes",
        ),
        pytest.param(probe(sizes=sizes(1400, device_mtu=1400), hello=hello(segment=1348)), State.WARN, TRAFFIC, "overlay.mtu", LIKELY, id="small device"),
        pytest.param(probe(sizes=sizes(1400, lost=1401, icmp=True), hello=hello(segment=1348)), State.WARN, TRAFFIC, "overlay.mtu", LIKELY, id="small path"),
        pytest.param(probe(sizes=sizes(control=False)), State.OK, {}, None, None, id="no echo, full segments pass"),
        pytest.param(probe(sizes=sizes(control=False), hello=hello(padded=False)), State.FAIL, BOTH, HOLE, PROVEN, id="no echo, segments are lost"),
        pytest.param(probe(sizes=sizes(control=False), hello=hello(segment=1200)), State.UNKNOWN, OPEN, None, None, id="no echo, small segments"),
        pytest.param(probe(address="2001:db8::1", sizes=None, hello=hello(segment=1428)), State.OK, {}, None, None, id="IPv6, full segments"),
        pytest.param(probe(sizes=sizes(control=False), hello=None), State.UNKNOWN, OPEN, None, None, id="it answers nothing"),
        pytest.param(probe(sizes=sizes(control=False), hello=hello(small=False, padded=False)), State.UNKNOWN, OPEN, None, None, id="nor TLS"),
        pytest.param(probe(sizes=None, hello=None), State.SKIP, {}, None, None, id="not tried"),
    ],
)  # fmt: skip
def test_path(one, state, answers, code, confidence):
    said = only("underlay.mtu", context(one))
    assert (said.state, said.answers) == (state, answers)
    assert (said.cause.code, said.cause.confidence) == (code, confidence) if code else said.cause is None


def test_what_a_black_hole_names_and_its_remedy():
    cause = only("underlay.mtu", context(probe(sizes=hole(), hello=hello(padded=False)))).cause
    assert (cause.object["name"], cause.object["mtu_bytes"], cause.object["largest_bytes"]) == ("eth0", 9000, 1500)
    (remedy,) = cause.remedy
    assert (remedy.commands, remedy.undo) == (("ip link set dev eth0 mtu 1500",), ("ip link set dev eth0 mtu 9000",))


def test_no_device_is_set_below_what_ipv6_needs_or_to_what_is_not_known():
    assert only("underlay.mtu", context(probe(sizes=hole(1200, 1500), hello=hello(padded=False)))).cause.remedy == ()
    assert only("underlay.mtu", context(probe(sizes=None, hello=hello(padded=False)))).cause.remedy == ()


def test_an_overlays_option_is_the_outer_size():
    cause = only("underlay.mtu", context(probe(sizes=sizes(1400, device_mtu=1400), hello=hello(segment=1348)))).cause
    assert "driver.mtu=1400" in cause.remedy[0].commands[0]
    assert "1350 bytes inside" in cause.remedy[0].summary
