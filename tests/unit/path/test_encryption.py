"""What is wrong with an encrypted network: a part of the kernel, an association, its number, or protocol 50."""

import pytest

from netdiag.model.facts import Feature, FeatureState, Kernel, Section
from netdiag.model.path import Direction, Loss
from netdiag.model.report import Confidence
from netdiag.model.trace import TracePath
from netdiag.path.encryption import Side, association_causes, concerns, missing_parts, read_associations
from netdiag.path.questions import encrypted_questions
from tests.unit.path.facts_of import FAR, NEAR, facts, host
from tests.unit.path.test_kernel_drops import PLACES, WAY

STATES = """src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x{spi:08x}({spi}) reqid 13681891(0x00d0c4e3) mode transport
\treplay-window 0 seq 0x00000000 flag  (0x00000000)
\taead rfc4106(gcm(aes)) <<Keys hidden>> 64
\tsel src 0.0.0.0/0 dst 0.0.0.0/0 uid 0
\tlifetime config:
\t  limit: soft (INF)(bytes), hard (INF)(bytes)
\tlifetime current:
\t  {bytes}(bytes), {packets}(packets)
\t  add 2026-11-25 03:24:56 use 2026-11-25 03:25:01
src 192.0.2.9 dst 192.0.2.2
\tproto ah spi 0x00000007(7) reqid 1(0x00000001) mode transport
\tlifetime current:
\t  9(bytes), 9(packets)
"""


def states(packets=0, spi=0x8E1B9F3D):
    return read_associations(STATES.format(spi=spi, bytes=packets * 90, packets=packets))


def test_associations_are_read_with_what_they_carried():
    (one,) = states(12)
    assert (one.source, one.destination, one.spi, one.packets) == (NEAR, FAR, 0x8E1B9F3D, 12)


def test_a_listing_that_is_cut_short_or_empty():
    assert read_associations("") == ()
    (one,) = read_associations(STATES.format(spi=5, bytes=1, packets=1).partition("lifetime current")[0])
    assert (one.spi, one.packets) == (5, 0)


def side(before, after, name="near"):
    return Side(host=host(facts(), name=name), before=before, after=after)


def judged(sender, receiver, sent=16):
    return list(association_causes(NEAR, FAR, side(*sender), side(*receiver, name="far"), sent=sent))


def test_a_host_without_an_association():
    (one,) = judged(((), ()), (states(), states()))
    assert (one.host, one.object["kind"], one.object["spi"]) == ("near", "sa", None)
    (one,) = judged((states(), states(16)), ((), ()))
    assert one.host == "far"


def test_numbers_that_differ():
    (one,) = judged((states(), states(16)), (states(0, 7), states(0, 7)))
    assert (one.host, one.object["spi"], one.object["expected"]) == ("far", "0x8e1b9f3d", ["0x7"])
    assert one.confidence is Confidence.PROVEN


OLD, NEW = 0x11, 0x22
"""Two of the keys that an engine has for a peer while it changes them: it sends with one and takes what came with any."""


def keys(**carried):
    numbers = {"old": OLD, "new": NEW}
    return tuple(one for name, packets in carried.items() for one in states(packets, numbers[name]))


def test_a_key_that_is_used_and_not_known_though_another_is():
    (one,) = judged((keys(old=3, new=0), keys(old=3, new=16)), (keys(old=3), keys(old=3)))
    assert (one.host, one.object["spi"], one.object["expected"]) == ("far", "0x22", ["0x11"])


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        ((keys(new=0), keys(new=16)), (keys(old=5, new=0), keys(old=5, new=16))),
        ((keys(old=0, new=9), keys(old=16, new=9)), (keys(old=0), keys(old=16))),
        ((keys(old=0), keys(old=16)), (keys(old=0, new=0), keys(old=9, new=0))),
    ],
    ids=["the receiver keeps an old one", "the sender keeps a new one", "some of it is lost"],
)
def test_keys_that_are_being_changed(sender, receiver):
    assert judged(sender, receiver) == []


def test_protocol_50_is_lost():
    (one,) = judged((states(), states(16)), (states(3), states(3)))
    assert (one.host, one.object["kind"], one.object["protocol"]) == (None, "segment", 50)


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        ((states(), states(16)), (states(), states(16))),
        ((states(5), states(5)), (states(), states())),
        ((None, None), (states(), states())),
        ((states(), states(16)), (None, None)),
    ],
    ids=["it arrives", "nothing was encrypted", "unread here", "unread there"],
)
def test_what_says_nothing(sender, receiver):
    assert judged(sender, receiver) == []


def with_kernel(**states_):
    one = facts()
    features = {name: Feature(name=name, state=state, evidence="said so") for name, state in states_.items()}
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    return host(type(one)(**{**fields, "kernel": Section(value=Kernel(features=features))}))


HERE, GONE = FeatureState.BUILTIN, FeatureState.MISSING


def test_the_part_of_the_kernel_that_is_missing():
    (one,) = missing_parts(with_kernel(xfrm_user=HERE, esp4=GONE, gcm=GONE, xt_bpf=HERE))
    assert (one.code, one.object["feature"], one.confidence) == ("overlay.encryption", "esp4", Confidence.PROVEN)
    assert len(one.evidence) == 2


@pytest.mark.parametrize("esp4", [HERE, FeatureState.LOADED, FeatureState.LOADABLE, FeatureState.UNKNOWN])
def test_a_part_that_is_there_or_can_be_loaded_or_is_not_known(esp4):
    assert list(missing_parts(with_kernel(xfrm_user=HERE, esp4=esp4, gcm=HERE, xt_bpf=HERE))) == []
    assert list(missing_parts(host(facts()))) == []


@pytest.mark.parametrize(
    ("last", "following", "concerned"),
    [
        ("near tunnel", "near nic", True),
        ("near nic", "far nic", True),
        ("far nic", "far tunnel", True),
        (None, "start", False),
        ("far tunnel", "end", False),
    ],
)
def test_where_encryption_can_be_the_reason(last, following, concerned):
    loss = Loss(direction=Direction.THERE, last=PLACES.get(last), next=PLACES.get(following))
    assert concerns(loss) is concerned


@pytest.mark.parametrize(
    ("last", "following", "asked"),
    [("near tunnel", "near nic", 2), ("near nic", "far nic", 2), ("far tunnel", "end", 0)],
)
def test_the_filters_that_protocol_50_meets(last, following, asked):
    """Where the VXLAN devices are left or come to, both hosts are asked about what arrives for them."""
    loss = Loss(direction=Direction.THERE, last=PLACES[last], next=PLACES[following])
    found = encrypted_questions(WAY, loss)
    assert len(found) == asked
    assert {(each.wanted.protocol, each.wanted.path) for each in found} <= {("esp", TracePath.IN)}
