import pytest

from netdiag.model.report import Need
from netdiag.swarm.ports import Listener, is_data_path_port, ports_of_swarm
from netdiag.swarm.quorum import QuorumRisk, after_joining, quorum_of


def test_the_ports_of_a_default_swarm() -> None:
    assert [use.label() for use in ports_of_swarm()] == ["tcp/2377", "tcp/7946", "udp/7946", "udp/4789"]
    assert [use.label() for use in ports_of_swarm(data_path_port=0, encrypted=True)][-2:] == [
        "udp/4789",
        "IP protocol 50 (ESP)",
    ]
    assert [use.label() for use in ports_of_swarm(control_port=2400, data_path_port=7789)][::3] == [
        "tcp/2400",
        "udp/7789",
    ]


def test_who_listens_and_which_question_depends_on_it() -> None:
    joining, *others = ports_of_swarm(encrypted=True)
    assert (joining.listener, joining.needs) == (Listener.MANAGERS, (Need.JOIN,))
    assert {use.listener for use in others} == {Listener.EVERY_NODE}
    assert all(Need.JOIN not in use.needs for use in others)


@pytest.mark.parametrize(("port", "good"), [(1023, False), (1024, True), (49151, True), (49152, False)])
def test_range_of_the_data_path_port(port: int, good: bool) -> None:
    assert is_data_path_port(port) is good


@pytest.mark.parametrize(
    ("managers", "reachable", "needed", "spare", "risk"),
    [
        (1, None, 1, 0, QuorumRisk.NO_SPARE),
        (2, None, 2, 0, QuorumRisk.TWO_MANAGERS),
        (2, 1, 2, -1, QuorumRisk.LOST),
        (3, None, 2, 1, QuorumRisk.NONE),
        (3, 2, 2, 0, QuorumRisk.AT_LIMIT),
        (3, 1, 2, -1, QuorumRisk.LOST),
        (4, None, 3, 1, QuorumRisk.EVEN),
        (5, 4, 3, 1, QuorumRisk.NONE),
        (7, None, 4, 3, QuorumRisk.NONE),
    ],
)
def test_the_majority(managers: int, reachable: int | None, needed: int, spare: int, risk: QuorumRisk) -> None:
    quorum = quorum_of(managers=managers, reachable=reachable)
    assert (quorum.needed, quorum.spare, quorum.risk) == (needed, spare, risk)


def test_a_second_manager_makes_a_swarm_weaker() -> None:
    one = quorum_of(managers=1)
    two = after_joining(one)
    assert two.risk is QuorumRisk.TWO_MANAGERS
    assert after_joining(one, answers=False).risk is QuorumRisk.LOST
    assert after_joining(two).risk is QuorumRisk.NONE


@pytest.mark.parametrize(("managers", "reachable"), [(0, None), (3, 4), (3, -1)])
def test_numbers_that_no_swarm_has(managers: int, reachable: int | None) -> None:
    with pytest.raises(ValueError, match="not a state"):
        quorum_of(managers=managers, reachable=reachable)
