"""The participant streamed to the old interpreters of this machine, as it is to a host that has nothing newer."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netdiag.carrier.payload import BOOTSTRAP, READY, payload
from netdiag.carrier.stream import StreamCarrier
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Request

OLD = tuple(f"3.{minor}" for minor in range(6, 11))
REQUESTS = (
    Request("identity"),
    Request("namespaces"),
    Request("file", {"path": "/proc/net/dev"}),
    Request("netlink-dump", {"type": 18}),
    Request("netlink-dump", {"type": 26}),
    Request("command", {"argv": ["ip", "-V"]}),
    Request("tcp-connect", {"address": "127.0.0.1", "port": 1}),
    Request("firewall-trace", {"path": "out", "proto": "tcp", "source": "127.0.0.1", "destination": "127.0.0.1"}),
    Request("command", {"argv": ["rm", "-rf", "/"]}),
    Request("nonsense", {"raw": b"\x00"}),
)


def interpreter(version):
    """The interpreter of a version on PATH or among pyenv's, if it starts: a shim may not."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}") or "", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python3")))]
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.mark.parametrize("version", OLD)
def test_it_greets_and_answers(version, tmp_path):
    program = interpreter(version)
    if program is None:
        pytest.skip(f"no python{version} on PATH or below PYENV_ROOT")
    process = subprocess.Popen(
        [program, "-ISBuc", BOOTSTRAP, READY],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with StreamCarrier(
        version, process.stdout, process.stdin, greet_s=20.0, close=lambda: process.wait(5), program=payload()
    ) as carrier:
        answers = dict(zip([each.verb for each in REQUESTS], carrier.ask(REQUESTS), strict=True))
        many = carrier.ask([Request("clock")] * 100)
    with process.stderr as said:
        assert said.read() == b""
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert answers["identity"].data["python"].startswith(f"{version}.")
    assert all(each.data["monotonic_ns"] for each in many)
    for verb in ("namespaces", "file", "netlink-dump", "tcp-connect"):
        assert answers[verb].data, (verb, answers[verb])
    assert isinstance(answers["netlink-dump"].data["messages"], bytes)
    assert answers["firewall-trace"].error.kind is AbsenceKind.WITHHELD
    assert answers["command"].error.kind is AbsenceKind.UNSUPPORTED
    assert answers["nonsense"].error.kind is AbsenceKind.UNSUPPORTED
