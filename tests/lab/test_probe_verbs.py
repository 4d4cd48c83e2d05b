"""The probe verbs against real kernels: three network namespaces in a row, and real iptables that drops and rejects."""

import contextlib
import datetime as dt
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netdiag.facts import probes
from netdiag.host import LocalHost, drive
from netdiag.model.probes import CaOutcome, CaProbe, ManagerProbe, RouteChoice, TcpOutcome, TlsOutcome
from netdiag.model.wire import Answer, Request
from netdiag.participant import run
from netdiag.participant.deadline import Deadline
from netdiag.participant.netns import in_netns
from netdiag.participant.wire import to_wire

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SERVER, SERVER6 = "10.77.2.2", "fd77:2::2"
ROUTER, ROUTER6 = "10.77.1.1", "fd77:1::1"
CLIENT = "10.77.1.2"

HostExec = Callable[..., str]
"""Runs a command on one of the hosts: ``exec("server", "iptables", "-F")``."""


class Net(NamedTuple):
    host_exec: HostExec
    paths: dict[str, str]

    def ask(self, verb: str, timeout_s: float = 3.0, **params: Any) -> dict[str, Any]:
        answer = run({"verb": verb, "params": {"netns": self.paths["client"], **params}, "timeout_s": timeout_s})
        assert "data" in answer, answer
        return answer["data"]


def _environment(root: Path) -> dict[str, str]:
    library = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    path = os.pathsep.join([str(root / "usr/sbin"), os.environ["PATH"], "/usr/sbin", "/sbin"])
    return dict(os.environ, PATH=path, LD_LIBRARY_PATH=str(library), XTABLES_LIBDIR=str(library / "xtables"))


def _set(netns: str, sysctl: str, value: str) -> None:
    in_netns(netns, lambda: Path("/proc/sys/net", sysctl).write_text(value), Deadline(5))


@pytest.fixture(scope="module")
def net(lab_root: Path) -> Iterator[Net]:
    """Client -- router -- server; the link between router and server carries 1400 bytes."""
    environment = _environment(lab_root)
    anchors = {name: subprocess.Popen(["unshare", "-n", "sleep", "600"]) for name in ("client", "router", "server")}
    paths = {name: f"/proc/{anchor.pid}/ns/net" for name, anchor in anchors.items()}
    own = Path("/proc/self/ns/net").stat().st_ino
    while any(Path(path).stat().st_ino == own for path in paths.values()):
        pass

    def host_exec(host: str, *argv: str) -> str:
        # ip(8) must not be given the unpacked libraries: it is the machine's own.
        variables = environment if argv[0].startswith(("iptables", "ip6tables")) else None
        program = shutil.which(argv[0], path=environment["PATH"]) or argv[0]
        done = subprocess.run(
            ["nsenter", f"--net={paths[host]}", program, *argv[1:]],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    try:
        for host in anchors:
            # No duplicate address detection: it would keep addresses unusable for the first two seconds.
            _set(paths[host], "ipv6/conf/default/accept_dad", "0")
            host_exec(host, "ip", "link", "set", "lo", "up")
        host_exec(
            "client",
            "ip",
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(anchors["router"].pid),
        )
        host_exec(
            "router",
            "ip",
            "link",
            "add",
            "eth1",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(anchors["server"].pid),
        )
        for host, device, addresses in (
            ("client", "eth0", ("10.77.1.2/24", "fd77:1::2/64")),
            ("router", "eth0", ("10.77.1.1/24", "fd77:1::1/64")),
            ("router", "eth1", ("10.77.2.1/24", "fd77:2::1/64")),
            ("server", "eth0", ("10.77.2.2/24", "fd77:2::2/64")),
        ):
            host_exec(host, "ip", "link", "set", device, "up")
            for address in addresses:
                host_exec(host, "ip", "address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        _set(paths["router"], "ipv4/ip_forward", "1")
        _set(paths["router"], "ipv6/conf/all/forwarding", "1")
        for host, gateway, gateway6 in (("client", "10.77.1.1", "fd77:1::1"), ("server", "10.77.2.1", "fd77:2::1")):
            host_exec(host, "ip", "route", "add", "default", "via", gateway)
            host_exec(host, "ip", "-6", "route", "add", "default", "via", gateway6)
        host_exec("router", "ip", "link", "set", "eth1", "mtu", "1400")
        yield Net(host_exec, paths)
    finally:
        for anchor in anchors.values():
            anchor.kill()
            anchor.wait()


@pytest.fixture
def rule(net: Net) -> Iterator[Callable[..., None]]:
    """Adds iptables rules that are gone after the test."""

    def add(host: str, *words: str, tool: str = "iptables-legacy") -> None:
        net.host_exec(host, tool, "-A", *words)

    yield add
    for host in ("client", "router", "server"):
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            net.host_exec(host, tool, "-F")


def _listen(net: Net, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def make() -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind((address, 0))
        listener.listen(8)
        return listener

    return in_netns(net.paths["server"], make, Deadline(5))


def _serve(net: Net, handle: Callable[[socket.socket], None], address: str = SERVER) -> tuple[socket.socket, int]:
    listener = _listen(net, address)

    def one(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(3)
            handle(peer)

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return listener, listener.getsockname()[1]


def _stop(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# --- tcp-connect -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_connects(net: Net, address: str) -> None:
    with _listen(net, address) as listener:
        answer = net.ask("tcp-connect", address=address, port=listener.getsockname()[1])
    assert answer["connected"]
    assert answer["source"] in {CLIENT, "fd77:1::2"}
    assert answer["source_port"] > 0
    assert 0 < answer["elapsed_us"] < 1_000_000
    assert (answer["errno"], answer["icmp"], answer["syns"]) == (0, [], 1)


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_a_closed_port_is_a_reset_without_icmp(net: Net, address: str) -> None:
    answer = net.ask("tcp-connect", address=address, port=9)
    assert (answer["errno"], answer["icmp"]) == (111, [])


@pytest.mark.parametrize(
    ("reject", "errno_", "code"),
    [
        ("icmp-port-unreachable", 111, 3),
        ("icmp-host-unreachable", 113, 1),
        ("icmp-net-unreachable", 101, 0),
        ("icmp-net-prohibited", 101, 9),
        ("icmp-host-prohibited", 113, 10),
        ("icmp-admin-prohibited", 113, 13),
    ],
)
@pytest.mark.parametrize(("host", "chain", "offender"), [("server", "INPUT", SERVER), ("router", "FORWARD", ROUTER)])
def test_a_reject_is_told_by_its_icmp_code_and_sender(
    net: Net, rule: Callable[..., None], reject: str, errno_: int, code: int, host: str, chain: str, offender: str
) -> None:
    rule(host, chain, "-p", "tcp", "--dport", "2377", "-j", "REJECT", "--reject-with", reject)
    answer = net.ask("tcp-connect", address=SERVER, port=2377)
    assert not answer["connected"]
    assert answer["errno"] == errno_
    assert [(e["origin"], e["type"], e["code"], e["offender"]) for e in answer["icmp"]] == [("icmp", 3, code, offender)]
    assert answer["elapsed_us"] < 500_000


@pytest.mark.parametrize(
    ("reject", "code"),
    [("icmp6-port-unreachable", 4), ("icmp6-adm-prohibited", 1), ("icmp6-no-route", 0), ("icmp6-addr-unreachable", 3)],
)
def test_a_reject_of_ipv6_is_told_by_its_code(net: Net, rule: Callable[..., None], reject: str, code: int) -> None:
    rule(
        "server",
        "INPUT",
        "-p",
        "tcp",
        "--dport",
        "2377",
        "-j",
        "REJECT",
        "--reject-with",
        reject,
        tool="ip6tables-legacy",
    )
    answer = net.ask("tcp-connect", address=SERVER6, port=2377)
    assert [(e["origin"], e["type"], e["code"], e["offender"]) for e in answer["icmp"]] == [("icmp6", 1, code, SERVER6)]


def test_a_reject_with_tcp_reset_looks_like_a_closed_port(net: Net, rule: Callable[..., None]) -> None:
    rule("server", "INPUT", "-p", "tcp", "--dport", "2377", "-j", "REJECT", "--reject-with", "tcp-reset")
    answer = net.ask("tcp-connect", address=SERVER, port=2377)
    assert (answer["errno"], answer["icmp"]) == (111, [])


@pytest.mark.parametrize(("host", "chain"), [("server", "INPUT"), ("client", "OUTPUT")])
def test_a_drop_is_silence_for_as_long_as_asked(net: Net, rule: Callable[..., None], host: str, chain: str) -> None:
    rule(host, chain, "-p", "tcp", "--dport", "2377", "-j", "DROP")
    answer = net.ask("tcp-connect", timeout_s=1.2, address=SERVER, port=2377)
    assert answer["timed_out"]
    assert (answer["connected"], answer["errno"], answer["icmp"]) == (False, 0, [])
    assert 1_150_000 <= answer["elapsed_us"] < 3_000_000
    assert answer["syns"] == 2


def test_a_neighbour_that_does_not_answer_is_told_by_this_hosts_own_address(net: Net) -> None:
    answer = net.ask("tcp-connect", timeout_s=5, address="10.77.1.99", port=2377)
    assert answer["errno"] == 113
    assert [(e["type"], e["code"], e["offender"]) for e in answer["icmp"]] == [(3, 1, CLIENT)]


@pytest.mark.parametrize(("kind", "errno_"), [("unreachable", 113), ("prohibit", 13), ("blackhole", 22)], ids=str)
def test_a_route_of_this_host_that_leads_nowhere_is_told_by_errno_alone(net: Net, kind: str, errno_: int) -> None:
    net.host_exec("client", "ip", "route", "add", kind, "10.78.0.0/16")
    try:
        answer = net.ask("tcp-connect", address="10.78.0.1", port=2377)
    finally:
        net.host_exec("client", "ip", "route", "del", kind, "10.78.0.0/16")
    assert (answer["errno"], answer["icmp"], answer["source"]) == (errno_, [], "")


def test_a_source_that_this_host_does_not_have(net: Net) -> None:
    answer = net.ask("tcp-connect", address=SERVER, port=2377, source="10.99.99.99")
    assert answer["errno"] == 99


# --- echo-sizes ------------------------------------------------------------------------------------------------------


def _outcomes(answer: dict[str, Any]) -> dict[int, str]:
    return {row["size"]: row["outcome"] for row in answer["sizes"]}


@pytest.mark.parametrize(("address", "router"), [(SERVER, ROUTER), (SERVER6, ROUTER6)])
def test_echo_of_each_size_is_answered_or_refused_by_the_router_with_its_mtu(
    net: Net, address: str, router: str
) -> None:
    for _ in range(2):  # the second time the kernel knows the path's MTU, and must be asked past it
        answer = net.ask("echo-sizes", address=address, sizes=[576, 1400, 1401, 1500, 1501])
        assert _outcomes(answer) == {576: "answered", 1400: "answered", 1401: "icmp", 1500: "icmp", 1501: "local"}
        refusals = [row["icmp"] for row in answer["sizes"] if row["icmp"]]
        assert {(icmp["offender"], icmp["info"]) for icmp in refusals} == {(router, 1400)}
        assert answer["sizes"][4]["errno"] == 90
        assert all(row["rtt_us"] > 0 for row in answer["sizes"] if row["outcome"] == "answered")


def test_a_path_that_swallows_large_packets_silently(net: Net, rule: Callable[..., None]) -> None:
    rule("router", "OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP")
    answer = net.ask("echo-sizes", address=SERVER, sizes=[1500, 1401, 1400, 576], attempts=2)
    assert _outcomes(answer) == {1500: "silent", 1401: "silent", 1400: "answered", 576: "answered"}
    assert [row["attempts"] for row in answer["sizes"]] == [2, 2, 1, 1]
    assert answer["sent"] == 6


def test_silence_ends_in_time_and_below_the_bound(net: Net, rule: Callable[..., None]) -> None:
    rule("server", "INPUT", "-p", "icmp", "-j", "DROP")
    request = {"verb": "echo-sizes", "timeout_s": 1.0}
    request["params"] = {"netns": net.paths["client"], "address": SERVER, "sizes": list(range(600, 640)), "attempts": 5}
    answer = run(request)
    assert set(_outcomes(answer["data"]).values()) == {"silent"}
    assert answer["data"]["sent"] == 64
    assert answer["duration_s"] < 3


def test_an_echo_that_a_filter_rejects_names_it(net: Net, rule: Callable[..., None]) -> None:
    rule("router", "FORWARD", "-p", "icmp", "-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
    answer = net.ask("echo-sizes", address=SERVER, sizes=[576], attempts=1)
    icmp = answer["sizes"][0]["icmp"]
    assert (icmp["type"], icmp["code"], icmp["offender"]) == (3, 13, ROUTER)


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "manager")])
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_server(net: Net, certificate: Path) -> Iterator[int]:
    """Answers one line with "hello" over TLS, and closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])

    def handle(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as session:
            session.sendall(b"hello " + session.recv(100))
            session.unwrap()

    listener, port = _serve(net, handle)
    yield port
    _stop(listener)


def test_an_exchange_shows_certificate_version_alpn_and_answer(net: Net, tls_server: int, certificate: Path) -> None:
    send = to_wire(b"you")["$b64"]
    answer = net.ask("tls-exchange", address=SERVER, port=tls_server, alpn=["h2"], send=send, until="close")
    assert (answer["stage"], answer["reason"], answer["error"]) == ("done", "", "")
    assert (answer["version"], answer["alpn"], answer["read"]) == ("TLSv1.3", "h2", b"hello you")
    assert ssl.DER_cert_to_PEM_cert(answer["leaf_der"]) in certificate.read_text()
    assert answer["handshake_us"] > 0


@pytest.mark.parametrize(
    ("said", "reason", "first"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not-tls", b"SSH-2.0-OpenSSH_9.2\r\n"),
        (b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 100, "not-tls", b"HTTP/1.1 400 Bad Request\r\n" + b"x" * 38),
        (bytes([21, 3, 3, 0, 2, 2, 70]), "alert", bytes([21, 3, 3, 0, 2, 2, 70])),
        (b"", "closed", b""),
    ],
    ids=["ssh", "http", "alert", "closed"],
)
def test_a_peer_that_does_not_shake_hands(net: Net, said: bytes, reason: str, first: bytes) -> None:
    def handle(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(said)

    listener, port = _serve(net, handle)
    answer = net.ask("tls-exchange", address=SERVER, port=port)
    _stop(listener)
    assert (answer["stage"], answer["reason"], answer["first_bytes"]) == ("handshake", reason, first)
    assert answer["alert"] == (70 if reason == "alert" else None)


def test_a_peer_that_accepts_and_says_nothing(net: Net) -> None:
    listener = _listen(net, SERVER)
    answer = net.ask("tls-exchange", timeout_s=0.5, address=SERVER, port=listener.getsockname()[1])
    listener.close()
    assert (answer["stage"], answer["reason"], answer["tcp"]["connected"]) == ("handshake", "timeout", True)


def test_two_hellos_tell_a_path_that_swallows_full_segments(
    net: Net, rule: Callable[..., None], tls_server: int
) -> None:
    net.host_exec("client", "ip", "route", "flush", "cache")
    # The server's own announced MSS would hide the hole; so does it on a real host with large devices.
    rule("router", "OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP")
    small = net.ask("tls-hello", timeout_s=1.0, address=SERVER, port=tls_server, pad_bytes=0)
    padded = net.ask("tls-hello", timeout_s=1.0, address=SERVER, port=tls_server, pad_bytes=3000)
    assert (small["answered"], small["first_bytes"][0]) == (True, 22)
    assert (padded["answered"], padded["hello_bytes"]) == (False, 3000)
    assert padded["info"]["unacked"] > 0
    assert padded["maxseg_bytes"] == 1448


def test_a_padded_hello_is_understood_where_the_path_carries_it(net: Net, tls_server: int) -> None:
    net.host_exec("router", "ip", "link", "set", "eth1", "mtu", "1500")
    try:
        padded = net.ask("tls-hello", timeout_s=1.0, address=SERVER, port=tls_server, pad_bytes=3000)
    finally:
        net.host_exec("router", "ip", "link", "set", "eth1", "mtu", "1400")
    assert (padded["answered"], padded["hello_bytes"], padded["first_bytes"][0]) == (True, 3000, 22)


# --- whole readings --------------------------------------------------------------------------------------------------


class Inside:
    """This machine as a carrier, inside one of the namespaces."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._local = LocalHost()

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return self._local.ask(
            [Request(item.verb, {**item.params, "netns": self._netns}, item.timeout_s) for item in requests]
        )


def _manager(net: Net, port: int, address: str = SERVER) -> tuple[ManagerProbe, float]:
    def parse(read: bytes) -> CaProbe:
        return CaProbe(outcome=CaOutcome.ANSWERED, root_pem=read)

    start_s = time.monotonic()
    gather = probes.gather_manager(address, address, port, ca_request=b"you", parse_ca=parse)
    return drive(gather, Inside(net.paths["client"])), time.monotonic() - start_s


def test_a_manager_behind_a_drop_costs_two_seconds(net: Net, rule: Callable[..., None]) -> None:
    rule("server", "INPUT", "-p", "tcp", "--dport", "2377", "-j", "DROP")
    probe, took_s = _manager(net, 2377)
    assert probe.tcp is not None
    assert (probe.tcp.outcome, probe.tls) == (TcpOutcome.SILENT, None)
    assert took_s < 2.9


def test_a_manager_behind_a_drop_of_everything_costs_two_seconds(net: Net, rule: Callable[..., None]) -> None:
    rule("server", "INPUT", "-j", "DROP")
    probe, took_s = _manager(net, 2377)
    assert probe.tcp is not None
    assert probe.sizes is not None
    assert (probe.tcp.outcome, probe.sizes.control_answered) == (TcpOutcome.SILENT, False)
    assert took_s < 2.9


def test_a_neighbour_that_is_not_there_is_told_from_a_silent_peer(net: Net) -> None:
    probe, took_s = _manager(net, 2377, "10.77.1.98")
    assert probe.tcp is not None
    assert probe.tcp.outcome is TcpOutcome.NO_ROUTE
    assert "10.77.1.98 on eth0 does not answer ARP" in probe.tcp.error
    assert took_s < 2.9


@pytest.mark.parametrize("mute", [False, True])
def test_a_manager_over_a_smaller_path_is_measured_to_the_byte(
    net: Net, rule: Callable[..., None], tls_server: int, mute: bool
) -> None:
    net.host_exec("router", "ip", "link", "set", "eth1", "mtu", "1387")
    net.host_exec("client", "ip", "route", "flush", "cache")
    if mute:
        rule("router", "OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP")
    try:
        probe, took_s = _manager(net, tls_server)
    finally:
        net.host_exec("router", "ip", "link", "set", "eth1", "mtu", "1400")
    assert probe.route == RouteChoice(source=CLIENT, device="eth0", gateway=ROUTER, mtu_bytes=1500)
    assert probe.tls is not None
    assert probe.tls.outcome is TlsOutcome.HANDSHAKE
    assert probe.sizes is not None
    assert (probe.sizes.largest_answered_bytes, probe.sizes.smallest_lost_bytes) == (1387, 1388)
    assert probe.sizes.icmp_came is not mute
    assert probe.hello is not None
    assert probe.hello.small_answered
    assert probe.hello.padded_answered is not mute
    assert took_s < 5.0
