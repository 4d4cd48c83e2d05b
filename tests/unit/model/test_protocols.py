import pytest

from netdiag.model.protocols import NUMBERS, name_of, number_of
from netdiag.participant.packets import PROTOCOLS


def test_the_participant_knows_the_same_protocols():
    # It stands alone, so it has a table of its own.
    assert dict(NUMBERS) == PROTOCOLS


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("tcp", 6),
        ("58", 58),
        ("ipv6-icmp", 58),
        ("icmpv6", 58),
        ("ipencap", 4),
        ("sctp", 132),
        ("none", None),
        ("²", None),
    ],
)
def test_number(written, number):
    assert number_of(written) == number


def test_a_number_without_a_name_stays_one():
    assert (name_of(50), name_of(253)) == ("esp", "253")
