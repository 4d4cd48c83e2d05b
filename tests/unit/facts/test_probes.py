"""What probes' raw answers mean, and which sizes are asked next. No network: a path is a function of a size."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdiag.facts import probes
from netdiag.facts.rounds import together
from netdiag.facts.sizes import CONTROL_BYTES, first_sizes, next_sizes
from netdiag.host import drive
from netdiag.model.facts import AbsenceKind
from netdiag.model.probes import CaOutcome, CaProbe, PathSizes, SizeOutcome, TcpOutcome, TlsOutcome
from netdiag.model.wire import Answer, Gather, Request, WireError

PEER, ME, ROUTER = "10.0.2.5", "10.0.1.7", "10.0.1.1"


def _message(kind: int, body: bytes, *attributes: tuple[int, bytes]) -> bytes:
    for number, value in attributes:
        body += struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def _tcp(**changes: Any) -> dict[str, Any]:
    base = {"connected": False, "timed_out": False, "errno": 0, "error": "", "source": ME, "source_port": 4}
    return {**base, "elapsed_us": 1500, "syns": 1, "icmp": [], **changes}


def _icmp(kind: int = 3, code: int = 10, offender: str = PEER, origin: str = "icmp", info: int = 0) -> dict[str, Any]:
    return {"errno": 113, "error": "", "origin": origin, "type": kind, "code": code, "info": info, "offender": offender}


class Host:
    """A carrier that answers as a host would; ``mtu`` is the path's, ``tcp`` the answer to a connection."""

    def __init__(self, tcp: dict[str, Any], *, passes: Callable[[int], bool] = lambda size: True) -> None:
        self.tcp = tcp
        self.passes = passes
        self.says = 0
        self.device_mtu = 1500
        self.neighbour_state = 2
        self.tls: dict[str, Any] = {}
        self.answers_echo = True
        self.rounds: list[list[str]] = []

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        self.rounds.append([request.verb for request in requests])
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Answer:
        data = getattr(self, "_" + request.verb.replace("-", "_"))(request.params)
        return data if isinstance(data, Answer) else Answer(data=data)

    def _resolve(self, params: dict[str, Any]) -> Answer | dict[str, Any]:
        if params["name"] == "nonesuch":
            return Answer(error=WireError(AbsenceKind.MISSING, "resolve nonesuch: Name or service not known"))
        return {"addresses": [PEER]}

    def _netlink_get(self, params: dict[str, Any]) -> dict[str, Any]:
        body = b"\0" * 16
        messages = {
            26: _message(
                24, b"\0" * 12, (4, struct.pack("=I", 3)), (5, bytes([10, 0, 1, 1])), (7, bytes([10, 0, 1, 7]))
            ),
            18: _message(16, body, (3, b"eth0\0"), (4, struct.pack("=I", self.device_mtu))),
            30: _message(28, struct.pack("=BxHiHBB", 2, 0, 3, self.neighbour_state, 0, 0)),
        }
        return {"messages": messages[params["type"]], "errno": 0, "text": ""}

    def _tcp_connect(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.tcp

    def _echo_sizes(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"sizes": [self._size(size) for size in params["sizes"]], "sent": 1, "socket": "raw"}

    def _size(self, size: int) -> dict[str, Any]:
        row = {"size": size, "attempts": 1, "rtt_us": None, "errno": 0, "icmp": None, "outcome": "silent"}
        if self.answers_echo and self.passes(size):
            row.update(outcome="answered", rtt_us=300)
        elif self.says and self.answers_echo:
            row.update(outcome="icmp", icmp=_icmp(3, 4, ROUTER, info=self.says))
        return row

    def _tls_exchange(self, params: dict[str, Any]) -> dict[str, Any]:
        base = {"tcp": _tcp(connected=True), "stage": "done", "reason": "", "error": "", "version": "TLSv1.3"}
        base |= {"alpn": "h2", "leaf_der": b"der", "handshake_us": 900, "first_bytes": b"\x16", "alert": None}
        return {**base, "read": b"pem", "ended": "end-stream", **self.tls}

    def _tls_hello(self, params: dict[str, Any]) -> dict[str, Any]:
        size = max(517, params["pad_bytes"])
        return {"answered": self.passes(min(size, self.device_mtu)), "hello_bytes": size, "maxseg_bytes": 1448}


def _manager(host: Host, given_: str = PEER, address: str = PEER) -> Any:
    def parse(read: bytes) -> CaProbe:
        return CaProbe(outcome=CaOutcome.ANSWERED, root_pem=read)

    return drive(probes.gather_manager(given_, address, ca_request=b"PRI", parse_ca=parse), host)


# --- TCP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tcp", "outcome", "icmp"),
    [
        (_tcp(connected=True), TcpOutcome.CONNECTED, None),
        (_tcp(errno=111), TcpOutcome.RESET, None),
        (_tcp(errno=111, icmp=[_icmp(3, 3)]), TcpOutcome.ICMP, (3, 3, PEER)),
        (_tcp(errno=113, icmp=[_icmp(3, 10)]), TcpOutcome.ICMP, (3, 10, PEER)),
        (_tcp(errno=113, icmp=[_icmp(3, 13, ROUTER)]), TcpOutcome.ICMP, (3, 13, ROUTER)),
        (_tcp(errno=13, icmp=[_icmp(1, 1, "fd00::1", "icmp6")]), TcpOutcome.ICMP, (1, 1, "fd00::1")),
        (_tcp(errno=113, icmp=[_icmp(3, 1, ME)]), TcpOutcome.NO_ROUTE, None),
        (_tcp(errno=113, icmp=[_icmp(3, 1, ROUTER)]), TcpOutcome.ICMP, (3, 1, ROUTER)),
        (_tcp(errno=111, icmp=[_icmp(3, 3, ME)]), TcpOutcome.ICMP, (3, 3, ME)),
        (_tcp(timed_out=True, icmp=[_icmp(3, 13, ROUTER)]), TcpOutcome.ICMP, (3, 13, ROUTER)),
        (_tcp(timed_out=True), TcpOutcome.SILENT, None),
        (_tcp(errno=110), TcpOutcome.SILENT, None),
        (_tcp(errno=113, source=""), TcpOutcome.NO_ROUTE, None),
        (_tcp(errno=101, source=""), TcpOutcome.NO_ROUTE, None),
        (_tcp(errno=22, source=""), TcpOutcome.NO_ROUTE, None),
        (_tcp(errno=13, source=""), TcpOutcome.LOCAL_DENIED, None),
        (_tcp(errno=1), TcpOutcome.LOCAL_DENIED, None),
    ],
)
def test_outcomes_of_a_connection(tcp: dict[str, Any], outcome: TcpOutcome, icmp: tuple[int, int, str] | None) -> None:
    probe = drive(probes.gather_tcp(PEER, 2377), Host(tcp))
    assert probe is not None
    assert probe.outcome is outcome
    assert (probe.icmp and (probe.icmp.type, probe.icmp.code, probe.icmp.sender)) == icmp
    assert (probe.connect_us is None) == tcp["timed_out"]


def test_silence_of_a_neighbour_is_not_silence_of_the_peer() -> None:
    host = Host(_tcp(timed_out=True))
    host.neighbour_state = 1
    probe = drive(probes.gather_tcp(PEER, 2377), host)
    assert probe is not None
    assert probe.outcome is TcpOutcome.NO_ROUTE
    assert probe.error == f"neighbour {ROUTER} on eth0 does not answer ARP"


def test_a_probe_that_was_not_made_is_none() -> None:
    class Bundle:
        def ask(self, requests: Sequence[Request]) -> list[Answer]:
            return [Answer(error=WireError(AbsenceKind.NOT_PROBED, "not probed")) for _ in requests]

    assert drive(probes.gather_tcp(PEER, 2377), Bundle()) is None
    assert drive(probes.gather_sizes(PEER, "eth0", 1500), Bundle()) is None


# --- sizes -----------------------------------------------------------------------------------------------------------


def _sizes(host: Host, mtu: int = 1500) -> PathSizes:
    path = drive(probes.gather_sizes(PEER, "eth0", mtu), host)
    assert path is not None
    return path


@settings(max_examples=60)
@given(st.integers(1280, 9216), st.integers(577, 9216), st.booleans())
def test_any_limit_is_found_to_the_byte_in_few_rounds(device_mtu: int, limit: int, says: bool) -> None:
    host = Host(_tcp(), passes=lambda size: size <= limit)
    host.says = limit if says else 0
    path = _sizes(host, device_mtu)
    assert path.control_answered
    assert path.largest_answered_bytes == min(limit, device_mtu)
    assert path.smallest_lost_bytes == (limit + 1 if limit < device_mtu else None)
    assert path.icmp_came == (says and limit < device_mtu)
    assert len(host.rounds) <= 4


def test_a_path_that_names_its_mtu_is_believed_and_checked_in_one_more_round() -> None:
    host = Host(_tcp(), passes=lambda size: size <= 4444)
    host.says = 4444
    path = _sizes(host, 9000)
    assert (path.largest_answered_bytes, path.smallest_lost_bytes, len(host.rounds)) == (4444, 4445, 2)


def test_a_mute_peer_costs_one_round_and_means_nothing() -> None:
    host = Host(_tcp())
    host.answers_echo = False
    path = _sizes(host)
    assert (path.control_answered, path.largest_answered_bytes, len(host.rounds)) == (False, None, 1)


def test_a_size_lost_by_chance_below_one_that_passed_is_no_limit() -> None:
    path = _sizes(Host(_tcp(), passes=lambda size: size != 1400))
    assert (path.largest_answered_bytes, path.smallest_lost_bytes) == (1500, None)
    assert [size.size_bytes for size in path.sizes if size.outcome is SizeOutcome.SILENT] == [1400]


@pytest.mark.parametrize("mtu", [500, 576, 577, 1280, 1500, 9000, 65536])
def test_sizes_asked_first_fit_into_the_bound_and_the_device(mtu: int) -> None:
    sizes = first_sizes(mtu)
    assert len(sizes) == len(set(sizes)) <= 32  # asked twice they must stay within 64 packets
    assert max(sizes) == max(mtu, CONTROL_BYTES)
    assert min(sizes) == CONTROL_BYTES


def test_nothing_is_asked_between_neighbours() -> None:
    assert next_sizes(1400, 1401) == []
    assert next_sizes(1400, 1403) == [1401, 1402]


# --- a manager -------------------------------------------------------------------------------------------------------


def test_a_good_manager_is_asked_everything_in_four_rounds() -> None:
    host = Host(_tcp(connected=True))
    probe = _manager(host, "manager-1", "")
    assert (probe.given, probe.address, probe.unresolved) == ("manager-1", PEER, "")
    assert (probe.route.device, probe.route.gateway, probe.route.source) == ("eth0", ROUTER, ME)
    assert probe.tcp.outcome is TcpOutcome.CONNECTED
    assert (probe.tls.outcome, probe.tls.leaf_der, probe.tls.alpn) == (TlsOutcome.HANDSHAKE, b"der", "h2")
    assert (probe.ca.outcome, probe.ca.root_pem) == (CaOutcome.ANSWERED, b"pem")
    assert probe.sizes.largest_answered_bytes == 1500
    assert (probe.hello.small_answered, probe.hello.padded_answered, probe.hello.padded_bytes) == (True, True, 1500)
    assert host.rounds == [
        ["resolve"],
        ["netlink-get"],
        ["netlink-get"],
        ["tcp-connect", "echo-sizes"],
        ["tls-exchange", "tls-hello", "tls-hello"],
    ]


def test_a_silent_manager_is_asked_no_tls() -> None:
    host = Host(_tcp(timed_out=True, elapsed_us=2_000_000))
    probe = _manager(host)
    assert probe.tcp.outcome is TcpOutcome.SILENT
    assert (probe.tls, probe.ca, probe.hello) == (None, None, None)
    assert probe.sizes.control_answered
    assert host.rounds[2:] == [["tcp-connect", "echo-sizes"], ["netlink-get"]]


def test_a_path_that_swallows_large_packets_shows_in_sizes_and_hellos() -> None:
    probe = _manager(Host(_tcp(connected=True), passes=lambda size: size <= 1422))
    assert (probe.sizes.largest_answered_bytes, probe.sizes.smallest_lost_bytes) == (1422, 1423)
    assert (probe.sizes.icmp_came, probe.hello.small_answered, probe.hello.padded_answered) == (False, True, False)


def test_a_name_that_does_not_resolve_is_not_probed() -> None:
    probe = _manager(Host(_tcp()), "nonesuch", "")
    assert probe.unresolved == "resolve nonesuch: Name or service not known"
    assert probe.tcp is None


@pytest.mark.parametrize(
    ("tls", "outcome", "ca"),
    [
        ({"stage": "handshake", "reason": "not-tls", "first_bytes": b"SSH-2.0"}, TlsOutcome.NOT_TLS, None),
        ({"stage": "handshake", "reason": "alert", "error": "alert 70"}, TlsOutcome.ALERT, None),
        ({"stage": "handshake", "reason": "tls", "error": "UNSUPPORTED_PROTOCOL"}, TlsOutcome.ALERT, None),
        ({"stage": "handshake", "reason": "timeout"}, TlsOutcome.SILENT, None),
        ({"stage": "handshake", "reason": "closed"}, TlsOutcome.CLOSED, None),
        ({"stage": "connect", "reason": "refused"}, TlsOutcome.CLOSED, None),
        ({"stage": "read", "reason": "timeout", "read": b""}, TlsOutcome.HANDSHAKE, CaOutcome.SILENT),
        ({"stage": "read", "reason": "tls", "read": b"", "error": "bad"}, TlsOutcome.HANDSHAKE, CaOutcome.NOT_GRPC),
        ({"alpn": "", "read": b"HTTP/1.1 400"}, TlsOutcome.HANDSHAKE, CaOutcome.NOT_GRPC),
    ],
)
def test_outcomes_of_tls(tls: dict[str, Any], outcome: TlsOutcome, ca: CaOutcome | None) -> None:
    host = Host(_tcp(connected=True))
    host.tls = tls
    probe = _manager(host)
    assert probe.tls.outcome is outcome
    assert (probe.ca and probe.ca.outcome) == ca
    assert probe.tls.first_bytes == (b"SSH-2.0" if outcome is TlsOutcome.NOT_TLS else b"")


# --- readings in step ------------------------------------------------------------------------------------------------


def test_together_asks_in_step_and_keeps_the_order() -> None:
    def reading(name: str, rounds: int) -> Gather[list[Any]]:
        seen: list[Any] = []
        for number in range(rounds):
            answers = yield [Request(f"{name}{number}") for _ in range(rounds)]
            seen += [answer.data for answer in answers]
        return seen

    class Echo:
        rounds = 0

        def ask(self, requests: Sequence[Request]) -> list[Answer]:
            self.rounds += 1
            return [Answer(data={"v": request.verb}) for request in requests]

    carrier = Echo()
    none, one, three = drive(together([reading("a", 0), reading("b", 1), reading("c", 3)]), carrier)
    assert (none, one) == ([], [{"v": "b0"}])
    assert three == [{"v": f"c{number}"} for number in range(3) for _ in range(3)]
    assert carrier.rounds == 3
