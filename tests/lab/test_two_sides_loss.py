"""A path that loses packets by chance, for a moment or all the time, is no filter: the same signs, and another thing."""

import pytest

from tests.lab.two_sides import examined, target

IN, OUT = "two-sides.inbound", "two-sides.outbound"
SURE = {"proven", "likely"}


@pytest.fixture
def look(pair_lab, sides):
    def run():
        peer = target(pair_lab.host("two"), sides[1], control_port=2377)
        said, views, _ = examined(sides[0], [peer], manager=True, encrypted=True)
        assert views[0].why_not == ""
        return said

    return run


@pytest.fixture
def lose(pair_lab):
    """Have the network between the hosts lose what a rule matches."""

    def fault(rules):
        pair_lab.break_("nft", host="fabric", family="bridge", hook="forward", rules=rules)

    return fault


@pytest.mark.parametrize(
    ("first", "port"),
    [
        # As many as were sent once, then nothing is lost any more.
        ("udp dport 7946 quota until 100 bytes drop", "udp/7946"),
        ("udp dport 4789 @th,64,8 8 udp length lt 1000 quota until 200 bytes drop", "udp/4789"),
        ("tcp dport 2377 quota until 150 bytes drop", "tcp/2377"),
        ("meta l4proto 50 quota until 130 bytes drop", "IP protocol 50"),
    ],
    ids=["udp", "vxlan", "tcp", "protocol-50"],
)
def test_what_comes_when_it_is_sent_again_is_not_filtered(pair_lab, look, lose, first, port):
    two = pair_lab.host("two").address
    lose(f"ip daddr {two} {first}")
    said = look()
    assert said.document["causes"] == []
    lost = [one for one in said.findings(OUT) if one["state"] != "ok"]
    assert [(one["state"], port in one["summary"]) for one in lost] == [("warn", True)]
    assert "some packets came" in lost[0]["summary"]


def test_a_large_packet_that_comes_when_it_is_sent_again_is_no_limit_of_size(pair_lab, look, lose):
    lose(f"ip daddr {pair_lab.host('two').address} udp length gt 1400 quota until 3100 bytes drop")
    said = look()
    assert said.document["causes"] == []
    assert said.states("two-sides.sizes") == {"ok"}


# At a half, one of all the probes is lost at every of its tries once in a dozen runs: then it looks like a filter.
@pytest.mark.parametrize("percent", [10, 20, 30])
def test_random_loss_is_told_and_blamed_on_no_filter(look, lose, percent):
    lose(f"meta protocol ip numgen random mod 100 < {percent} drop")
    for _ in range(3):
        said = look()
        assert [one for one in said.document["causes"] if one["confidence"] in SURE] == []
        assert not any(one["object"].get("side") for one in said.document["causes"])
        failed = [
            one for check in (IN, OUT, "two-sides.sizes") for one in said.findings(check) if one["state"] == "fail"
        ]
        assert failed == []


def test_a_filter_on_a_path_that_loses_packets_is_possible_and_says_why(pair_lab, look, lose):
    two = pair_lab.host("two").address
    lose(f"ip daddr {two} tcp dport 7946 drop; ip daddr {two} udp dport 7946 numgen inc mod 2 == 0 drop")
    cause = look().cause("underlay.filtered")
    assert (cause["object"]["port"], cause["confidence"]) == (7946, "possible")
    assert "the path loses packets" in cause["explanation"]
