from pathlib import Path

import pytest

from netdiag.swarm.ca_call import parse_response
from netdiag.swarm.certificate import (
    Certificate,
    Unreadable,
    WindowFault,
    is_swarm_manager,
    manager_clock_lower_bound_s,
    parse_certificates,
    window_problem,
)

RECORDED = Path(__file__).parent / "recorded"
LEAF = (RECORDED / "manager-leaf.der").read_bytes()
ROOT = parse_response((RECORDED / "root-ca.http2").read_bytes()).root_pem
SWARM_INIT_S = 1795405321.6  # 2026-11-23T03:42:01.6Z in that engine's log


def only(data: bytes) -> Certificate:
    parsed = parse_certificates(data)
    assert isinstance(parsed, tuple)
    (certificate,) = parsed
    return certificate


def test_a_manager_s_certificate_names_node_cluster_and_role() -> None:
    leaf = only(LEAF)
    assert leaf == Certificate(
        common_name="8iwuy9wniw22kj04veo2rcoxu",
        organization="vcbinxrqgujqbpr19ez62f79a",
        role="swarm-manager",
        dns_names=("swarm-manager", "8iwuy9wniw22kj04veo2rcoxu", "swarm-ca"),
        issuer_common_name="swarm-ca",
        not_before_s=1795401720.0,
        not_after_s=1803181320.0,
        is_ca=False,
    )
    assert is_swarm_manager(leaf)


def test_the_root_is_a_ca_and_no_manager() -> None:
    root = only(ROOT)
    assert (root.common_name, root.is_ca, root.organization) == ("swarm-ca", True, "")
    assert not is_swarm_manager(root)


@pytest.mark.parametrize("data", [LEAF, ROOT], ids=["leaf", "root"])
def test_the_lower_bound_is_just_before_the_certificate_was_made(data: bytes) -> None:
    bound = manager_clock_lower_bound_s(only(data))
    assert SWARM_INIT_S - 60 <= bound <= SWARM_INIT_S


def test_a_bundle_has_all_its_roots() -> None:
    both = parse_certificates(ROOT + ROOT)
    assert isinstance(both, tuple)
    assert len(both) == 2


@pytest.mark.parametrize(
    "data", [b"", b"hello", LEAF[:-1], b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_other_bytes_are_unreadable(data: bytes) -> None:
    problem = parse_certificates(data)
    assert isinstance(problem, Unreadable)
    assert "\n" not in problem.reason


@pytest.mark.parametrize(
    ("offset_s", "fault", "by_s"),
    [
        pytest.param(-7200.0, WindowFault.NOT_YET_VALID, 7200.0, id="two hours before"),
        pytest.param(0.0, None, 0.0, id="first moment"),
        pytest.param(7779600.0, None, 0.0, id="last moment"),
        pytest.param(7779610.0, WindowFault.EXPIRED, 10.0, id="ten seconds after"),
    ],
)
def test_the_window_against_a_clock(offset_s: float, fault: WindowFault | None, by_s: float) -> None:
    leaf = only(LEAF)
    problem = window_problem(leaf, leaf.not_before_s + offset_s)
    assert (problem.fault if problem else None) is fault
    if problem is not None:
        assert problem.by_s == by_s
        assert ("2.0 h" if fault is WindowFault.NOT_YET_VALID else "10 s") in problem.text()
