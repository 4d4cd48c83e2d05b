"""A half as three lines hold it: nothing that matters is lost, and nothing that comes in is trusted."""

import copy
import hashlib
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdiag.carrier import pasted
from netdiag.model.half import HalfFlow, HalfPlace, Outcome, Told
from netdiag.model.path import Stage
from netdiag.path.half_wire import half_from_value, half_value, shrunk
from tests.unit.path.halves import COMMAND, DUE_S, NIC, far, near, rule, told, tunnelled, turn

CODE = "H9JA-QDA3"


def carried(half):
    """As it comes out at the other end, from the fullest form that fits."""
    value = next(value for one in shrunk(half) if pasted.room_left(value := half_value(one)) >= 0)
    return half_from_value(pasted.decode(pasted.encode(value, CODE), CODE))


def test_a_rule_arrives_with_its_remedy():
    half = far(told=(told(),))
    (there,) = carried(half).told
    assert (there.cause.code, there.cause.host, there.cause.confidence.value) == ("firewall.rule", "far", "proven")
    assert there.cause.object == {key: value for key, value in rule().object.items() if value is not None}
    assert there.cause.remedy[0].commands == (COMMAND,)
    assert there.cause.remedy[0].undo
    assert carried(half).rounds == half.rounds


def test_both_sides_of_a_round_arrive():
    half = near(
        turn(outcome=Outcome.REFUSED, detail="ICMP 3/13 from 192.0.2.2", late_ms=-1200), hidden="an XDP program"
    )
    assert carried(half) == half


def test_a_rule_of_an_overlays_host_arrives_with_all_places_and_its_remedy():
    command = "iptables -I INPUT 1 -s 10.71.0.2 -p udp --dport 4789 -m comment --comment netdiag-6b06a01b -j ACCEPT"
    found = rule(number=1, text="-A INPUT -p udp -m udp --dport 4789 -j REJECT --reject-with icmp-port-unreachable")
    remedy = msgspec.structs.replace(
        found.remedy[0], commands=(command,), undo=(command.replace("-I INPUT 1", "-D INPUT"),)
    )
    found = msgspec.structs.replace(found, remedy=(remedy,))
    half = tunnelled(far(told=(Told(cause=found),), host="worker2"), 2, 0, 0, 0, container="db.1")
    there = carried(half)
    assert (there.end, there.places, there.rounds) == (half.end, half.places, half.rounds)
    assert there.told[0].cause.object["text"] == found.object["text"]
    assert there.told[0].cause.affects == ("overlay data",)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=64), st.text(max_size=300))
def test_something_of_an_overlay_always_fits(container, network, text):
    half = far(told=(Told(cause=rule(text=text)),) * 3, why=text, hidden=text)
    half = tunnelled(half, 2, 1, 1, 0, container=container, network=network)
    there = carried(half)
    assert [each.stage for each in there.places] == [each.stage for each in half.places]
    assert there.rounds[0].counts == half.rounds[0].counts
    assert (there.end.host_address, there.end.towards) == (half.end.host_address, half.end.towards)


def test_what_is_too_much_is_left_out_from_the_least_that_matters():
    texts = [hashlib.sha256(bytes([number])).hexdigest() for number in range(9)]
    many = tuple(Told(cause=rule(number=number, text=text)) for number, text in enumerate(texts))
    there = carried(far(told=many))
    assert there.told[0].cause.object["number"] == 0
    assert len(there.told) + there.more == 9
    assert there.more


@settings(max_examples=40, deadline=None)
@given(
    st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
    st.text(max_size=300),
    st.lists(st.integers(0, 99), min_size=6, max_size=6),
    st.binary(min_size=16, max_size=16),
)
def test_something_always_fits(host, text, numbers, address):
    ends = [f"2001:db8:{part.hex(':', 2)}" for part in (address[:8], address[8:])]
    flow = HalfFlow(source=ends[0], destination=ends[1], protocol="tcp", port=60000 + numbers[0])
    inner = HalfPlace(stage=Stage.END, namespace=f"container:{host}", device="eth0")
    rounds = [turn(*numbers[:3]), turn(*numbers[3:], due_s=DUE_S + 60, late_ms=numbers[0])]
    rounds = [msgspec.structs.replace(each, counts=each.counts * 3) for each in rounds]
    found = (Told(cause=rule(text=text)),) * 3
    half = far(*rounds, host=host, flow=flow, places=(NIC, inner, inner), told=found, listens=text, hidden=text)
    value = next(value for one in shrunk(half) if pasted.room_left(value := half_value(one)) >= 0)
    there = half_from_value(json.loads(json.dumps(value)))
    assert there.rounds
    assert {each.counts for each in there.rounds} <= {each.counts for each in half.rounds}
    assert there.flow == flow


def test_signs_that_steer_a_terminal_do_not_travel_and_such_a_command_neither():
    evil = rule(text="-A INPUT -m comment --comment \x1b[2J")
    evil = msgspec.structs.replace(evil, remedy=(msgspec.structs.replace(evil.remedy[0], commands=("x \x1b[2J",)),))
    (there,) = carried(far(told=(Told(cause=evil),))).told
    assert "\x1b" not in there.cause.object["text"]
    assert there.cause.remedy == ()


def variations(value):
    """Every place of a value replaced by what does not belong there."""
    for bad in (None, -1, 1 << 70, 1.5, "\x1b[2J", "x" * 600, [], [[]] * 40, {"a": 1}, True):
        yield bad
        for index in range(len(value)):
            changed = copy.deepcopy(value)
            changed[index] = bad
            yield changed
            if isinstance(value[index], list):
                for inner in range(len(value[index])):
                    changed = copy.deepcopy(value)
                    changed[index][inner] = bad
                    yield changed


def test_hostile_values_are_refused_or_harmless():
    value = half_value(far(told=(told(),)))
    refused = 0
    for changed in variations(value):
        try:
            half = half_from_value(json.loads(json.dumps(changed)))
        except ValueError:
            refused += 1
        else:
            assert "\x1b" not in repr(half)
            assert all(len(each.counts) == len(half.places) for each in half.rounds)
    assert refused > 100


@pytest.mark.parametrize("code", ["firewall.nothing", "overlay.address-is-vip", 7])
def test_a_cause_that_is_none_is_refused(code):
    value = half_value(far(told=(told(),)))
    value[6][0][0] = code
    with pytest.raises(ValueError, match="no half"):
        half_from_value(value)
