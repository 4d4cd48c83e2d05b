"""The verbs that need no root and no second host, each against the real kernel of this one."""

import json
import os
import shutil
import socket
import struct
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netdiag.participant import VERBS, run
from netdiag.participant import commands as commands_module
from netdiag.participant.errors import KINDS
from netdiag.participant.wire import from_wire, to_wire


def ask(verb: str, timeout_s: float = 3.0, **params: Any) -> dict[str, Any]:
    answer = run({"verb": verb, "params": params, "timeout_s": timeout_s})
    assert "data" in answer, answer
    return answer["data"]


def refused(verb: str, timeout_s: float = 3.0, **params: Any) -> tuple[str, str]:
    answer = run({"verb": verb, "params": params, "timeout_s": timeout_s})
    assert "data" not in answer, answer
    assert answer["error"]["kind"] in KINDS
    assert "\n" not in answer["error"]["text"]
    return answer["error"]["kind"], answer["error"]["text"]


# --- run itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_documented_and_never_raises(verb: str) -> None:
    assert "Data:" in (VERBS[verb].__doc__ or "")
    answer = run({"verb": verb, "params": {"unknown": object()}, "timeout_s": 1})
    assert set(answer) in ({"data", "duration_s"}, {"error", "duration_s"})


@pytest.mark.parametrize("request_", [{}, {"verb": None}, {"verb": "file", "params": 7}, {"verb": "rm -rf /"}])
def test_nonsense_is_answered_with_an_error(request_: dict[str, Any]) -> None:
    assert run(request_)["error"]["kind"] in {"unsupported", "failed"}


def test_bytes_cross_json() -> None:
    value = {"a": [b"\0\xff", {"b": b""}], "c": "text", "d": None, "e": 1}
    assert from_wire(json.loads(json.dumps(to_wire(value)))) == value


# --- files -----------------------------------------------------------------------------------------------------------


def test_file_reads_up_to_its_limit_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"gr\xfc\xdf")
    assert ask("file", path=str(path))["text"] == "gr��"
    assert ask("file", path=str(path), limit_bytes=2) == {
        "text": "gr",
        "truncated": True,
        "mtime_s": path.stat().st_mtime,
    }


def test_a_fifo_a_directory_and_a_missing_file_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    start_s = time.monotonic()
    assert refused("file", path=str(tmp_path / "fifo"))[0] == "unsupported"
    assert refused("file", path=str(tmp_path))[0] == "unsupported"
    assert refused("file", path=str(tmp_path / "none"))[0] == "missing"
    assert time.monotonic() - start_s < 5


def test_files_keeps_what_could_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    os.mkfifo(tmp_path / "b")
    answer = ask("files", globs=[str(tmp_path / "*"), str(tmp_path / "gone"), "/proc/net/dev"])
    assert answer["files"].keys() == {str(tmp_path / "a"), "/proc/net/dev"}
    assert {path: error["kind"] for path, error in answer["errors"].items()} == {
        str(tmp_path / "b"): "unsupported",
        str(tmp_path / "gone"): "missing",
    }


def test_list_dir_names_without_following(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "key").write_text("secret")
    (tmp_path / "link").symlink_to("/etc")
    shallow = ask("list-dir", path=str(tmp_path))["entries"]
    assert [(entry["name"], entry["type"]) for entry in shallow] == [("link", "link"), ("sub", "directory")]
    deep = ask("list-dir", path=str(tmp_path), depth=2)
    assert [(e["name"], e["size_bytes"]) for e in deep["entries"]][-1] == ("sub/key", 6)
    assert ask("list-dir", path=str(tmp_path), depth=2, limit=1)["truncated"]


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["rm", "-rf", "/"],
        ["iptables", "-F"],
        ["iptables-save", "-f", "/etc/passwd"],
        ["iptables-save", "-M", "/tmp/evil"],
        ["nft", "flush", "ruleset"],
        ["nft", "list", "ruleset", "-f", "/tmp/x"],
        ["ip", "-s", "xfrm", "state", "list"],
        ["journalctl", "-u", "docker", "--rotate"],
        ["journalctl", "-u", "docker", "--vacuum-time=1s"],
        ["systemctl", "is-active", "--root=/tmp", "x"],
        ["ufw", "status", "disable"],
        ["/tmp/iptables-save"],
        ["sh", "-c", "iptables-save"],
        [],
    ],
    ids=" ".join,
)
def test_what_is_not_in_the_table_is_not_run(argv: list[str]) -> None:
    kind, text = refused("command", argv=argv, may_load=True)
    assert (kind, "not in the table" in text) == ("unsupported", True)


@pytest.mark.parametrize(
    "argv",
    [
        ["iptables-save", "-c"],
        ["iptables-legacy-save", "-t", "nat"],
        ["nft", "-j", "list", "ruleset"],
        ["journalctl", "-u", "docker", "--no-pager", "-o", "short-unix", "--since=-1h", "-n", "500"],
        ["systemctl", "is-active", "firewalld", "ufw"],
        ["ip", "-s", "xfrm", "state", "list", "nokeys"],
    ],
    ids=" ".join,
)
def test_what_is_in_the_table_is_allowed(argv: list[str]) -> None:
    assert commands_module.allowed(argv) is not None


def _tool(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)


def test_a_command_gives_both_streams_code_and_the_c_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tool(tmp_path, "ipset", "echo out $LC_ALL; echo err >&2; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert refused("command", argv=["ipset", "save"])[0] == "withheld"
    answer = ask("command", argv=["ipset", "save"], may_load=True)
    assert (answer["stdout"], answer["stderr"], answer["code"]) == ("out C\n", "err\n", 3)
    assert answer["program"] == str(tmp_path / "ipset")


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tool(tmp_path, "ufw", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    start_s = time.monotonic()
    assert refused("command", timeout_s=0.5, argv=["ufw", "status"], may_load=True)[0] == "timeout"
    assert time.monotonic() - start_s < 15
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not _alive(child):
            return
        time.sleep(0.02)
    pytest.fail("the child outlived its command")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- unix sockets ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a unix server that handles one connection; returns the socket's path."""
    listeners = []

    def start(name: str, handle: Callable[[socket.socket], None]) -> str:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / name))
        listener.listen(1)
        listeners.append(listener)

        def body() -> None:
            peer, _ = listener.accept()
            with peer:
                handle(peer)

        threading.Thread(target=body, daemon=True).start()
        return str(tmp_path / name)

    yield start
    for listener in listeners:
        listener.close()


def _http(body: bytes, status: str = "200 OK") -> Callable[[socket.socket], None]:
    def handle(peer: socket.socket) -> None:
        request = peer.recv(4096)
        assert request.startswith(b"GET ")
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + body)

    return handle


def test_docker_get_returns_status_and_json(server: Callable[..., str]) -> None:
    path = server("d.sock", _http(b'{"message": "no such network"}', "404 Not Found"))
    answer = ask("docker-get", path="/networks/x?verbose=true", socket="unix://" + path)
    assert (answer["status"], answer["json"]) == (404, {"message": "no such network"})


def test_docker_get_from_an_engine_that_hangs_is_a_timeout(server: Callable[..., str]) -> None:
    path = server("d.sock", lambda peer: time.sleep(3))
    start_s = time.monotonic()
    assert refused("docker-get", timeout_s=0.4, path="/info", socket=path)[0] == "timeout"
    assert time.monotonic() - start_s < 2.5


def test_docker_get_from_an_engine_that_trickles_is_a_timeout(server: Callable[..., str]) -> None:
    def trickle(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(30):
            time.sleep(0.1)
            try:
                peer.sendall(b" ")
            except OSError:
                return

    path = server("d.sock", trickle)
    start_s = time.monotonic()
    assert refused("docker-get", timeout_s=0.4, path="/info", socket=path)[0] == "timeout"
    assert time.monotonic() - start_s < 2.5


@pytest.mark.parametrize(
    "path",
    ["/swarm", "/swarm/unlockkey", "/v1.41/swarm", "/secrets", "/configs", "/containers/x/export", "/containers/x/logs",
     "/info/../swarm", "/plugins", "/containers/x/archive?path=/etc", "info"],
)  # fmt: skip
def test_docker_get_refuses_what_may_hold_secrets(path: str) -> None:
    assert refused("docker-get", path=path, socket="/nowhere")[0] == "unsupported"


def test_docker_get_without_an_engine_is_missing(tmp_path: Path) -> None:
    assert refused("docker-get", path="/info", socket=str(tmp_path / "none"))[0] == "missing"
    assert refused("docker-get", path="/info", socket="tcp://10.0.0.1:2375")[0] == "unsupported"


def test_bird_is_asked_one_line_and_read_to_its_end(server: Callable[..., str]) -> None:
    said = []

    def bird(peer: socket.socket) -> None:
        peer.sendall(b"0001 BIRD 2.0.12 ready.\n")
        said.append(peer.recv(100))
        peer.sendall(b"2002-Name Proto\n1002-direct1 Direct\n \n00")
        peer.sendall(b"00 \n")
        time.sleep(2)

    path = server("bird.ctl", bird)
    start_s = time.monotonic()
    answer = ask("unix-ask", path=path, send="show protocols")
    assert time.monotonic() - start_s < 1.9
    assert answer["text"].startswith("0001 BIRD")
    assert answer["text"].endswith("0000 \n")
    assert said == [b"show protocols\n"]


@pytest.mark.parametrize("line", ["configure", "show status\nconfigure", "disable all", "showx"])
def test_bird_is_told_nothing(line: str, tmp_path: Path) -> None:
    assert refused("unix-ask", path=str(tmp_path / "bird.ctl"), send=line)[0] == "unsupported"
    assert refused("unix-ask", path="/var/run/docker.sock", send="show x")[0] == "unsupported"


@pytest.mark.parametrize(
    "url",
    ["http://u:p@127.0.0.1:1/version", "file:///etc/passwd", "http://127.0.0.1:1/v2/auth/users",
     "http://127.0.0.1:1/v2/keys/../auth"],
)  # fmt: skip
def test_http_get_asks_an_etcd_only(url: str) -> None:
    kind, text = refused("http-get", url=url)
    assert kind == "unsupported"
    assert "u:p" not in text


# --- netlink ---------------------------------------------------------------------------------------------------------


def _kinds(messages: bytes) -> list[int]:
    kinds, position = [], 0
    while position < len(messages):
        length, kind = struct.unpack_from("=IH", messages, position)
        kinds.append(kind)
        position += (length + 3) & ~3
    return kinds


@pytest.mark.parametrize(("kind", "answer_kind"), [(18, 16), (22, 20), (26, 24), (34, 32)])
def test_a_dump_holds_whole_messages_of_its_kind(kind: int, answer_kind: int) -> None:
    answer = ask("netlink-dump", type=kind)
    assert set(_kinds(answer["messages"])) == {answer_kind}
    assert answer["interrupted"] is False


def test_a_route_lookup_answers_or_says_the_kernels_errno() -> None:
    head = struct.pack("=8BI", 2, 32, 0, 0, 0, 0, 0, 0, 0)
    known = head + struct.pack("=HH4s", 8, 1, bytes([127, 0, 0, 1]))
    answer = ask("netlink-get", type=26, body=to_wire(known)["$b64"])
    assert (_kinds(answer["messages"]), answer["errno"]) == ([24], 0)
    unknown = head + struct.pack("=HHI", 8, 4, 999999)
    answer = ask("netlink-get", type=26, body=to_wire(unknown)["$b64"])
    assert (answer["messages"], answer["errno"] > 0, bool(answer["text"])) == (b"", True, True)


@pytest.mark.parametrize(
    ("protocol", "kind"),
    [(0, 16), (0, 17), (0, 25), (0, 2), (6, 0x12), (6, 0x15), (4, 21), (12, 0x0A00), (12, 0x0102), (16, 3), (9, 1000)],
)
def test_netlink_refuses_what_changes_or_holds_keys(protocol: int, kind: int) -> None:
    for verb in ("netlink-dump", "netlink-get"):
        assert refused(verb, protocol=protocol, type=kind, may_load=True)[0] == "unsupported"


def test_reading_loads_no_module_unless_told_that_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only route netlink, and no command that could load one, unless ``may_load`` came with the request."""
    opened = []

    class Watched(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            opened.append((family, proto))
            super().__init__(family, kind, proto, fileno)

    monkeypatch.setattr(socket, "socket", Watched)
    started = []
    monkeypatch.setattr(commands_module.subprocess, "Popen", lambda argv, **_: started.append(argv) or 1 / 0)
    monkeypatch.setattr(commands_module, "find_program", lambda name: "/bin/" + name)
    requests = [
        *({"verb": verb, "params": {}} for verb in ("identity", "clock", "namespaces", "process-sockets")),
        {"verb": "ethtool", "params": {"device": "lo"}},
        {"verb": "ethtool", "params": {"device": "nonesuch0"}},
        {"verb": "create-device", "params": {"kind": "vxlan"}},
        *(
            {"verb": verb, "params": {"protocol": protocol, "type": kind}}
            for verb in ("netlink-dump", "netlink-get")
            for protocol, kind in ((0, 26), (4, 20), (6, 0x12), (12, 0x0101), (12, 0x0A01), (16, 3))
        ),
        *({"verb": "command", "params": {"argv": list(words)}} for words, _, _ in commands_module.READ_ONLY_COMMANDS),
    ]
    for request in requests:
        run(request)
    assert {proto for family, proto in opened if family == socket.AF_NETLINK} == {0}
    loads = {words[0] for words, _, loads in commands_module.READ_ONLY_COMMANDS if loads}
    assert {Path(argv[0]).name for argv in started if Path(argv[0]).name in loads} <= {"iptables", "nft", "ip"}
    assert all(commands_module.allowed([Path(argv[0]).name, *argv[1:]]) == "" for argv in started)


# --- the rest --------------------------------------------------------------------------------------------------------


def test_identity_and_clock() -> None:
    assert ask("identity")["python"] == ".".join(str(part) for part in sys.version_info[:3])
    clock = ask("clock")
    assert abs(clock["unix_ns"] / 1e9 - time.time()) < 5
    assert clock["adjtimex"]["state"] in range(6)


def test_a_socket_is_told_by_its_process() -> None:
    with socket.socket() as mine:
        sockets = ask("process-sockets")["sockets"]
        assert sockets[str(os.fstat(mine.fileno()).st_ino)][0] == os.getpid()


def test_own_namespace_is_among_the_namespaces() -> None:
    own = [row for row in ask("namespaces")["namespaces"] if row["own"]]
    assert [row["inode"] for row in own] == [Path("/proc/self/ns/net").stat().st_ino]
    assert own[0]["pid_count"] >= 1


def test_a_namespace_that_is_gone_is_missing(tmp_path: Path) -> None:
    (tmp_path / "stale").touch()
    assert refused("netlink-dump", type=18, netns=str(tmp_path / "gone"))[0] == "missing"
    assert refused("netlink-dump", type=18, netns="/proc/999999999/ns/net")[0] == "missing"
    assert refused("file", path="/proc/net/dev", netns=str(tmp_path / "stale"))[0] in {"missing", "permission"}


def test_ethtool_knows_the_loopback_device() -> None:
    assert ask("ethtool", device="lo")["features"]["tx-scatter-gather"] in {True, False}
    assert refused("ethtool", device="nonesuch0")[0] == "missing"


def test_resolve() -> None:
    assert ask("resolve", name="127.0.0.1") == {"addresses": ["127.0.0.1"]}
    assert ask("resolve", name="fd00::1") == {"addresses": ["fd00::1"]}
    assert refused("resolve", name="..")[0] in {"missing", "failed"}
    assert textwrap.shorten(refused("resolve", name="a b")[1], 20)


# --- saved rules, loaded aside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["iptables"], ""),
        (["iptables-restore", "-c"], ""),
        (["iptables-restore", "--modprobe=/bin/sh"], ""),
        (["iptables-restore", "/etc/passwd"], ""),
        (["nft", "flush", "ruleset"], ""),
        (["nft", "-f", "relative.nft"], ""),
        (["nft", "-f", "/etc/nftables.conf"], "a text as well"),
        (["nft", "-f", "/etc/nftables.conf", "-D", "x=1"], ""),
        (["ipset", "flush"], ""),
        (["/sbin/iptables-restore"], ""),
        ([], ""),
    ],
)
def test_only_loaders_of_saved_rules_run(argv: list[str], text: str) -> None:
    steps = [{"argv": argv, "text": text}]
    assert refused("scratch-rules", steps=steps, list=["iptables-save"], may_load=True)[0] == "unsupported"


def test_scratch_rules_lists_rules_only_and_loads_no_module_unless_told() -> None:
    steps = [{"argv": ["iptables-restore"], "text": ""}]
    assert refused("scratch-rules", steps=steps, list=["nft", "flush", "ruleset"], may_load=True)[0] == "unsupported"
    assert refused("scratch-rules", steps=steps, list=["iptables-save"])[0] == "withheld"
