"""The verbs in another network namespace: they see it, and nobody else is ever moved there."""

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netdiag.host import LocalHost
from netdiag.model.wire import Request
from netdiag.participant import run
from netdiag.participant.wire import to_wire

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def _in_namespace(script: str) -> subprocess.Popen[str]:
    """A process in a namespace of its own that has run ``script``, and waits."""
    anchor = subprocess.Popen(
        ["unshare", "-n", "sh", "-ec", script + "\necho ready\nexec sleep 600"], stdout=subprocess.PIPE, text=True
    )
    assert anchor.stdout is not None
    assert anchor.stdout.readline() == "ready\n"
    return anchor


def _end(anchor: subprocess.Popen[str]) -> None:
    assert anchor.stdout is not None
    anchor.kill()
    anchor.wait()
    anchor.stdout.close()


@pytest.fixture
def anchor() -> Iterator[subprocess.Popen[str]]:
    """Holds a namespace with the device nd7, of MTU 1234."""
    process = _in_namespace(
        "ip link add nd7 mtu 1234 type veth peer name nd8\nip link set nd7 up\nip addr add 10.66.6.6/24 dev nd7"
    )
    yield process
    _end(process)


@pytest.fixture
def netns(anchor: subprocess.Popen[str]) -> str:
    return f"/proc/{anchor.pid}/ns/net"


def ask(verb: str, **params: Any) -> dict[str, Any]:
    answer = run({"verb": verb, "params": params, "timeout_s": 3})
    assert "data" in answer, answer
    return answer["data"]


def test_files_of_proc_are_those_of_the_namespace(netns: str) -> None:
    assert "nd7:" in ask("file", path="/proc/net/dev", netns=netns)["text"]
    assert "nd7:" in ask("file", path="/proc/self/net/dev", netns=netns)["text"]
    answer = ask("files", globs=["/proc/net/dev", "/proc/sys/net/ipv4/conf/*/rp_filter"], netns=netns)
    assert "nd7:" in answer["files"]["/proc/net/dev"]
    assert "/proc/sys/net/ipv4/conf/nd7/rp_filter" in answer["files"]
    assert "nd7:" not in ask("file", path="/proc/net/dev")["text"]
    refused = run({"verb": "file", "params": {"path": "/sys/class/net/nd7/mtu", "netns": netns}})
    assert refused["error"]["kind"] == "unsupported"


def test_netlink_commands_and_ethtool_are_those_of_the_namespace(netns: str) -> None:
    assert b"nd7\0" in ask("netlink-dump", type=18, netns=netns)["messages"]
    assert b"nd7\0" not in ask("netlink-dump", type=18)["messages"]
    assert ask("ethtool", device="nd7", netns=netns)["driver"] == "veth"
    if shutil.which("bridge") or Path("/usr/sbin/bridge").exists():
        assert ask("command", argv=["bridge", "vlan"], netns=netns)["code"] == 0


def test_nobody_is_moved(netns: str) -> None:
    before = {task: (task / "ns/net").readlink() for task in Path("/proc/self/task").iterdir()}
    threads = [threading.Thread(target=ask, args=("netlink-dump",), kwargs={"type": 18, "netns": netns}) for _ in "abc"]
    for thread in threads:
        thread.start()
    ask("netlink-dump", type=18, netns=netns)  # on this very thread
    for thread in threads:
        thread.join()
    assert {task: (task / "ns/net").readlink() for task in before} == before
    assert b"nd7\0" not in ask("netlink-dump", type=18)["messages"]


def test_the_namespace_is_found_and_gone_with_its_process(anchor: subprocess.Popen[str], netns: str) -> None:
    inode = Path(netns).stat().st_ino
    (row,) = [row for row in ask("namespaces")["namespaces"] if row["inode"] == inode]
    assert (row["pids"], row["pid_count"], row["paths"], row["own"]) == ([anchor.pid], 1, [netns], False)
    _end(anchor)
    assert inode not in {row["inode"] for row in ask("namespaces")["namespaces"]}
    assert run({"verb": "netlink-dump", "params": {"type": 18, "netns": netns}})["error"]["kind"] == "missing"


def test_a_namespace_kept_by_a_mount_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    kept, stale = tmp_path / "kept", tmp_path / "stale"
    kept.touch()
    stale.touch()
    subprocess.run(["unshare", f"--net={kept}", "true"], check=True)
    try:
        rows = ask("namespaces", directories=[str(tmp_path)])["namespaces"]
        (row,) = [row for row in rows if row["inode"] == kept.stat().st_ino]
        assert (row["paths"], row["pids"]) == ([str(kept)], [])
        assert not any(str(stale) in row["paths"] for row in rows)
        assert b"lo\0" in ask("netlink-dump", type=18, netns=str(kept))["messages"]
    finally:
        subprocess.run(["umount", str(kept)], check=True)


def test_a_device_is_created_in_a_namespace_that_is_gone_afterwards() -> None:
    vni = to_wire(struct.pack("=HHI", 8, 1, 77))["$b64"]
    assert ask("create-device", kind="vxlan", data=vni, may_load=True)["created"]
    refused = ask("create-device", kind="nonesuch", may_load=True)
    assert (refused["created"], refused["errno"]) == (False, 95)
    assert b"netdiag0\0" not in ask("netlink-dump", type=18)["messages"]


def test_echo_without_the_right_to_raw_sockets_uses_a_ping_socket() -> None:
    script = (
        "import json; from netdiag.participant import run; print(json.dumps(run("
        "{'verb': 'echo-sizes', 'params': {'address': '127.0.0.1', 'sizes': [576, 84]}, 'timeout_s': 2})['data']))"
    )
    shell = "ip link set lo up; echo '0 0' > /proc/sys/net/ipv4/ping_group_range\n"
    shell += 'exec setpriv --bounding-set=-net_raw "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", shell, sys.executable, script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"socket": "ping"' in done.stdout
    assert done.stdout.count('"answered"') == 2


def test_a_hundred_namespaces_are_read_within_a_second() -> None:
    anchors = [_in_namespace("ip link set lo up") for _ in range(100)]
    try:
        requests = [
            Request(verb, {**params, "netns": f"/proc/{anchor.pid}/ns/net"})
            for anchor in anchors
            for verb, params in [
                *(("netlink-dump", {"type": kind}) for kind in (18, 22, 26, 30, 34)),
                ("files", {"globs": ["/proc/net/tcp", "/proc/net/udp", "/proc/sys/net/ipv4/conf/*/rp_filter"]}),
            ]
        ]
        start_s = time.monotonic()
        answers = LocalHost().ask(requests)
        took_s = time.monotonic() - start_s
    finally:
        for anchor in anchors:
            _end(anchor)
    assert all(answer.data is not None for answer in answers)
    assert took_s < 5
